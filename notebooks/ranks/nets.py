"""The network of chapter 8, 121,930 parameters, in both frameworks; normalised, if told."""

from collections.abc import Callable
from typing import Any

from torch import nn


def make_torch_model(norm: Callable[[int], nn.Module] | None = None) -> nn.Sequential:
    """Pictures (N, 1, 28, 28) to logits (N, 10)."""

    def block(channels: int, filters: int) -> list[nn.Module]:
        between = [norm(filters)] if norm else []
        return [nn.Conv2d(channels, filters, 3), *between, nn.ReLU(), nn.MaxPool2d(2)]

    head = [nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*block(1, 32), *block(32, 64), *head)


def make_keras_model(norm: Callable[[], Any] | None = None) -> Any:
    """Pictures (N, 28, 28, 1) to logits (N, 10)."""
    import keras
    from keras import layers

    def block(filters: int) -> list[Any]:
        between = [norm()] if norm else []
        return [layers.Conv2D(filters, 3), *between, layers.ReLU(), layers.MaxPooling2D(2)]

    head = [layers.Flatten(), layers.Dense(64), layers.ReLU(), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *block(32), *block(64), *head])
