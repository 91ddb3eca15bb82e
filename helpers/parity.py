"""Copy weights between a Keras model and a PyTorch module, and prove the two networks equal.

`pair` walks both models and lays each Keras layer with weights beside its PyTorch twin.
`copy_weights` and `compare` use its list. What can't be paired is refused before anything changes.
Chapter 1 does by hand, for one small network, what this module does for any.
"""

import contextlib
import html
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import torch
from keras import layers
from torch import Tensor, nn

__all__ = ["Pair", "ParityError", "Report", "compare", "copy_weights", "float64", "pair"]

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""About a hundred roundings in float32, a few thousand in float64."""


class ParityError(ValueError):
    """The two models can't be paired or compared: the message names the layer. Nothing changed."""


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Within it both frameworks build and compute in float64, on the CPU.

    Keras' own setting is not enough: on this backend its type promotion answers float32 for two
    float64 operands, so Dense, BatchNormalization and the losses would round to float32 in silence.
    The one line that mends it touches a private table of Keras; it is checked, and undone after.
    """
    from keras.src.backend.common import dtypes

    table = getattr(dtypes, "BIT64_TO_BIT32_DTYPE", {})
    patch = keras.backend.result_type("float64", "float64") != "float64"
    before = keras.config.floatx(), keras.config.dtype_policy(), torch.get_default_dtype()
    entry = table.get("float64")
    if not patch:
        warnings.warn(
            f"Keras {keras.__version__} computes in float64 by itself: "
            "helpers.parity.float64 no longer needs its patch.",
            stacklevel=3,
        )
    try:
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        torch.set_default_dtype(torch.float64)
        if patch:
            table["float64"] = "float64"
        if keras.backend.result_type("float64", "float64") != "float64":
            raise RuntimeError(
                f"Keras {keras.__version__} can't be made to compute in float64: its table "
                "of types has moved. Use the version in constraints.txt."
            )
        with keras.device("cpu"), torch.device("cpu"):
            yield
    finally:
        if patch and entry is not None:
            table["float64"] = entry
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])
        torch.set_default_dtype(before[2])


# ---------------------------------------------------------------------------- pairing layers


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
_DROPOUT = (layers.Dropout, layers.SpatialDropout2D)
_WEIGHTLESS = (
    *_SPATIAL,
    *_DROPOUT,
    layers.InputLayer,
    layers.Flatten,
    layers.Activation,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Softmax,
)


def _keras_layers(model: Any) -> list[Any]:
    """The innermost layers of a Keras model, in order."""
    if not hasattr(model, "layers"):
        return [model]
    return [leaf for layer in model.layers for leaf in _keras_layers(layer)]


def _shape(layer: Any) -> tuple[int | None, ...]:
    """The shape of a layer's input, or () where the model was not built as a graph."""
    try:
        return tuple(layer.input.shape)
    except (AttributeError, ValueError):
        return ()


def _channels_last(model: Any) -> bool:
    """Whether a Keras model keeps its pictures as (height, width, channels)."""
    found = [layer.data_format for layer in _keras_layers(model) if isinstance(layer, _SPATIAL)]
    return (found or [keras.config.image_data_format()])[0] == "channels_last"


def _label(layer: Any, name: str = "") -> str:
    side = "Keras layer" if isinstance(layer, layers.Layer) else "PyTorch module"
    return f"{side} {name or layer.name!r} ({type(layer).__name__})"


@dataclass(frozen=True)
class _Twins:
    """A Keras layer with weights and the PyTorch module that answers it."""

    layer: Any
    name: str  # the module's
    module: nn.Module
    channels: int  # of the picture that was flattened just before, or 0


def _twins(keras_model: Any, torch_model: Any) -> list[_Twins]:
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
    found: list[_Twins] = []
    last = _channels_last(keras_model)
    picture = flat = 0  # channels of the picture so far; of the flattened one, until a Dense
    for layer in _keras_layers(keras_model):
        here = _label(layer)
        if not layer.built:
            raise ParityError(f"{here} is not built: call the model on a batch first.")
        if isinstance(layer, layers.Flatten):
            shape = _shape(layer)
            if len(shape) == 4:
                picture = shape[-1 if last else 1]
            channels_end = last or layer.data_format == "channels_first"
            flat = picture if channels_end and len(shape) in (0, 4) else 0
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
        found.append(_Twins(layer, name, module, flat))
        if isinstance(layer, layers.Conv2D):
            picture = layer.filters
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


def _weights(twins: _Twins) -> Iterator[Pair]:
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
    return [p for twins in _twins(keras_model, torch_model) for p in _weights(twins)]


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


