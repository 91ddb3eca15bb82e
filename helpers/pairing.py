"""Lay a Keras model and a PyTorch module side by side, layer by layer, and copy weights across.

What can't be paired is refused before anything changes. `helpers.kinds` says which layers answer
each other, and how; `helpers.parity` compares what is paired.
"""

from collections.abc import Iterator
from typing import Any

import keras
import torch
from keras import layers
from torch import nn

from helpers.kinds import KINDS, Pair, ParityError, Twins, input_shape, label

__all__ = ["Pair", "ParityError", "copy_weights", "pair"]

_PICTURES = (
    layers.Conv2D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.UpSampling2D,
)
_SEQUENCES = (  # their modules want (channels, length)
    layers.Conv1D,
    layers.MaxPooling1D,
    layers.AveragePooling1D,
    layers.GlobalMaxPooling1D,
    layers.GlobalAveragePooling1D,
)
DROPOUT = (layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D)
_PASSING = (  # features stay where they are
    *DROPOUT,
    layers.InputLayer,
    layers.Flatten,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Softmax,
    layers.Identity,
    layers.Rescaling,
    layers.Concatenate,
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)
_WEIGHTLESS = (*_PASSING, *_PICTURES, *_SEQUENCES)
_NEUTRAL = (*_PASSING, layers.PReLU, layers.BatchNormalization, layers.GroupNormalization)


def _leaves(model: Any, parent: Any = None) -> Iterator[tuple[Any, Any]]:
    """The innermost layers of a Keras model, in order, each with the model that it stands in."""
    if not hasattr(model, "layers"):
        yield model, parent
    for layer in getattr(model, "layers", ()):
        yield from _leaves(layer, model)


def keras_layers(model: Any) -> list[Any]:
    return [layer for layer, _ in _leaves(model)]


def _edges(layer: Any) -> tuple[Any, Any]:
    """The tensors of the model's graph that enter and leave a layer, or None where it has none."""
    try:
        return layer.input, layer.output
    except (AttributeError, ValueError):
        return None, None


Flow = tuple[bool, int]  # see twin_layers


def _flow(tensor: Any, known: dict[int, Flow]) -> Flow:
    """What is known of a tensor; of one that no layer made, but a `+`, what is of its inputs."""
    if id(tensor) in known:
        return known[id(tensor)]
    maker = getattr(getattr(tensor, "_keras_history", None), "operation", None)
    if maker is None or isinstance(maker, layers.Layer):
        return False, 0
    sources = maker.input if isinstance(maker.input, list) else [maker.input]
    return max((_flow(source, known) for source in sources), default=(False, 0))


def channels_last(model: Any) -> bool:
    """Whether a Keras model keeps its pictures as (height, width, channels)."""
    spatial = (*_PICTURES, *_SEQUENCES)
    found = [layer.data_format for layer in keras_layers(model) if isinstance(layer, spatial)]
    return (found or [keras.config.image_data_format()])[0] == "channels_last"


def sequences_turned(model: Any) -> tuple[bool, bool]:
    """Whether PyTorch takes, and gives, sequences as (channels, length), and Keras doesn't.

    So it is where the model begins, or ends, with a Conv1D or a pool.
    """
    found = [isinstance(x, _SEQUENCES) for x in keras_layers(model) if not isinstance(x, _NEUTRAL)]
    last = channels_last(model)
    return last and found[:1] == [True], last and found[-1:] == [True]


