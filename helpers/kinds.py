"""Which PyTorch module answers which Keras layer, and where each entry of its weights goes.

| Keras layer | PyTorch module | its weights, from Keras to PyTorch |
| --- | --- | --- |
| `Dense` | `Linear` | the kernel is transposed; behind a flattened picture its rows are reordered |
| `Conv1D`, `Conv2D` | `Conv1d`, `Conv2d` | (height, width, in, out) becomes (out, in, height, width) |
| `Conv2DTranspose` | `ConvTranspose2d` | (height, width, out, in) becomes (in, out, height, width) |
| `DepthwiseConv2D` | `Conv2d` with a group for each channel | (height, width, C, M) becomes (C × M, 1, height, width) |
| `SeparableConv2D` | two `Conv2d` in a row | as above: a depthwise one without bias, then one of 1 × 1 |
| `BatchNormalization` | `BatchNorm1d`, `BatchNorm2d` | as they are, statistics too |
| `LayerNormalization`, `GroupNormalization`, `RMSNormalization` | `LayerNorm`, `GroupNorm`, `RMSNorm` | as they are |
| `PReLU` | `PReLU` | one slope for each channel, or one for all |
| `Embedding` | `Embedding` | as it is |
| `LSTM`, `SimpleRNN` | `LSTM`, `RNN` | transposed; one bias becomes PyTorch's first, its second is 0 |
| `GRU` (`reset_after=True`) | `GRU` | transposed, gates z, r, h become r, z, n; both biases |
| `Bidirectional` of these | the same, `bidirectional=True` | forwards, then backwards (`_reverse`) |
| `MultiHeadAttention` | `MultiheadAttention` | heads are laid side by side; query, key and value one below the other |

What PyTorch's module can't do (other activations inside an LSTM, say) is refused by name.
"""  # noqa: E501

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import keras
import torch
from keras import layers
from torch import Tensor, nn

__all__ = ["Pair", "ParityError"]


class ParityError(ValueError):
    """The two models can't be paired or compared: the message names the layer. Nothing changed."""


Layout = Callable[[Tensor], Tensor]