# ------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Row:
    """One quantity, computed by both frameworks."""

    name: str
    size: float  # the largest absolute value in Keras
    difference: float  # the largest |difference|, over `size` where that exceeds 1
    tolerance: float

    @property
    def ok(self) -> bool:
        """True where the difference is a number within the tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Report:
    """What `compare` found. Prints as a table; `assert report.ok, report` states the claim."""

    rows: list[Row]
    dtype: str
    remarks: list[str]

    @property
    def ok(self) -> bool:
        """True where every row is within its tolerance."""
        return all(row.ok for row in self.rows)

    @property
    def worst(self) -> Row:
        """The row with the largest difference."""
        return max(
            self.rows, key=lambda row: math.inf if math.isnan(row.difference) else row.difference
        )

    def _cells(self) -> list[tuple[str, str, str, str]]:
        def cells(row: Row) -> tuple[str, str, str, str]:
            if not row.ok:
                return row.name, f"{row.size:.2g}", f"{row.difference:.1e}", "DIFFERENT"
            zero = row.size <= row.tolerance
            size = "0" if zero else f"{row.size:.2g}"
            return row.name, size, f"≤ {row.tolerance:.0e}", "both 0" if zero else "equal"

        return [cells(row) for row in self.rows]

    def _verdict(self) -> str:
        bad = sum(not row.ok for row in self.rows)
        if not bad:
            return f"All {len(self.rows)} equal in {self.dtype}."
        return (
            f"{bad} of {len(self.rows)} differ in {self.dtype}; "
            f"worst: {self.worst.name}, {self.worst.difference:.1e}."
        )

    def __str__(self) -> str:
        table = [("", "largest", "difference", ""), *self._cells()]
        width = max(len(cells[0]) for cells in table)
        lines = [f"{a:<{width}}  {b:>8}  {c:>10}  {d}".rstrip() for a, b, c, d in table]
        return "\n".join([*lines, self._verdict(), *self.remarks])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "<th>quantity</th><th>largest</th><th>difference</th><th>verdict</th>"
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in self._cells()
        )
        foot = "<br>".join(html.escape(line) for line in [self._verdict(), *self.remarks])
        return (
            f'<table class="parity"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            f"</table><p>{foot}</p>"
        )


def _row(name: str, ours: Tensor, theirs: Tensor, tolerance: float) -> Row:
    if ours.shape != theirs.shape:
        raise ParityError(
            f"The {name} have shape {tuple(ours.shape)} in Keras and {tuple(theirs.shape)} "
            "in PyTorch: the two networks end differently."
        )
    ours, theirs = ours.detach().cpu().double(), theirs.detach().cpu().double()
    size = ours.abs().max().item()
    return Row(name, size, (ours - theirs).abs().max().item() / max(1.0, size), tolerance)


def _remarks(keras_model: Any, torch_model: nn.Module) -> Iterator[str]:
    """One line for each silent setting that differs: where to look when a row does."""
    for twins in _twins(keras_model, torch_model):
        layer, module, settings = twins.layer, twins.module, []
        if hasattr(layer, "epsilon"):
            settings.append(("epsilon", layer.epsilon, module.eps))
        if isinstance(layer, layers.BatchNormalization):
            kept = module.momentum and round(1 - module.momentum, 12)
            settings.append(("momentum (what is kept)", layer.momentum, kept))
        if isinstance(layer, layers.Embedding):
            settings.append(("a row that never learns", None, module.padding_idx))
        for setting, ours, theirs in settings:
            if ours != theirs:
                yield f"{layer.name}: {setting} is {ours} in Keras, {theirs} in PyTorch."


@contextlib.contextmanager
def _untouched(keras_model: Any, torch_model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Within it Dropout is off; after it both models and the PyTorch optimiser are as before."""
    variables = [(v, v.value.detach().clone()) for v in keras_model.variables]
    state = {key: value.clone() for key, value in torch_model.state_dict().items()}
    undo = [(m, "training", m.training) for m in torch_model.modules()]
    undo += [(p, "grad", p.grad) for p in torch_model.parameters()]
    drops = [(x, "rate") for x in _keras_layers(keras_model) if isinstance(x, _DROPOUT)]
    drops += [
        (m, "p") for m in torch_model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)
    ]
    undo += [(x, key, getattr(x, key)) for x, key in drops]
    if optimizer:
        undo.append((optimizer, "state", optimizer.state))
        optimizer.state = defaultdict(dict)
    try:
        for x, key in drops:
            setattr(x, key, 0.0)
        yield
    finally:
        for variable, value in variables:
            variable.assign(value)
        torch_model.load_state_dict(state)
        for x, key, value in undo:
            setattr(x, key, value)


def _common_dtype(pairs: Sequence[Pair]) -> torch.dtype:
    if not pairs:
        raise ParityError("The two models have no weights: there is nothing to compare.")
    dtype = pairs[0].tensor.dtype
    for p in pairs:
        if not p.variable.value.dtype == p.tensor.dtype == dtype:
            raise ParityError(
                f"{p.name} is {p.variable.dtype} in Keras and {p.tensor.dtype} in PyTorch: "
                "build both models with the same dtype."
            )
    return dtype


