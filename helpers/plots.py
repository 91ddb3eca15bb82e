"""One style for every figure, one colour for each framework.

Figures are dark ink on white. The rendered book turns their lightness round in its dark theme,
so no text may rely on being black, and no colour on being light. The two framework colours are
from the Okabe-Ito set, which colour-blind readers can tell apart; a dash tells them apart in print.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["KERAS", "TORCH", "curves", "picture", "use_style"]

KERAS: dict[str, Any] = {"color": "#0072B2", "linestyle": "-", "linewidth": 3.5, "alpha": 0.6}
"""Keras: a broad blue line, so that what lies on it can be seen."""

TORCH: dict[str, Any] = {"color": "#D55E00", "linestyle": (0, (4, 3)), "linewidth": 1.8}
"""PyTorch: a narrow vermilion dash."""

_STYLE = {
    "figure.figsize": (6.0, 3.4),
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "font.size": 12,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "image.cmap": "gray_r",
}


def use_style() -> None:
    """Set the book's style for every figure that follows. Call it once, in the setup cell."""
    import matplotlib as mpl

    mpl.rcParams.update(mpl.rcParamsDefault | _STYLE | {"backend": mpl.get_backend()})


def curves(ax: "Axes", keras: Sequence[float], torch: Sequence[float], label: str = "") -> "Axes":
    """Draw the same quantity from both frameworks on `ax`, one value a step, and return `ax`."""
    if len(keras) != len(torch):
        raise ValueError(
            f"{len(keras)} values from Keras and {len(torch)} from PyTorch: give one value "
            "a step from each."
        )
    suffix = f", {label}" if label else ""
    steps = range(1, len(keras) + 1)
    ax.plot(steps, keras, label=f"Keras{suffix}", **KERAS)
    ax.plot(steps, torch, label=f"PyTorch{suffix}", **TORCH)
    return ax


def picture(ax: "Axes", pixels: "ArrayLike", title: str = "", **kwargs: Any) -> "Axes":
    """Draw a two-dimensional array as a picture in a thin frame on `ax`, and return `ax`."""
    ax.imshow(pixels, **kwargs)
    ax.set(title=title, xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set(visible=True, color="#888888", linewidth=0.8)
    return ax