def _as_it_is(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class Pair:
    """One weight of the Keras model, the same weight in PyTorch, and how their entries answer.

    Either may be a part of a larger one: a GRU's two biases are rows of one Keras weight, and
    three projections of attention are rows of one PyTorch weight.
    """

    name: str  # "dense.kernel ~ 0.weight"
    variable: keras.Variable
    tensor: Tensor
    layout: Layout = _as_it_is  # from Keras' shape to PyTorch's: it moves entries, nothing else
    part: int | EllipsisType = ...  # of the Keras weight
    rows: slice | EllipsisType = ...  # of the PyTorch weight
    second: Tensor | None = None  # a bias that PyTorch adds to the first, where Keras has one

    @property
    def trainable(self) -> bool:
        """True for a weight that training changes, False for a frozen one or a statistic."""
        return bool(self.variable.trainable)

    @property
    def in_keras(self) -> Tensor:
        """The weight's value in the Keras model."""
        return self.variable.value[self.part]

    @property
    def in_torch(self) -> Tensor:
        """The weight's value in the PyTorch module, in Keras' shape."""
        whole = self.tensor if self.second is None else self.tensor + self.second
        return self.to_keras(whole[self.rows])

    def to_torch(self, value: Tensor) -> Tensor:
        """Rearrange a Keras-shaped value (a weight or its gradient) into PyTorch's shape."""
        return self.layout(value)

    def to_keras(self, value: Tensor) -> Tensor:
        """Rearrange a PyTorch-shaped value into Keras' shape: the way back.

        The entries are numbered in Keras' order and laid out: then each place in PyTorch knows
        where its entry came from.
        """
        shape = self.in_keras.shape
        numbers = torch.arange(value.numel(), device=value.device).reshape(shape)
        back = value.new_empty(value.numel())
        back[self.layout(numbers).flatten()] = value.flatten()
        return back.reshape(shape)


@dataclass(frozen=True)
class Twins:
    """A Keras layer with weights and the PyTorch modules that answer it (two or one)."""

    layer: Any
    modules: tuple[tuple[str, nn.Module], ...]  # with their names
    last: bool  # Keras keeps pictures and convolved sequences with their channels last
    turned: bool  # PyTorch has a sequence here with its channels first: it comes from a Conv1d
    flat: int  # the channels of the picture that was flattened into the layer's features, or 0

    @property
    def module(self) -> Any:
        return self.modules[0][1]

    @property
    def names(self) -> str:
        there = " and ".join(label(module, name) for name, module in self.modules)
        return f"{label(self.layer)} and {there}"

    def refuse(self, why: str) -> None:
        raise ParityError(f"{self.names}: {why}.")

    def same(self, **settings: tuple[Any, Any]) -> None:
        """Refuse settings that differ: each is given as (Keras', PyTorch's)."""
        for name, (ours, theirs) in settings.items():
            if ours != theirs:
                self.refuse(f"{name} is {ours} in Keras, {theirs} in PyTorch")


def label(layer: Any, name: str = "") -> str:
    side = "Keras layer" if isinstance(layer, layers.Layer) else "PyTorch module"
    return f"{side} {name or layer.name!r} ({type(layer).__name__})"


def input_shape(layer: Any) -> tuple[int | None, ...]:
    """The shape that a layer was built for, or () where it has none."""
    shape = (layer.get_build_config() or {}).get("input_shape")
    return tuple(shape) if isinstance(shape, (list, tuple)) else ()


def _find(owner: Any, path: str) -> Any:
    for name in path.split("."):
        owner = getattr(owner, name, None)
    return owner


def _weight(twins: Twins, key: str, twin: str, layout: Layout = _as_it_is, *, number: int = 0,
            part: int | EllipsisType = ..., rows: slice | EllipsisType = ..., second: str = "",
            ) -> Iterator[Pair]:  # fmt: skip
    """The pair of one weight of the Keras layer and one of its module's; none if neither has it."""
    layer, (name, module) = twins.layer, twins.modules[number]
    here, there = label(layer), label(module, name)
    variable, tensor = _find(layer, key), _find(module, twin)
    if variable is None and tensor is None:
        return
    if variable is None:
        raise ParityError(f"{there} has a {twin}, and {here} has no {key}.")
    if tensor is None:
        raise ParityError(f"{here} has a {key}, and {there} has no {twin}.")
    if not isinstance(variable, keras.Variable):
        raise ParityError(f"{here} makes its {key} of other weights: parity does not know how.")
    shape, wanted = tuple(variable.value[part].shape), tuple(tensor[rows].shape)
    try:
        order = tuple(layout(torch.empty(shape, device="meta")).shape)
    except RuntimeError:  # a number of rows that no flattened picture has
        order = ()
    if order != wanted:
        raise ParityError(
            f"{here} has a {key} of shape {shape}, in PyTorch's order {order or shape}; "
            f"the {twin} of {there} has shape {wanted}."
        )
    also = _find(module, second) if second else None
    frozen = [not t.requires_grad for t in (tensor, also) if t is not None]
    if frozen[0] == variable.trainable or (not variable.trainable and not all(frozen)):
        raise ParityError(f"{here} and {there}: the {key} is frozen in one of the two only.")
    ours = f"{layer.name}.{key}" + ("" if part is ... else f"[{part}]")
    theirs = f"{name}.{twin}" + ("" if rows is ... else f"[{rows.start}:{rows.stop}]")
    theirs += f" + {second}" if second else ""
    yield Pair(f"{ours} ~ {theirs}", variable, tensor, layout, part, rows, also)


# ------------------------------------------------- dense layers, convolutions, embeddings, PReLU


def _channels_first(value: Tensor, channels: int) -> Tensor:
    """Rows behind a flatten: from (height, width, channels) to (channels, height, width)."""
    if not channels:
        return value
    return value.reshape(-1, channels, *value.shape[1:]).transpose(0, 1).reshape(value.shape)


def _dense(twins: Twins) -> Iterator[Pair]:
    yield from _weight(twins, "kernel", "weight", lambda v: _channels_first(v, twins.flat).T)
    yield from _weight(twins, "bias", "bias")


def _embedding(twins: Twins) -> Iterator[Pair]:
    yield from _weight(twins, "embeddings", "weight")


def _outer_first(kernel: Tensor) -> Tensor:
    """(height, width, a, b) to (b, a, height, width)."""
    return kernel.movedim((-1, -2), (0, 1))


def _by_channel(kernel: Tensor) -> Tensor:
    """(height, width, C, M) to (C × M, 1, height, width): M filters for each channel."""
    return kernel.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1)


def _conv_settings(twins: Twins, number: int, groups: int, point: bool = False) -> None:
    layer, module = twins.layer, twins.modules[number][1]
    one = (1,) * len(module.stride)
    twins.same(
        strides=(one if point else tuple(layer.strides), module.stride),
        dilation=(one if point else tuple(layer.dilation_rate), module.dilation),
        groups=(groups, module.groups),
        padding_mode=("zeros", module.padding_mode),
    )


def _conv(twins: Twins) -> Iterator[Pair]:
    _conv_settings(twins, 0, getattr(twins.layer, "groups", 1))
    yield from _weight(twins, "kernel", "weight", _outer_first)
    yield from _weight(twins, "bias", "bias")