def compare(
    keras_model: Any,
    torch_model: nn.Module,
    x: Any,
    y: Any = None,
    *,
    loss: tuple[Callable, Callable] | None = None,
    optimizers: tuple[Any, torch.optim.Optimizer] | None = None,
    steps: int = 0,
    batch_size: int | None = None,
    tolerance: float | None = None,
) -> Report:
    """Compare two paired models on a batch: outputs, loss, gradients, and training.

    `x` has the Keras model's shape; pictures (N, height, width, channels) are turned to channels
    first for PyTorch. `loss` is a pair: Keras' is called with (y, outputs), PyTorch's with
    (outputs, y). With `optimizers`, a pair too, both models take `steps` steps on consecutive
    batches of `batch_size` (default: all of `x`), with fresh optimisers of these settings, and
    every weight is compared after. Dropout is off throughout. Models and optimisers are left as
    they were.
    """
    pairs = pair(keras_model, torch_model)
    trained = [p for p in pairs if p.trainable]
    dtype = _common_dtype(pairs)
    kind = str(dtype).removeprefix("torch.")
    tolerance = TOLERANCE[kind] if tolerance is None else tolerance
    optimizer = optimizers[1] if optimizers else None
    if keras.backend.result_type(kind, kind) != kind:  # its answer may still call itself float64
        raise ParityError(f"Keras rounds {kind} products here: compare within `parity.float64()`.")
    if steps and not (loss and optimizers):
        raise ParityError("To compare training, give a loss and an optimiser for each model.")
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    for p in trained:
        if optimizer and id(p.tensor) not in held:
            raise ParityError(f"The PyTorch optimiser does not hold the weight {p.name}.")

    def tensor(values: Any) -> Tensor:
        values = torch.as_tensor(values, device=pairs[0].tensor.device)
        return values.to(dtype if values.is_floating_point() else torch.int64)

    x = tensor(x)
    y = None if y is None else tensor(y)
    if not len(x):
        raise ParityError("The batch is empty: give at least one example.")
    turned = x.ndim == 4 and _channels_last(keras_model)

    def outputs(part: slice = slice(None), training: bool = True) -> tuple[Tensor, Tensor]:
        torch_model.train(training)
        ours = keras_model(x[part], training=training)
        theirs = torch_model(x[part].permute(0, 3, 1, 2) if turned else x[part])
        return ours, theirs.permute(0, 2, 3, 1) if turned and theirs.ndim == 4 else theirs

    def losses(part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        ours, theirs = outputs(part)
        _row("outputs", ours, theirs, tolerance)  # refuses shapes that differ
        both = loss[0](y[part], ours), loss[1](theirs, y[part])
        if both[0].ndim or both[1].ndim:
            raise ParityError("A loss must be one number: give one that averages over the batch.")
        if both[0].dtype != dtype:
            raise ParityError(f"The Keras loss answers in {both[0].dtype}: make it in {kind} too.")
        return both

    def gradients(ours: Tensor, theirs: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        found = []
        weights = [p.variable.value for p in trained], [p.tensor for p in trained]
        for value, inputs in zip((ours, theirs), weights, strict=True):
            try:
                found.append(torch.autograd.grad(value, inputs, materialize_grads=True))
            except RuntimeError as error:
                raise ParityError(
                    f"PyTorch can't give the gradients in {kind}: {error}."
                ) from error
        return tuple(found)

    with _untouched(keras_model, torch_model, optimizer):
        rows = [_row("outputs", *outputs(training=False), tolerance)]
        if any(
            isinstance(layer, layers.BatchNormalization) for layer in _keras_layers(keras_model)
        ):
            rows.append(_row("outputs in training", *outputs(), tolerance))
        if loss:
            both = losses()
            rows.append(_row("loss", *both, tolerance))
            for p, ours, theirs in zip(trained, *gradients(*both), strict=True):
                rows.append(_row(f"gradient {p.name}", ours, p.to_keras(theirs), tolerance))
    if steps:
        with _untouched(keras_model, torch_model, optimizer):
            fresh, history = type(optimizers[0]).from_config(optimizers[0].get_config()), []
            size = batch_size or len(x)
            for step in range(steps):
                start = step * size % len(x)
                both = losses(slice(start, start + size))
                ours, theirs = gradients(*both)
                with torch.no_grad():
                    fresh.apply(ours, [p.variable for p in trained])
                for p, gradient in zip(trained, theirs, strict=True):
                    p.tensor.grad = gradient
                optimizer.step()
                history.append(torch.stack([value.detach() for value in both]))
            ours, theirs = torch.stack(history).T
            rows.append(_row(f"loss at each of {steps} steps", ours, theirs, tolerance))
            for p in pairs:
                after = p.variable.value, p.to_keras(p.tensor)
                rows.append(_row(f"{p.name} after {steps} step{'s' * (steps > 1)}", *after, tolerance))
    return Report(rows, kind, list(_remarks(keras_model, torch_model)))
