"""What the rows of the ledger share: random numbers, weights that aren't neutral, a distance."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["draw", "drawn", "gap", "nchw", "nhwc", "put", "refusal", "values"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal random numbers, the same ones at each call."""
    numbers = np.random.default_rng(seed).normal(size=shape)
    return torch.as_tensor(numbers, dtype=torch.get_default_dtype())


def drawn(layer: Any, *shapes: tuple[int | None, ...]) -> Any:
    """Build a Keras layer and draw all of its weights: a bias of 0 would hide a fault."""
    layer.build(*shapes)
    for seed, weight in enumerate(layer.weights, start=1):
        weight.assign(draw(*weight.shape, seed=seed))
    return layer


def values(layer: Any) -> list[Tensor]:
    """The weights of a Keras layer, as PyTorch's tensors."""
    return [weight.value for weight in layer.weights]


@torch.no_grad()
def put(module: nn.Module, **weights: Tensor) -> nn.Module:
    """Copy values into the named weights of a PyTorch module."""
    for name, value in weights.items():
        getattr(module, name).copy_(value)
    return module


def gap(ours: Any, theirs: Any) -> float:
    """The largest |difference| between two arrays of one shape."""
    ours, theirs = (np.asarray(keras.ops.convert_to_numpy(side)) for side in (ours, theirs))
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max())


def refusal(run: Callable[[], Any]) -> str:
    """The name of the error that `run` raises. It has to raise one."""
    try:
        run()
    except Exception as error:
        return type(error).__name__
    raise AssertionError("nothing was refused")


def nchw(pictures: Tensor) -> Tensor:
    """Pictures in Keras' order (N, height, width, channels), in PyTorch's."""
    return pictures.permute(0, 3, 1, 2)


def nhwc(pictures: Tensor) -> Tensor:
    """Pictures in PyTorch's order (N, channels, height, width), in Keras'."""
    return pictures.permute(0, 2, 3, 1)
