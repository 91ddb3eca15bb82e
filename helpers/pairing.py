"""Lay a Keras model and a PyTorch module side by side, layer by layer, and copy weights across.

What can't be paired is refused before anything changes. `helpers.parity` compares what is paired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch
from keras import layers
from torch import Tensor, nn

__all__ = ["Pair", "ParityError", "copy_weights", "pair"]


class ParityError(ValueError):
    """The two models can't be paired or compared: the message names the layer. Nothing changed."""


@dataclass(frozen=True)
class Pair:
    """One weight of the Keras model, the same weight in PyTorch, and how their axes answer."""

    name: str  # "dense.kernel ~ 0.weight"
    variable: keras.Variable
    tensor: Tensor
    axes: tuple[int, ...]  # the Keras axes in PyTorch's order
    channels: int = 0  # rows behind a flatten: from (height, width, channels) to channels first

    @property
    def trainable(self) -> bool:
        """True for a weight that training changes, False for a frozen one or a statistic."""
        return bool(self.variable.trainable)

    def to_torch(self, value: Tensor) -> Tensor:
        """Rearrange a Keras-shaped value (a weight or its gradient) into PyTorch's shape."""
        return self._regroup(value, (-1, self.channels)).permute(self.axes)

    def to_keras(self, value: Tensor) -> Tensor:
        """Rearrange a PyTorch-shaped value into Keras' shape: the way back."""
        back = tuple(int(axis) for axis in np.argsort(self.axes))
        return self._regroup(value.permute(back), (self.channels, -1))

    def _regroup(self, value: Tensor, rows: tuple[int, int]) -> Tensor:
        if not self.channels:
            return value
        return value.reshape(*rows, *value.shape[1:]).transpose(0, 1).reshape(value.shape)


# Keras layer: its PyTorch modules, and its weights beside theirs.
_KINDS: dict[type, tuple[tuple[type, ...], dict[str, str]]] = {
    layers.Dense: ((nn.Linear,), {"kernel": "weight", "bias": "bias"}),
    layers.Conv2D: ((nn.Conv2d,), {"kernel": "weight", "bias": "bias"}),
    layers.Embedding: ((nn.Embedding,), {"embeddings": "weight"}),
    layers.LayerNormalization: ((nn.LayerNorm,), {"gamma": "weight", "beta": "bias"}),
    layers.BatchNormalization: (
        (nn.BatchNorm1d, nn.BatchNorm2d),
        {
            "gamma": "weight",
            "beta": "bias",
            "moving_mean": "running_mean",
            "moving_variance": "running_var",
        },
    ),
}
_AXES = {(layers.Dense, "kernel"): (1, 0), (layers.Conv2D, "kernel"): (3, 2, 0, 1)}
_SPATIAL = (
    layers.Conv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
    layers.ZeroPadding2D,
)
DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
_WEIGHTLESS = (
    *_SPATIAL,
    *DROPOUT,
    layers.InputLayer,
    layers.Flatten,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Softmax,
    layers.Concatenate,
    layers.Add,
)


def _leaves(model: Any, parent: Any = None) -> Iterator[tuple[Any, Any]]:
    """The innermost layers of a Keras model, in order, each with the model that it stands in."""
    if not hasattr(model, "layers"):
        yield model, parent
    for layer in getattr(model, "layers", ()):
        yield from _leaves(layer, model)


def keras_layers(model: Any) -> list[Any]:
    return [layer for layer, _ in _leaves(model)]


def _shape(layer: Any) -> tuple[int | None, ...]:
    """The shape that a layer was built for, or () where it has none."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    return tuple(shape) if isinstance(shape, (list, tuple)) else ()


def _edges(layer: Any) -> tuple[Any, Any]:
    """The tensors of the model's graph that enter and leave a layer, or None where it has none."""
    try:
        return layer.input, layer.output
    except (AttributeError, ValueError):
        return None, None


def channels_last(model: Any) -> bool:
    """Whether a Keras model keeps its pictures as (height, width, channels)."""
    found = [layer.data_format for layer in keras_layers(model) if isinstance(layer, _SPATIAL)]
    return (found or [keras.config.image_data_format()])[0] == "channels_last"


def _label(layer: Any, name: str = "") -> str:
    side = "Keras layer" if isinstance(layer, layers.Layer) else "PyTorch module"
    return f"{side} {name or layer.name!r} ({type(layer).__name__})"


@dataclass(frozen=True)
class Twins:
    """A Keras layer with weights and the PyTorch module that answers it."""

    layer: Any
    name: str  # the module's
    module: nn.Module
    channels: int  # of the picture that was flattened just before, or 0


