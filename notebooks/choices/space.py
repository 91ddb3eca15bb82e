"""The settings that may be chosen, the first weights of each, and what it costs to train one."""

import itertools
import math

import numpy as np

__all__ = ["GRID", "SETTINGS", "SIDE", "SPACE", "cost", "draw", "multiplications", "start"]

SIDE = 14
"""Pixels on a side of a picture, as `crowd.shrink` leaves them."""

SPACE = {
    "framework": ["keras", "torch"],
    "convolutions": [0, 1, 2],
    "width": [4, 8, 16],
    "kernel": [3, 5],
    "activation": ["relu", "tanh"],
    "optimizer": ["sgd", "adamw"],
    "lr": (1e-3, 0.1),
    "decay": (0.0, 1.0),
    "dropout": (0.0, 0.5),
    "batch_size": [25, 50, 100],
}
"""A list is a choice; a pair is an interval, of which `lr` is drawn by its logarithm."""

GRID = {
    "convolutions": [0, 1, 2],
    "width": [4, 8, 16],
    "optimizer": ["sgd", "adamw"],
    "lr": [0.001, 0.003, 0.01, 0.03, 0.1],
    "dropout": [0.0, 0.4],
}
"""The part of the space of which `tools.bench.automl` trained every setting."""

FIXED = {"kernel": 3, "activation": "relu", "decay": 0.0, "batch_size": 50}
"""What all settings of the grid share."""

SETTINGS = [
    dict(zip(GRID, values, strict=True)) | FIXED for values in itertools.product(*GRID.values())
]
"""Every setting of the grid, the last name changing fastest."""


def draw(rng: np.random.Generator) -> dict:
    """One setting of the space, by dice."""
    setting: dict = {}
    for name, values in SPACE.items():
        if isinstance(values, list):
            setting[name] = values[rng.integers(len(values))]
        elif name == "lr":
            setting[name] = float(math.exp(rng.uniform(*map(math.log, values))))
        else:
            setting[name] = float(rng.uniform(*values))
    return setting


def shapes(setting: dict) -> list[tuple[int, ...]]:
    """The kernels' shapes as Keras has them: (height, width, in, out), then (in, out)."""
    found: list[tuple[int, ...]] = []
    side, channels, k = SIDE, 1, setting["kernel"]
    for i in range(setting["convolutions"]):
        out = setting["width"] * 2**i
        found.append((k, k, channels, out))
        side, channels = side // 2, out
    hidden = 8 * setting["width"]
    return [*found, (side * side * channels, hidden), (hidden, 10)]


def multiplications(setting: dict) -> list[int]:
    """Of each layer, for one picture on its way forward."""
    counts, side = [], SIDE
    for shape in shapes(setting):
        places = side * side if len(shape) == 4 else 1
        counts.append(places * math.prod(shape))
        side //= 2
    return counts


def cost(setting: dict, learned: int, judged: int = 0) -> int:
    """Multiplications to learn from `learned` pictures and to answer for `judged` others.

    Backward, each layer makes two products of the size of its forward one: for the gradient of its
    kernel, and for that of its input, which the first layer doesn't need.
    """
    counts = multiplications(setting)
    return learned * (3 * sum(counts) - counts[0]) + judged * sum(counts)


def start(setting: dict, seed: int) -> list[np.ndarray]:
    """First weights by Glorot, in Keras' order and layout: kernel, bias, kernel, bias, ..."""
    rng, weights = np.random.default_rng([seed, 25]), []
    for shape in shapes(setting):
        field = math.prod(shape[:-2])
        limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
        weights += [rng.uniform(-limit, limit, shape), np.zeros(shape[-1])]
    return weights
