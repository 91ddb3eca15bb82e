"""What a chapter runs on: the device, the versions, and the stamp that says so."""

import os
import platform
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["name", "pick", "stamp", "versions"]

_KINDS = ("cuda", "mps", "cpu")


def _available() -> list[str]:
    """The kinds of device that PyTorch can use here, the fastest first."""
    import torch

    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return [kind for kind in _KINDS if found.get(kind, True)]


def name() -> str:
    """The kind of device to use, cuda, mps or cpu: `BOOK_DEVICE`, or else the fastest here."""
    available = _available()
    wanted = os.environ.get("BOOK_DEVICE", "").strip().lower()
    if not wanted:
        return available[0]
    if wanted not in available:
        raise ValueError(
            f"BOOK_DEVICE is {wanted!r}, but this machine offers {' and '.join(available)}: "
            "set it to one of these, or unset it."
        )
    return wanted


def pick() -> "torch.device":
    """The `torch.device` to use: from now on the default of both frameworks."""
    import keras
    import torch

    if keras.backend.backend() != "torch":
        raise RuntimeError(
            f"Keras runs on {keras.backend.backend()!r}: set the environment variable "
            "KERAS_BACKEND to torch before Keras is first imported."
        )
    kind = name()
    keras.device(kind).__enter__()  # never left: it holds for the whole session
    torch.set_default_device(None if kind == "cpu" else kind)  # None: the CPU, without overhead
    return torch.device(kind)


def versions() -> dict[str, str]:
    """The versions of Python, Keras, PyTorch and NumPy, by name. Imports none of them."""
    found = {package: metadata.version(package) for package in ("keras", "torch", "numpy")}
    return {"python": platform.python_version()} | found


def stamp() -> str:
    """One line for the head of a chapter: the versions, and the device."""
    v = {package: version.split("+")[0] for package, version in versions().items()}
    kind = name()
    if kind == "cuda":
        import torch

        kind = torch.cuda.get_device_name()
    return (
        f"Python {v['python']}, Keras {v['keras']} on PyTorch {v['torch']}, "
        f"NumPy {v['numpy']}, device: {kind}"
    )
