"""How a picture leans, and a picture that leans more."""

import numpy as np


def slant(x: np.ndarray) -> np.ndarray:
    """How far the ink moves to the right for each pixel upwards: pictures (N, S, S), gives (N,)."""
    side = np.arange(x.shape[1]) - (x.shape[1] - 1) / 2
    ink = x / x.sum((1, 2), keepdims=True, dtype="float64")
    right, up = ink.sum(1) @ side, -(ink.sum(2) @ side)
    both = -np.einsum("nij,i,j->n", ink, side, side) - right * up
    return both / (ink.sum(2) @ side**2 - up**2)


def lean(x: np.ndarray, by: float) -> np.ndarray:
    """Pictures (N, S, S) whose rows are moved by `by` pixels for each row above the middle."""
    size = x.shape[1]
    wide = np.pad(x.astype("float32"), ((0, 0), (0, 0), (size, size)))
    moved = np.empty(x.shape, "float32")
    for row in range(size):
        whole, part = divmod(by * ((size - 1) / 2 - row), 1)
        left = size - int(whole)
        near, far = (wide[:, row, i : i + size] for i in (left, left - 1))
        moved[:, row] = (1 - part) * near + part * far
    return moved
