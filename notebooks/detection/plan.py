"""The numbers that chapter 22 chooses: what counts as found, what a step learns from, the rate."""

import math

import numpy as np

from detection import scenes

__all__ = [
    "ANCHOR",
    "BATCH",
    "CROWDED",
    "EPSILON",
    "FOUR",
    "LEARN_ANCHORS",
    "LEARN_PROPOSALS",
    "LR",
    "PROPOSAL",
    "SAME",
    "WARM",
    "batches",
    "epsilon",
    "rate",
]

ANCHOR = 0.3, 0.6  # an anchor is background below the first overlap, an object from the second
PROPOSAL = 0.5, 0.5  # the same for a proposal
LEARN_ANCHORS = 64, 32  # rows of a picture that a step learns from, and objects at most among them
LEARN_PROPOSALS = 24, 12
CROWDED = 0.7  # of two proposals that overlap more, one goes
SAME = 0.4  # of two answers of one class that overlap more, one goes
LR, WARM = 4e-3, 0.3  # the highest learning rate, and the part of the steps that lead up to it
EPSILON = 1e-7  # Adam's, as Keras means it
BATCH = 8  # pictures a step
FOUR = ["object", "anchor", "class", "box"]  # the four losses


def rate(step, steps):
    """The learning rate as a part of the highest: up in a line, down along a cosine."""
    warm = int(WARM * steps)
    if step < warm:
        return 1 / 25 + (1 - 1 / 25) * step / warm
    return (1 + math.cos(math.pi * min(1, (step - warm) / (steps - warm)))) / 2


def epsilon(step):
    """What PyTorch's Adam must be given in a step, to do as Keras' with EPSILON (chapter 5)."""
    return EPSILON / math.sqrt(1 - 0.999 ** (step + 1))


def batches(data, steps, seed, dtype="float32"):
    """The batches of a training: all scenes in one random order, then in another, and on."""
    rng = np.random.default_rng(seed)
    epochs = -(-steps * BATCH // len(data[0]))
    order = np.concatenate([rng.permutation(len(data[0])) for _ in range(epochs)])
    rows = np.split(order[: steps * BATCH], steps)
    return [scenes.batch(data, r, rng, dtype) for r in rows]
