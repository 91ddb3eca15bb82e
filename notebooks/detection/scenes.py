"""Scenes: one to five digits of different sizes on a canvas with clutter, from chapter 20."""

import numpy as np

from detection import parts
from detection.parts import SIDE

__all__ = ["MOST", "SIDE", "batch", "make", "scene"]

MOST = 5  # digits in a scene, at most
CLUTTER = 8  # scraps of ink that are no digits
SCRAP = 9  # pixels, the side of a scrap


def trim(digit):
    """The rows and columns of a digit that hold ink."""
    ink = digit > 32
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    return digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def between(n, m):
    """The matrix (m, n) that reads n pixels at m places, evenly spaced, each between two pixels."""
    place = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(n)))


def stretch(digit, height, width):
    """A picture brought to another size."""
    return between(len(digit), height) @ digit @ between(digit.shape[1], width).T


def paste(canvas, ink, left, top):
    """Draw on the canvas; where there is ink already, the darker of the two stays."""
    place = canvas[top : top + len(ink), left : left + ink.shape[1]]
    np.maximum(place, ink, out=place)


def scene(rng, digits, labels):
    """One picture (SIDE, SIDE) of bytes, its boxes (n, 4) and their classes (n,)."""
    canvas, boxes, classes = np.zeros((SIDE, SIDE)), np.zeros((0, 4)), []
    for _ in range(CLUTTER):
        row, column = rng.integers(0, 28 - SCRAP + 1, 2)
        scrap = digits[rng.integers(len(digits))][row : row + SCRAP, column : column + SCRAP]
        paste(canvas, scrap, *rng.integers(0, SIDE - SCRAP + 1, 2))
    wanted = rng.integers(1, MOST + 1)
    while len(classes) < wanted:
        i = rng.integers(len(digits))
        digit, height = trim(digits[i]), rng.integers(16, 41)
        width = int(np.clip(round(height * digit.shape[1] / digit.shape[0]), 4, SIDE))
        left, top = rng.integers(0, SIDE - width + 1), rng.integers(0, SIDE - height + 1)
        box = np.array([[left, top, left + width, top + height]], float)
        if (parts.iou(box, boxes) < 0.05).all():  # digits hardly overlap
            paste(canvas, stretch(digit, height, width), left, top)
            boxes, classes = np.concatenate([boxes, box]), [*classes, labels[i]]
    canvas += rng.normal(0, 12, canvas.shape)  # paper isn't even
    return np.clip(canvas, 0, 255).astype("uint8"), boxes, np.array(classes)


def make(seed, count, digits, labels):
    """Pictures (count, SIDE, SIDE), boxes (count, MOST, 4), classes (count, MOST).

    Where a scene has fewer digits, the rest of its rows have the class -1 and a box of one pixel: a
    box, so that no formula divides by zero.
    """
    if digits.dtype != "uint8" or digits.shape[1:] != (28, 28):
        raise ValueError("digits must be bytes from 0 to 255, (n, 28, 28), as load_mnist has them.")
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, SIDE, SIDE), "uint8")
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (count, MOST, 1))
    classes = np.full((count, MOST), -1)
    for i in range(count):
        pictures[i], found, kinds = scene(rng, digits, labels)
        boxes[i, : len(found)], classes[i, : len(kinds)] = found, kinds
    return pictures, boxes, classes


def batch(scenes, rows, rng, dtype="float32"):
    """What one step of training needs, channels last: the scenes in `rows`, and random numbers.

    These decide which anchors and which proposals a step learns from. They are an input like any
    other: two frameworks that are given the same ones choose alike.
    """
    pictures, boxes, classes = (part[rows] for part in scenes)
    n = len(parts.ANCHORS), parts.PROPOSALS + MOST
    return {
        "images": (pictures[..., None] / 255).astype(dtype),
        "boxes": boxes.astype(dtype),
        "classes": classes.astype("int64"),
        "luck": rng.random((len(rows), sum(n))).astype(dtype),
    }