def _depthwise(twins: Twins) -> Iterator[Pair]:
    _conv_settings(twins, 0, twins.layer.kernel.shape[-2])
    yield from _weight(twins, "kernel", "weight", _by_channel)
    yield from _weight(twins, "bias", "bias")


def _separable(twins: Twins) -> Iterator[Pair]:
    _conv_settings(twins, 0, twins.layer.depthwise_kernel.shape[-2])
    _conv_settings(twins, 1, 1, point=True)
    if twins.module.bias is not None:
        twins.refuse("the first of PyTorch's two has a bias, and Keras has one at the end only")
    yield from _weight(twins, "depthwise_kernel", "weight", _by_channel)
    yield from _weight(twins, "pointwise_kernel", "weight", _outer_first, number=1)
    yield from _weight(twins, "bias", "bias", number=1)


def _channel_axis(twins: Twins) -> int | None:
    """The Keras axis that PyTorch has as its second; None where that is an axis of a sequence."""
    rank = len(input_shape(twins.layer))
    if rank == 3 and not twins.turned:
        return None
    return rank - 1 if twins.last or rank == 2 else 1


def _prelu(twins: Twins) -> Iterator[Pair]:
    shape = tuple(twins.layer.alpha.shape)  # without the batch
    bent = [axis for axis, size in enumerate(shape, 1) if size > 1]
    if bent and bent != [_channel_axis(twins)]:
        twins.refuse(f"Keras' slopes have shape {shape}, and PyTorch's belong to channels")
    flat = twins.flat if bent else 0
    yield from _weight(twins, "alpha", "weight", lambda v: _channels_first(v.flatten(), flat))


# --------------------------------------------------------------------------------- normalisations


def _norm(twins: Twins, fits: bool, names: dict[str, str]) -> Iterator[Pair]:
    if not fits:
        raise ParityError(f"{twins.names} normalise over different axes.")
    for key, twin in names.items():
        yield from _weight(twins, key, twin, lambda v: _channels_first(v, twins.flat))


_AFFINE = {"gamma": "weight", "beta": "bias"}


def _batch_norm(twins: Twins) -> Iterator[Pair]:
    rank, axis = len(input_shape(twins.layer)), _channel_axis(twins)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(rank, ())
    fits = not rank or (isinstance(twins.module, kind) and twins.layer.axis % rank == axis)
    names = _AFFINE | {"moving_mean": "running_mean", "moving_variance": "running_var"}
    yield from _norm(twins, fits, names)


def _group_norm(twins: Twins) -> Iterator[Pair]:
    twins.same(groups=(twins.layer.groups, twins.module.num_groups))
    if twins.flat:
        twins.refuse("the groups of a flattened picture hold other pixels in each framework")
    rank = len(input_shape(twins.layer))
    fits = not rank or twins.layer.axis % rank == _channel_axis(twins)
    yield from _norm(twins, fits, _AFFINE)


def _last_norm(twins: Twins) -> Iterator[Pair]:
    """LayerNormalization and RMSNormalization: over the features of each example or position."""
    axis, rank = twins.layer.axis, len(input_shape(twins.layer))
    one = not isinstance(axis, (list, tuple)) or len(axis) == 1
    axis = axis if isinstance(axis, int) else axis[-1]
    fits = one and len(twins.module.normalized_shape) == 1 and rank != 4 and axis in (-1, rank - 1)
    by_root = isinstance(twins.layer, layers.RMSNormalization)
    twins.same(rms_scaling=(getattr(twins.layer, "rms_scaling", False), False))
    yield from _norm(twins, fits, {"scale": "weight"} if by_root else _AFFINE)


# ------------------------------------------------------------------- recurrent layers, attention

_RECURRENT = {layers.LSTM: nn.LSTM, layers.GRU: nn.GRU, layers.SimpleRNN: nn.RNN}


def _recurrent(twins: Twins) -> Iterator[Pair]:
    layer, module = twins.layer, twins.module
    both = isinstance(layer, layers.Bidirectional)
    twins.same(bidirectional=(both, module.bidirectional))
    twins.same(proj_size=(0, getattr(module, "proj_size", 0)))
    for path in ("forward_layer.", "backward_layer.") if both else ("",):
        back = path == "backward_layer."
        one = getattr(layer, path[:-1]) if path else layer
        _recurrent_settings(twins, one, back)
        turn = _gates if isinstance(one, layers.GRU) else torch.t
        end = "l0_reverse" if back else "l0"
        path += "cell."
        yield from _weight(twins, f"{path}kernel", f"weight_ih_{end}", turn)
        yield from _weight(twins, f"{path}recurrent_kernel", f"weight_hh_{end}", turn)
        if isinstance(one, layers.GRU):
            yield from _weight(twins, f"{path}bias", f"bias_ih_{end}", _gates, part=0)
            yield from _weight(twins, f"{path}bias", f"bias_hh_{end}", _gates, part=1)
        else:
            yield from _weight(twins, f"{path}bias", f"bias_ih_{end}", second=f"bias_hh_{end}")