def twin_layers(keras_model: Any, torch_model: Any) -> list[Twins]:
    """The layers with weights of both models, side by side and in order."""
    if not isinstance(keras_model, layers.Layer):
        raise ParityError(f"A {type(keras_model).__name__} is no Keras model: give one of each.")
    if isinstance(torch_model, layers.Layer) or not isinstance(torch_model, nn.Module):
        kind = type(torch_model).__name__
        raise ParityError(f"This {kind} is no model made with torch.nn: give one of each.")
    modules = [
        (name, module)
        for name, module in torch_model.named_modules()
        if module._parameters or module._buffers
    ]
    found: list[Twins] = []
    last = channels_last(keras_model)
    flattened: dict[int, int] = {}  # tensors that hold a flattened picture: its channels
    flat, before = 0, None  # the same for the last layer, and the model that it stands in
    for layer, parent in _leaves(keras_model):
        here, shape, (source, result) = _label(layer), _shape(layer), _edges(layer)
        if not layer.built:
            raise ParityError(f"{here} is not built: call the model on a batch first.")
        if source is not None and parent is before and not isinstance(parent, keras.Sequential):
            flat = flattened.get(id(source), 0)  # in a graph, not every layer follows the last
        before = parent
        if isinstance(source, list) and any(flattened.get(id(tensor)) for tensor in source):
            raise ParityError(f"{here} joins flattened pictures: parity can't tell their order.")
        if isinstance(layer, layers.Flatten) and len(shape) == 4:
            channels_end = last or layer.data_format == "channels_first"
            flat = shape[-1 if last else 1] if channels_end else 0
        if result is not None and type(layer) is not layers.Dense:
            flattened[id(result)] = flat
        if type(layer) not in _KINDS:
            if layer.weights or type(layer) not in _WEIGHTLESS:
                raise ParityError(f"{here} is of a kind that parity does not know.")
            continue
        if len(found) == len(modules):
            raise ParityError(f"{here} has no partner: PyTorch has {len(modules)} such layers.")
        name, module = modules[len(found)]
        name, kinds = name or "itself", _KINDS[type(layer)][0]
        if not isinstance(module, kinds):
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ParityError(f"{here} meets {_label(module, name)}: it pairs with {wanted}.")
        _check_axis(layer, module, last, f"{here} and {_label(module, name)}")
        found.append(Twins(layer, name, module, flat))
        if isinstance(layer, layers.Dense):
            flat = 0
    for name, module in modules[len(found) :]:
        here = _label(module, name or "itself")
        raise ParityError(f"{here} has no partner: Keras has {len(found)} such layers.")
    return found


def _check_axis(layer: Any, module: nn.Module, last: bool, both: str) -> None:
    """Refuse a normalisation that works over other axes in the two frameworks."""
    rank = len(_shape(layer))
    fits = True
    if isinstance(layer, layers.LayerNormalization):
        axis = layer.axis if isinstance(layer.axis, int) else layer.axis[-1]
        fits = len(module.normalized_shape) == 1 and rank != 4 and axis in (-1, rank - 1)
    elif isinstance(layer, layers.BatchNormalization) and rank:
        kind = {2: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(rank, ())
        axis = 1 if rank == 4 and not last else rank - 1
        fits = isinstance(module, kind) and layer.axis % rank == axis
    if not fits:
        raise ParityError(f"{both} normalise over different axes.")


def _weights(twins: Twins) -> Iterator[Pair]:
    """The weights of two layers that answer each other, one by one."""
    layer, module, flat = twins.layer, twins.module, twins.channels
    here, there = _label(layer), _label(module, twins.name)
    for key, twin in _KINDS[type(layer)][1].items():
        variable, tensor = getattr(layer, key, None), getattr(module, twin, None)
        if variable is None and tensor is None:
            continue
        if variable is None:
            raise ParityError(f"{there} has a {twin}, and {here} has no {key}.")
        if tensor is None:
            raise ParityError(f"{here} has a {key}, and {there} has no {twin}.")
        axes = _AXES.get((type(layer), key), tuple(range(len(variable.shape))))
        shape = tuple(variable.shape[axis] for axis in axes)
        channels = 0 if isinstance(layer, layers.Dense) and key == "bias" else flat
        if shape != tuple(tensor.shape) or (channels and variable.shape[0] % channels):
            raise ParityError(
                f"{here} has a {key} of shape {tuple(variable.shape)}, in PyTorch's order "
                f"{shape}; the {twin} of {there} has shape {tuple(tensor.shape)}."
            )
        if variable.trainable != tensor.requires_grad:
            raise ParityError(f"{here} and {there}: the {key} is frozen in one of the two only.")
        name = f"{layer.name}.{key} ~ {twins.name}.{twin}"
        yield Pair(name, variable, tensor, axes, channels)


def pair(keras_model: Any, torch_model: nn.Module) -> list[Pair]:
    """Pair every weight of a Keras model with its twin in a PyTorch module, or refuse.

    Layers are paired in order: Keras' by the model's layers, PyTorch's by their definition.
    Where the Keras model flattens pictures (height, width, channels), the weights that follow
    are reordered to PyTorch's (channels, height, width).
    """
    pairs = [p for twins in twin_layers(keras_model, torch_model) for p in _weights(twins)]
    paired = {id(p.tensor) for p in pairs} | {id(p.variable) for p in pairs}
    if len(paired) < 2 * len(pairs):
        raise ParityError("Two layers share one weight, in one of the two models only.")
    for name, parameter in torch_model.named_parameters():
        if id(parameter) not in paired:
            raise ParityError(f"The PyTorch parameter {name!r} belongs to no layer that is paired.")
    for variable in keras_model.weights:
        if id(variable) not in paired:
            raise ParityError(
                f"The Keras weight {variable.path!r} belongs to no layer that is paired."
            )
    return pairs


def copy_weights(source: Any, target: Any) -> None:
    """Copy every weight from `source` to `target`: one a Keras model, the other a PyTorch module.

    All weights are paired and checked first; if one can't be, `ParityError` names its layer and
    neither model changes. Values take the target's dtype.
    """
    forth = isinstance(source, layers.Layer)
    with torch.no_grad():
        for p in pair(source, target) if forth else pair(target, source):
            if forth:
                p.tensor.copy_(p.to_torch(p.variable.value))
            else:
                p.variable.assign(p.to_keras(p.tensor))