def _modules(torch_model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules that hold weights, with their names. Attention's own parts are its business."""
    whole = [m for m in torch_model.modules() if isinstance(m, nn.MultiheadAttention)]
    inside = {part for module in whole for part in module.modules() if part is not module}
    return [
        (name or "itself", module)
        for name, module in torch_model.named_modules()
        if (module._parameters or module._buffers) and module not in inside
    ]


def twin_layers(keras_model: Any, torch_model: Any) -> list[Twins]:
    """The layers with weights of both models, side by side and in order."""
    if not isinstance(keras_model, layers.Layer):
        raise ParityError(f"A {type(keras_model).__name__} is no Keras model: give one of each.")
    if isinstance(torch_model, layers.Layer) or not isinstance(torch_model, nn.Module):
        kind = type(torch_model).__name__
        raise ParityError(f"This {kind} is no model made with torch.nn: give one of each.")
    modules, used = _modules(torch_model), 0
    found: list[Twins] = []
    last = channels_last(keras_model)
    # Of the last layer, and of each tensor of a graph: is it a sequence that PyTorch has with its
    # channels first, and how many channels had the picture that it was flattened from (or 0)?
    turned, flat = False, 0
    known: dict[int, Flow] = {}
    before = None  # the model that the last layer stands in
    for layer, parent in _leaves(keras_model):
        here, shape, (source, result) = label(layer), input_shape(layer), _edges(layer)
        if not layer.built:
            raise ParityError(f"{here} is not built: call the model on a batch first.")
        sources = source if isinstance(source, list) else [source]
        if source is not None and parent is before and not isinstance(parent, keras.Sequential):
            # In a graph, not every layer follows the last.
            turned, flat = _flow(sources[0], known) if sources else (False, 0)
        before = parent
        if isinstance(source, list) and any(_flow(x, known)[1] for x in source):
            raise ParityError(f"{here} joins flattened pictures: parity can't tell their order.")
        if type(layer) in KINDS:
            kinds = KINDS[type(layer)][1]
            partners = modules[used : used + len(kinds)]
            if len(partners) < len(kinds):
                raise ParityError(f"{here} has no partner: PyTorch has {len(modules)} such layers.")
            for (name, module), wanted in zip(partners, kinds, strict=True):
                if not isinstance(module, wanted):
                    row = " then ".join(" or ".join(k.__name__ for k in one) for one in kinds)
                    raise ParityError(f"{here} meets {label(module, name)}: it pairs with {row}.")
                if (many := getattr(module, "num_layers", 1)) > 1:
                    raise ParityError(
                        f"{label(module, name)} has {many} layers in one: make it {many} modules "
                        "of one layer each, as Keras has them."
                    )
            features = flat if len(shape) in (0, 2) else 0
            found.append(Twins(layer, tuple(partners), last, turned, features))
            used += len(kinds)
        elif layer.weights or type(layer) not in _WEIGHTLESS:
            raise ParityError(f"{here} is of a kind that parity does not know.")
        # What leaves the layer:
        if isinstance(layer, layers.Flatten) and len(shape) in (4, 3 if turned else 4):
            channels_end = last or layer.data_format == "channels_first"
            turned, flat = False, shape[-1 if last else 1] if channels_end else 0
        elif isinstance(layer, layers.Dense):
            turned, flat = False, 0
        elif not isinstance(layer, _NEUTRAL):
            turned = isinstance(layer, _SEQUENCES)
        if result is not None:
            known[id(result)] = turned, flat
    for name, module in modules[used:]:
        here = label(module, name)
        raise ParityError(f"{here} has no partner: Keras has {len(found)} such layers.")
    return found


def pair(keras_model: Any, torch_model: nn.Module) -> list[Pair]:
    """Pair every weight of a Keras model with its twin in a PyTorch module, or refuse.

    Layers are paired in order: Keras' by the model's layers, PyTorch's by their definition.
    Where the Keras model flattens pictures (height, width, channels), the weights that follow
    are reordered to PyTorch's (channels, height, width); so they are where it flattens the
    sequence (length, channels) of a Conv1D. `helpers.kinds` lists the layers.
    """
    pairs = [p for t in twin_layers(keras_model, torch_model) for p in KINDS[type(t.layer)][0](t)]
    ours = {(id(p.variable), str(p.part)) for p in pairs}
    theirs = {(id(p.tensor), str(p.rows)) for p in pairs}
    if min(len(ours), len(theirs)) < len(pairs):
        raise ParityError("Two layers share one weight, in one of the two models only.")
    paired = {id(weight) for p in pairs for weight in (p.variable, p.tensor, p.second)}
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
    neither model changes. Values take the target's dtype. Of an LSTM's two biases in PyTorch the
    second becomes 0, and Keras' one bias becomes their sum.
    """
    forth = isinstance(source, layers.Layer)
    with torch.no_grad():
        for p in pair(source, target) if forth else pair(target, source):
            if forth:
                p.tensor[p.rows].copy_(p.to_torch(p.in_keras))
                if p.second is not None:
                    p.second.zero_()
            else:
                whole = p.variable.value.detach().clone()
                whole[p.part] = p.in_torch.to(whole)
                p.variable.assign(whole)