def _gates(value: Tensor) -> Tensor:
    """A GRU's columns z, r, h to rows r, z, n (PyTorch's name for h)."""
    z, r, h = value.chunk(3, dim=-1)
    return torch.cat([r, z, h], dim=-1).movedim(-1, 0)


def _recurrent_settings(twins: Twins, layer: Any, back: bool) -> None:
    """Refuse what PyTorch's recurrent modules can't do."""
    if not isinstance(twins.module, _RECURRENT.get(type(layer), ())):
        twins.refuse(f"Keras' is a {type(layer).__name__} inside, PyTorch's is not")
    twins.same(
        activation=(_called(layer.activation), getattr(twins.module, "nonlinearity", "tanh")),
        dropout=(layer.dropout, 0.0),
        recurrent_dropout=(layer.recurrent_dropout, 0.0),
        stateful=(layer.stateful, False),
        go_backwards=(layer.go_backwards, back),
    )
    if not isinstance(layer, layers.SimpleRNN):
        twins.same(recurrent_activation=(_called(layer.recurrent_activation), "sigmoid"))
    if isinstance(layer, layers.GRU) and not layer.reset_after:
        twins.refuse("a GRU with reset_after=False computes another formula than PyTorch's")


def _called(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)


def _attention(twins: Twins) -> Iterator[Pair]:
    layer, module = twins.layer, twins.module
    twins.same(
        num_heads=(layer.num_heads, module.num_heads),
        key_dim=(layer.key_dim, module.head_dim),
        value_dim=(layer.value_dim, module.head_dim),
        add_bias_kv=(False, module.bias_k is not None),
        add_zero_attn=(False, module.add_zero_attn),
        use_gate=(getattr(layer, "_use_gate", False), False),
        sliding_window=(getattr(layer, "_sliding_window", None), None),
        attention_axes=(tuple(layer.attention_axes), (1,)),
    )
    size, packed = module.embed_dim, module.in_proj_weight is not None
    for number, key in enumerate(("query", "key", "value")):
        rows = slice(number * size, (number + 1) * size)
        name, at = ("in_proj_weight", rows) if packed else (f"{key[0]}_proj_weight", ...)
        yield from _weight(twins, f"{key}_dense.kernel", name, lambda v: v.flatten(1).T, rows=at)
        yield from _weight(twins, f"{key}_dense.bias", "in_proj_bias", torch.flatten, rows=rows)
    yield from _weight(twins, "output_dense.kernel", "out_proj.weight", lambda v: v.flatten(0, 1).T)
    yield from _weight(twins, "output_dense.bias", "out_proj.bias")


# Keras layer: what pairs its weights, and the kinds of its modules, one after the other.
KINDS: dict[type, tuple[Callable[[Twins], Iterator[Pair]], tuple[tuple[type, ...], ...]]] = {
    layers.Dense: (_dense, ((nn.Linear,),)),
    layers.Conv1D: (_conv, ((nn.Conv1d,),)),
    layers.Conv2D: (_conv, ((nn.Conv2d,),)),
    layers.Conv2DTranspose: (_conv, ((nn.ConvTranspose2d,),)),
    layers.DepthwiseConv2D: (_depthwise, ((nn.Conv2d,),)),
    layers.SeparableConv2D: (_separable, ((nn.Conv2d,), (nn.Conv2d,))),
    layers.Embedding: (_embedding, ((nn.Embedding,),)),
    layers.PReLU: (_prelu, ((nn.PReLU,),)),
    layers.BatchNormalization: (_batch_norm, ((nn.BatchNorm1d, nn.BatchNorm2d),)),
    layers.LayerNormalization: (_last_norm, ((nn.LayerNorm,),)),
    layers.RMSNormalization: (_last_norm, ((nn.RMSNorm,),)),
    layers.GroupNormalization: (_group_norm, ((nn.GroupNorm,),)),
    layers.LSTM: (_recurrent, ((nn.LSTM,),)),
    layers.GRU: (_recurrent, ((nn.GRU,),)),
    layers.SimpleRNN: (_recurrent, ((nn.RNN,),)),
    layers.Bidirectional: (_recurrent, ((nn.LSTM, nn.GRU, nn.RNN),)),
    layers.MultiHeadAttention: (_attention, ((nn.MultiheadAttention,),)),
}
