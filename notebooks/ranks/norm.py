"""Batch normalisation over the batch of all ranks, forwards and backwards."""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class AllReduce(torch.autograd.Function):
    """The sum over ranks. Every rank's loss depends on it, so its gradient is a sum over ranks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return AllReduce.apply(slope)


def global_moments(x: Tensor, axes: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance over `axes` and over all ranks, and how many values they are of."""
    n = AllReduce.apply(x.new_tensor([math.prod(x.shape[axis] for axis in axes)]))
    mean = AllReduce.apply(x.sum(axes, keepdim=True)) / n
    variance = AllReduce.apply((x - mean).square().sum(axes, keepdim=True)) / n
    return mean.flatten(), variance.flatten(), n


class SyncNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all ranks in training."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance, n = global_moments(x, [0, 2, 3])
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        mean, scale = (v[:, None, None] for v in (mean, torch.rsqrt(variance + self.eps)))
        return (x - mean) * scale * self.weight[:, None, None] + self.bias[:, None, None]
