"""A task that needs no file: pictures of 8 x 8 with a bar in one of ten places, under noise."""

import numpy as np

__all__ = ["bars"]


def bars(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 64), float32, and labels 0 to 4 for lying bars, 5 to 9 for standing ones."""
    y = rng.integers(0, 10, n)
    pictures = rng.normal(0, 1, (n, 8, 8))
    lying, standing = np.flatnonzero(y < 5), np.flatnonzero(y >= 5)
    pictures[lying, y[lying] + 1] += 1.5
    pictures[standing, :, y[standing] - 4] += 1.5
    return pictures.reshape(n, 64).astype("float32"), y
