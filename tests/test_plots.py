"""helpers.plots: one style, legible on light and on dark, the two frameworks told apart."""

import matplotlib as mpl

mpl.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers import plots


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def luminance(colour):
    """Relative luminance of a colour (r, g, b), as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def turned(colour):
    """The colour that invert(1) hue-rotate(180deg) makes of it: what the dark theme shows."""
    rotate = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    return np.clip(rotate @ (1 - np.array(colour)), 0, 1)


@pytest.mark.parametrize("line", [plots.KERAS, plots.TORCH])
def test_lines_stand_out_in_both_themes(line):
    colour = mpl.colors.to_rgb(line["color"])
    seen = [line.get("alpha", 1) * np.array(colour) + (1 - line.get("alpha", 1))]
    assert contrast(seen[0], (1, 1, 1)) >= 2
    assert contrast(colour, (1, 1, 1)) >= 3  # WCAG's floor for graphics
    assert contrast(turned(colour), turned((1, 1, 1))) >= 3


def test_the_two_differ_in_more_than_hue():
    assert plots.KERAS["linestyle"] != plots.TORCH["linestyle"]
    assert plots.KERAS["linewidth"] >= 1.5 * plots.TORCH["linewidth"]


def test_curves_draws_both_and_returns_the_axes(ax):
    assert plots.curves(ax, [3, 2, 1], [3, 2, 1], "loss") is ax
    ours, theirs = ax.lines
    assert (ours.get_label(), theirs.get_label()) == ("Keras, loss", "PyTorch, loss")
    assert ours.get_color() == plots.KERAS["color"] and theirs.get_color() == plots.TORCH["color"]
    assert list(ours.get_xdata()) == [1, 2, 3] and list(theirs.get_ydata()) == [3, 2, 1]


def test_curves_of_different_length_are_refused(ax):
    with pytest.raises(ValueError, match="3 values from Keras and 2 from PyTorch: give one value"):
        plots.curves(ax, [3, 2, 1], [3, 2])
    assert not ax.lines


def test_picture_keeps_the_pixels_and_hides_the_axes(ax):
    pixels = np.arange(20).reshape(5, 4)
    assert plots.picture(ax, pixels, "a title", vmin=0) is ax
    assert np.array_equal(ax.images[0].get_array(), pixels)
    assert ax.get_title() == "a title" and not len(ax.get_xticks())


def test_the_style_is_white_and_complete_and_keeps_the_backend():
    with mpl.rc_context({"lines.linewidth": 99.0}):
        plots.use_style()
        assert mpl.rcParams["figure.facecolor"] == "white"
        assert mpl.rcParams["lines.linewidth"] != 99.0  # nothing of an earlier style is left
        assert mpl.get_backend().lower() == "agg"
