"""The same network in Keras: `fit` on every rank, first as it comes, then so that it is true."""

import sys
from pathlib import Path
from typing import Any

import keras
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from helpers import parity
from ranks.nets import make_keras_model
from ranks.norm import global_moments
from ranks.start import joined


class Averaging(keras.optimizers.SGD):
    """Keras' SGD on the average of all ranks' gradients: one line in front of what it does."""

    def apply(self, grads: list[Tensor], trainable_variables: Any = None) -> None:
        for gradient in grads:
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        super().apply(grads, trainable_variables)


class ThroughDDP(keras.Model):
    """A model whose call goes through PyTorch's DistributedDataParallel, so that `fit`'s does."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.inner = model
        self.ddp = [DistributedDataParallel(model)]  # in a list, or Keras takes it for a layer

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return self.ddp[0](x, training=training)


class SyncNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization with the moments of all ranks (it asks itself by this method)."""

    def _moments(self, inputs: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
        return global_moments(inputs, list(self._reduction_axes))[:2]


def like_torch(kind: type = keras.layers.BatchNormalization) -> keras.layers.Layer:
    """A normalisation with PyTorch's settings."""
    return kind(momentum=0.9, epsilon=1e-5)


def shard(values: Tensor) -> Tensor:
    return values[dist.get_rank() :: dist.get_world_size()]


def fit(data: dict[str, Any], how: str, norm: Any = None) -> dict[str, Any]:
    """One `fit` over this rank's share of each batch: the weights after it, and its history."""
    model = make_keras_model(norm)
    model.set_weights(data["normalised" if norm else "weights"])
    outer = ThroughDDP(model) if how == "through DDP" else model
    _wrapped = DistributedDataParallel(model) if how == "wrapped" else None  # and that is all
    kind = Averaging if how == "averaging" else keras.optimizers.SGD
    outer.compile(
        optimizer=kind(0.05, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    x, y = shard(data["x"]), shard(data["y"])
    size = data["batch_size"] // dist.get_world_size()
    history = outer.fit(x, y, batch_size=size, shuffle=False, verbose=0).history
    return {"weights": [torch.tensor(w) for w in model.get_weights()], "loss": history["loss"][0]}


def slopes(data: dict[str, Any]) -> list[Tensor]:
    """The gradients of one batch, in a loop of one's own: here wrapping is enough."""
    model = make_keras_model()
    model.set_weights(data["weights"])
    ddp = DistributedDataParallel(model)
    rows = slice(0, data["batch_size"])
    logits = ddp(shard(data["x"][rows]), training=True)
    nn.CrossEntropyLoss()(logits, shard(data["y"][rows])).backward()
    return [v.value.grad.clone() for v in model.trainable_variables]


def proofs(data: dict[str, Any]) -> dict[str, Any]:
    data |= {key: [w.numpy() for w in data[key]] for key in ("weights", "normalised")}
    found = {"gradients": slopes(data)}
    found |= {how: fit(data, how) for how in ("wrapped", "averaging", "through DDP")}
    kinds = {"local norm": keras.layers.BatchNormalization, "global norm": SyncNormalization}
    for name, kind in kinds.items():
        found[name] = fit(data, "averaging", lambda kind=kind: like_torch(kind))
    return found


def main() -> None:
    file = Path(sys.argv[1])
    with joined(file) as report, parity.float64():
        report(**proofs(torch.load(file, weights_only=True)))


if __name__ == "__main__":
    main()
