"""Many small networks, trained at once on few pictures, with or without remedies.

Chapter 7 built a crowd: networks of one shape whose weights have one axis more. Here each network
has its own training set too, and any of the remedies of chapter 15. The chapter proves that a
network of the crowd is the network that Keras and PyTorch would train alone.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers.training import epoch_order

__all__ = ["SIDE", "Crowd", "scores", "shrink", "start", "train", "warp"]

SIDE = 14
"""Pixels on a side, after `shrink`."""


def shrink(pictures: np.ndarray) -> np.ndarray:
    """Pictures (N, 28, 28) of bytes as rows (N, 196) of ink from 0 to 1, means of four pixels."""
    ink = pictures.reshape(-1, SIDE, 2, SIDE, 2).mean((2, 4)) / 255
    return ink.reshape(-1, SIDE**2).astype("float32")


def start(seed: int, width: int) -> list[np.ndarray]:
    """First weights by Glorot: kernel (196, width), bias, kernel (width, 10), bias."""
    rng, parts = np.random.default_rng([seed, 15]), []
    for n_in, n_out in ((SIDE**2, width), (width, 10)):
        limit = math.sqrt(6 / (n_in + n_out))
        parts += [rng.uniform(-limit, limit, (n_in, n_out)), np.zeros(n_out)]
    return parts


def warp(x: Tensor, angles: Tensor, shifts: Tensor) -> Tensor:
    """Rows (N, 196) turned by angles (N,), in radians, and moved by shifts (N, 2), in pixels."""
    c, s = angles.cos(), angles.sin()
    right, down = (shifts * 2 / SIDE).T
    matrix = torch.stack([torch.stack([c, s, -right], 1), torch.stack([-s, c, -down], 1)], 1)
    pictures = x.reshape(-1, 1, SIDE, SIDE)
    grid = F.affine_grid(matrix.to(x.dtype), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False).reshape(x.shape)


@dataclass
class Crowd:
    """Networks side by side: every parameter has the network as its first axis.

    `statistics` holds BatchNorm's running mean and variance, where there is one. `history` has an
    array (epochs, networks) under `loss`, and under `val_loss` and `val_accuracy` where a
    validation set was given. `best` holds the parameters and statistics of each network's epoch
    with the lowest validation loss.
    """

    parameters: list[Tensor]
    statistics: list[Tensor]
    history: dict[str, np.ndarray] = field(default_factory=dict)
    best: list[Tensor] = field(default_factory=list)

    def logits(self, x: Tensor, stopped: bool = False) -> Tensor:
        """Logits (networks, N, 10) for rows (N, 196), in evaluation mode."""
        n = len(self.parameters)
        parts = (self.best[:n], self.best[n:]) if stopped else (self.parameters, self.statistics)
        with torch.no_grad():
            x = x.expand(len(parts[0][0]), *x.shape[-2:])
            return _forward(*parts, x, None, training=False)


def _forward(parameters, statistics, x, mask, training):
    W, b, V, c, *norm = parameters
    hidden = torch.baddbmm(b[:, None], x, W)
    if norm:
        if training:
            mean, var = hidden.mean(1), hidden.var(1, correction=0)
            with torch.no_grad():
                n = x.shape[1]
                for running, new in zip(statistics, (mean, var * n / (n - 1)), strict=True):
                    running.lerp_(new, 0.1)
        else:
            mean, var = statistics
        hidden = (hidden - mean[:, None]) * (var[:, None] + 1e-5).rsqrt()
        hidden = hidden * norm[0][:, None] + norm[1][:, None]
    hidden = hidden.relu()
    if mask is not None:
        hidden = hidden * mask
    return torch.baddbmm(c[:, None], hidden, V)


def scores(logits: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss and accuracy of each network: logits (networks, N, 10), labels (N,)."""
    loss = F.cross_entropy(logits.transpose(1, 2), y.expand(len(logits), -1), reduction="none")
    right = (logits.argmax(2) == y).double()
    return loss.double().mean(1).numpy(), right.mean(1).numpy()


def train(
    x: Tensor,
    y: Tensor,
    seeds,
    *,
    epochs: int,
    width: int = 128,
    batch_size: int = 50,
    lr: float = 1e-3,
    decay: float = 0.0,
    dropout: float | Tensor = 0.0,
    smoothing: float | Tensor = 0.0,
    augment: float = 0.0,
    norm: bool = False,
    val: tuple[Tensor, Tensor] | None = None,
) -> Crowd:
    """Train one network a seed, each on its own pictures: x (networks, n, 196), y (networks, n).

    AdamW at a constant rate. `dropout` and `smoothing` may differ from network to network: shape
    (networks,). `augment` is the largest shift in pixels, with a turn of up to 10 degrees a pixel.
    """
    size = len(list(seeds))
    parts = zip(*(start(seed, width) for seed in seeds), strict=True)
    parameters = [torch.tensor(np.stack(part), dtype=x.dtype) for part in parts]
    statistics = []
    if norm:
        parameters += [x.new_ones(size, width), x.new_zeros(size, width)]
        statistics = [x.new_zeros(size, width), x.new_ones(size, width)]
    for parameter in parameters:
        parameter.requires_grad_()
    crowd = Crowd(parameters, statistics)
    rate, soft = (torch.as_tensor(v, dtype=x.dtype) for v in (dropout, smoothing))
    rate, soft = (v.expand(size) for v in (rate, soft))
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, fused=True
    )
    rngs = [np.random.default_rng([seed, 16]) for seed in seeds]
    draws = torch.Generator().manual_seed(int(next(iter(seeds))))
    rows_of, history, lowest = torch.arange(size)[:, None], [], None
    for epoch in range(epochs):
        pictures = x
        if augment:
            drawn = np.stack([rng.uniform(-1, 1, (x.shape[1], 3)) for rng in rngs]) * augment
            drawn = torch.tensor(drawn, dtype=x.dtype).flatten(0, 1)
            angles = drawn[:, 0] * math.radians(10)
            pictures = warp(x.flatten(0, 1), angles, drawn[:, 1:]).reshape(x.shape)
        order = np.stack([epoch_order(x.shape[1], seed, epoch) for seed in seeds])
        losses = torch.zeros(size, dtype=torch.float64)
        for rows in torch.tensor(order).split(batch_size, dim=1):
            mask = None
            if rate.any():
                keep = 1 - rate[:, None, None]
                drawn = torch.rand(size, rows.shape[1], width, generator=draws, dtype=x.dtype)
                mask = (drawn < keep) / keep
            logits = _forward(parameters, statistics, pictures[rows_of, rows], mask, training=True)
            log_p = logits.log_softmax(2)
            picked = log_p.gather(2, y[rows_of, rows][..., None]).squeeze(2)
            loss = -((1 - soft) * picked.mean(1) + soft * log_p.mean((1, 2)))
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            losses -= picked.detach().double().sum(1)
        logs = {"loss": (losses / x.shape[1]).numpy()}
        if val is not None:
            logs["val_loss"], logs["val_accuracy"] = scores(crowd.logits(val[0]), val[1])
            now = [p.detach() for p in parameters] + statistics
            if lowest is None:
                lowest, crowd.best = logs["val_loss"].copy(), [p.clone() for p in now]
            better = logs["val_loss"] < lowest
            lowest[better] = logs["val_loss"][better]
            for kept, value in zip(crowd.best, now, strict=True):
                kept[torch.tensor(better)] = value[torch.tensor(better)]
        history.append(logs)
    crowd.history = {name: np.stack([logs[name] for logs in history]) for name in history[0]}
    crowd.parameters = [p.detach() for p in parameters]
    return crowd
