"""Many small networks at once, trained on a common group and a rare one.

The networks are those of the package `crowd`; with no option set, so is the training. A test holds
each of them to the network that PyTorch trains alone.
"""

from collections.abc import Sequence

import crowd
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from groups.needs import GroupsError
from helpers.training import epoch_order


def importance(rare: np.ndarray, times: float) -> np.ndarray:
    """A weight for each example: the rare ones count `times` as much, and the mean is 1.

    `rare` (..., N) says who belongs to the rare group; the mean is taken over the last axis.
    """
    if times <= 0:
        raise GroupsError(f"A weight of {times} counts nobody: give one above 0.")
    weight = np.where(rare, float(times), 1.0)
    return weight / weight.mean(-1, keepdims=True)


def _leaning(x: Tensor, by: Tensor) -> Tensor:
    """Rows (N, 196) that lean by (N,) pixels a row."""
    zero, one = torch.zeros_like(by), torch.ones_like(by)
    matrix = torch.stack([torch.stack([one, by, zero], 1), torch.stack([zero, one, zero], 1)], 1)
    pictures = x.reshape(-1, 1, crowd.SIDE, crowd.SIDE)
    grid = F.affine_grid(matrix.to(x.dtype), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False).reshape(x.shape)


def train(
    x: Tensor,
    y: Tensor,
    rare: np.ndarray,
    seeds: Sequence[int],
    *,
    epochs: int,
    times: float = 1.0,
    resample: bool = False,
    dro: float = 0.0,
    leaning: float = 0.0,
    width: int = 64,
    batch_size: int = 50,
    lr: float = 3e-3,
    decay: float = 0.0,
) -> crowd.Crowd:
    """Train one network a seed: x (networks, n, 196), y (networks, n), rare (networks, n) of bool.

    `times` is how much more a rare example counts: in the loss, divided by the size of the batch,
    or, with `resample`, in how often it is drawn. `dro` above 0 lets the two groups' weights follow
    their losses, at this rate (group DRO). `leaning` is the largest lean, drawn anew for each
    example and epoch. AdamW at a constant rate.
    """
    seeds = list(seeds)
    if rare.shape != tuple(y.shape) or len(x) != len(seeds):
        raise GroupsError("Give each seed its pictures, and each picture a label and a group.")
    if dro and (times != 1 or resample):
        raise GroupsError("Group DRO finds its own weights: leave `times` and `resample` out.")
    parts = zip(*(crowd.start(seed, width) for seed in seeds), strict=True)
    parameters = [torch.tensor(np.stack(p), dtype=x.dtype, requires_grad=True) for p in parts]
    optimizer = torch.optim.AdamW(
        parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, fused=True
    )
    n, rows_of = x.shape[1], torch.arange(len(seeds))[:, None]
    member = torch.tensor(np.stack([~rare, rare], 1), dtype=x.dtype)  # (networks, 2, n)
    share = member.mean(2)
    if dro and not share.all():
        raise GroupsError("Group DRO needs an example of each group.")
    counts = importance(rare, times)
    weight = torch.tensor(np.ones_like(counts) if resample else counts, dtype=x.dtype)
    q = torch.full_like(share, 0.5)
    rngs = [np.random.default_rng([seed, 27]) for seed in seeds]
    for epoch in range(epochs):
        pictures = x
        if leaning:
            by = np.stack([rng.uniform(-leaning, leaning, n) for rng in rngs])
            by = torch.tensor(by, dtype=x.dtype)
            pictures = _leaning(x.flatten(0, 1), by.flatten()).reshape(x.shape)
        if resample:
            order = [r.choice(n, n, p=c / n) for r, c in zip(rngs, counts, strict=True)]
        else:
            order = [epoch_order(n, seed, epoch) for seed in seeds]
        for rows in torch.tensor(np.stack(order)).split(batch_size, dim=1):
            logits = crowd._forward(parameters, [], pictures[rows_of, rows], None, training=True)
            each = F.cross_entropy(logits.transpose(1, 2), y[rows_of, rows], reduction="none")
            if dro:
                here = member.gather(2, rows[:, None].expand(-1, 2, -1))
                seen = here.sum(2)
                found = (each.detach()[:, None] * here).sum(2) / seen.clamp(min=1)
                q = q * (dro * found * (seen > 0)).exp()
                q = q / q.sum(1, keepdim=True)
                loss = ((q / share)[..., None] * here).sum(1) * each
            else:
                loss = weight[rows_of, rows] * each
            optimizer.zero_grad()
            loss.mean(1).sum().backward()
            optimizer.step()
    return crowd.Crowd([p.detach() for p in parameters], [])
