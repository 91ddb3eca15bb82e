"""What a search chooses from: small networks, in either framework, by one function.

`space` has the settings, their first weights and their cost; `keras_side` and `torch_side` build
one; `train` trains it. Nothing here imports Keras or PyTorch before a setting asks for it.
"""

import importlib

import numpy as np

from choices.space import GRID, SETTINGS, SPACE, cost, draw, multiplications, start

__all__ = ["GRID", "SETTINGS", "SPACE", "cost", "draw", "multiplications", "start", "train"]


def train(setting, seed, data, epochs, report=None):
    """Train one setting; after each epoch, how many validation pictures it has right.

    `data` has pictures `x`, `x_val` (N, 14, 14, 1) and labels `y`, `y_val` (N,). The seed decides
    the first weights, the order, and what dropout silences: alike in both frameworks.
    `report(epoch, right, answer)` is called after each epoch, and ends the training by raising.
    """
    import torch

    side = importlib.import_module(f"choices.{setting['framework']}_side")
    step, answer = side.learner(setting, start(setting, seed))
    torch.manual_seed(seed)
    n, size, found = len(data["x"]), setting["batch_size"], []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch, 1]).permutation(n)
        for i in range(0, n, size):
            rows = order[i : i + size]
            step(data["x"][rows], data["y"][rows])
        answers = answer(data["x_val"]).argmax(1)
        found.append(int((answers == data["y_val"]).sum()))
        if report is not None:
            report(epoch + 1, found[-1], answer)
    return found
