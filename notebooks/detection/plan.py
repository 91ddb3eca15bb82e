"""The numbers that chapter 21 chooses: what counts as found, how many rows a step learns from, the rate."""

import math

__all__ = ["ANCHOR", "BATCH", "CROWDED", "FOUR", "LEARN_ANCHORS", "LEARN_PROPOSALS", "LR", "PROPOSAL"]

ANCHOR = 0.3, 0.6  # an anchor is background below the first overlap, an object from the second
PROPOSAL = 0.5, 0.5  # the same for a proposal
LEARN_ANCHORS = 64, 32  # rows of a picture that a step learns from, and objects at most among them
LEARN_PROPOSALS = 24, 12
CROWDED = 0.7  # of two proposals that overlap more, one goes
SAME = 0.4  # of two answers of one class that overlap more, one goes
LR, WARM = 4e-3, 0.3  # the highest learning rate, and the part of the steps that lead up to it
BATCH = 8
FOUR = ["object", "anchor", "class", "box"]  # the four losses


def rate(step, steps):
    """The learning rate as a part of the highest: up in a line, down along a cosine."""
    warm = int(WARM * steps)
    if step < warm:
        return 1 / 25 + (1 - 1 / 25) * step / warm
    return (1 + math.cos(math.pi * min(1, (step - warm) / (steps - warm)))) / 2
