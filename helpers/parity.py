"""Prove a Keras model and a PyTorch module to be the same network: outputs, gradients, training.

Chapter 1 does by hand, for one small network, what this module does for any. `helpers.kinds` has
a table of the layers that it knows, and says which weight answers which.
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
import torch
from keras import layers
from torch import Tensor, nn

from helpers.pairing import (
    DROPOUT,
    Pair,
    ParityError,
    channels_last,
    copy_weights,
    keras_layers,
    pair,
    sequences_turned,
    twin_layers,
)

__all__ = ["ParityError", "Report", "compare", "copy_weights", "float64", "pair"]

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
"""About a hundred roundings in float32, a few thousand in float64."""


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Within it both frameworks build and compute in float64, on the CPU.

    Keras' own setting is not enough: on this backend its type promotion answers float32 for two
    float64 operands, so Dense, BatchNormalization and the losses would round to float32 in silence.
    The one line that mends it touches a private table of Keras; it is checked, and undone after.
    """
    from keras.src.backend.common import dtypes

    if keras.config.floatx() == "float64" and torch.get_default_dtype() == torch.float64:
        yield  # within it already
        return
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


@dataclass(frozen=True)
class Row:
    """One quantity, computed by both frameworks."""

    name: str
    size: float  # the largest absolute value in either
    difference: float  # the largest |difference|, as a part of `size`
    tolerance: float
    negligible: bool = False  # next to its like, both are zero but for rounding

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
            size, verdict = ("≈ 0", "both ≈ 0") if row.negligible else (f"{row.size:.2g}", "equal")
            return row.name, size, f"≤ {row.tolerance:.0e}", verdict

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
        body = ""
        for row, cells in zip(self.rows, self._cells(), strict=True):
            *plain, verdict = (f"<td>{html.escape(cell)}</td>" for cell in cells)
            verdict = verdict.replace("<td>", f'<td class="{"pass" if row.ok else "fail"}">')
            body += f"<tr>{''.join(plain)}{verdict}</tr>"
        foot = "<br>".join(html.escape(line) for line in [self._verdict(), *self.remarks])
        return (
            f'<table class="parity"><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
            f"</table><p>{foot}</p>"
        )


def _rows(named: dict[str, tuple[Tensor, Tensor]], tolerance: float) -> list[Row]:
    """A row for each name and its values in Keras and in PyTorch.

    A difference counts as a part of the largest value, of its own row or, where that is larger, of
    a thousandth of all these rows together: what should be zero is left with rounding of its like.
    """
    values = {
        name: tuple(value.detach().cpu().double() for value in both) for name, both in named.items()
    }
    sizes = {name: max(v.abs().max().item() for v in both) for name, both in values.items()}
    largest = max(sizes.values())
    rows = []
    for name, (ours, theirs) in values.items():
        gap = (ours - theirs).abs().max().item()
        difference = gap / max(sizes[name], largest / 1000) if gap else 0.0
        negligible = sizes[name] <= tolerance * largest / 1000
        rows.append(Row(name, sizes[name], difference, tolerance, negligible))
    return rows


def _remarks(keras_model: Any, torch_model: nn.Module, pairs: Sequence[Pair]) -> Iterator[str]:
    """One line for each silent setting that differs: where to look when a row does."""
    for twins in twin_layers(keras_model, torch_model):
        layer, module, settings = twins.layer, twins.module, []
        if hasattr(layer, "epsilon"):
            settings.append(("epsilon", layer.epsilon, module.eps))
        if isinstance(layer, layers.BatchNormalization):
            kept = module.momentum and round(1 - module.momentum, 12)
            settings.append(("momentum (what is kept)", layer.momentum, kept))
        if isinstance(layer, layers.Embedding):
            settings.append(("a row that never learns", None, module.padding_idx))
            settings.append(("masking of index 0", layer.mask_zero, False))
        if hasattr(module, "batch_first"):
            settings.append(("batch first", True, module.batch_first))
        for setting, ours, theirs in settings:
            if ours != theirs:
                yield f"{layer.name}: {setting} is {ours} in Keras, {theirs} in PyTorch."
    for p in pairs:
        if p.second is not None and p.second.requires_grad:
            yield (
                f"{p.name}: one bias learns in Keras and two in PyTorch, which go twice as far. "
                "Freeze PyTorch's second: requires_grad_(False)."
            )


@contextlib.contextmanager
def _untouched(keras_model: Any, torch_model: nn.Module, optimizer: Any) -> Iterator[None]:
    """Within it Dropout is off; after it both models and the PyTorch optimiser are as before."""
    variables = [(v, v.value.detach().clone()) for v in keras_model.variables]
    state = {key: value.clone() for key, value in torch_model.state_dict().items()}
    undo = [(m, "training", m.training) for m in torch_model.modules()]
    undo += [(p, "grad", p.grad) for p in torch_model.parameters()]
    drops = _dropout(keras_model, torch_model)
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
    if str(dtype).removeprefix("torch.") not in TOLERANCE:
        raise ParityError(f"The models are {dtype}: parity compares float32 and float64.")
    return dtype


def _dropout(keras_model: Any, torch_model: nn.Module) -> list[tuple[Any, str]]:
    """The layers that drop, in both models, with the name of their rate."""
    ours, theirs = [], []
    for layer in keras_layers(keras_model):
        if isinstance(layer, (*DROPOUT, layers.MultiHeadAttention)):
            ours.append((getattr(layer, "_dropout_layer", layer), "rate"))
    for module in torch_model.modules():
        if isinstance(module, (nn.modules.dropout._DropoutNd, nn.MultiheadAttention)):
            theirs.append((module, "dropout" if hasattr(module, "dropout") else "p"))
    rates = [[rate for x, key in side if (rate := getattr(x, key))] for side in (ours, theirs)]
    if rates[0] != rates[1]:
        raise ParityError(
            f"Dropout rates are {rates[0]} in Keras and {rates[1]} in PyTorch: the two models "
            "train differently."
        )
    return ours + theirs


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
    first for PyTorch, and so are sequences (N, length, channels) where the model begins with a
    Conv1D. `loss` is a pair: Keras' is called with (y, outputs), PyTorch's with
    (outputs, y); penalties of Keras layers (regularisers) count, as in `fit`. With `optimizers`, a
    pair too, both models take `steps` steps on consecutive batches of `batch_size` (default: all of
    `x`), with fresh optimisers of these settings, and every weight is compared after. Dropout is
    off throughout. Models and optimisers are left as they were. Only what `x` reaches is compared:
    a unit that no example wakes has no gradient in either framework. A gradient that is 0 in theory
    (of a bias before BatchNormalization, of the bias of attention's keys) is rounding in both, and
    may need a wider `tolerance`.
    """
    pairs = pair(keras_model, torch_model)
    trained = [p for p in pairs if p.trainable]
    dtype = _common_dtype(pairs)
    kind = str(dtype).removeprefix("torch.")
    tolerance = TOLERANCE[kind] if tolerance is None else tolerance
    if keras.backend.result_type(kind, kind) != kind:  # its answer may still call itself float64
        raise ParityError(f"Keras rounds {kind} products here: compare within `parity.float64()`.")
    if bool(optimizers) != (steps > 0) or (steps and not loss):
        raise ParityError("To compare training, give a loss and an optimiser for each, and steps.")
    if loss and y is None:
        raise ParityError("To compare a loss, give the labels y.")
    optimizer = optimizers[1] if optimizers else None
    held = {id(p) for group in getattr(optimizer, "param_groups", ()) for p in group["params"]}
    for p in trained:
        if optimizer and id(p.tensor) not in held:
            raise ParityError(f"The PyTorch optimiser does not hold the weight {p.name}.")

    def tensor(values: Any) -> Tensor:
        values = torch.as_tensor(values, device="cpu")  # float64 can't reach every device
        values = values.to(dtype if values.is_floating_point() else torch.int64)
        return values.to(pairs[0].tensor.device)

    x = tensor(x)
    y = None if y is None else tensor(y)
    if not len(x):
        raise ParityError("The batch is empty: give at least one example.")
    turned = x.ndim == 4 and channels_last(keras_model)
    begins, ends = sequences_turned(keras_model)

    def to_torch(part: Tensor) -> Tensor:
        if turned or (begins and part.ndim == 3):
            # A copy, as a batch is: on a view, GroupNorm's gradient crashes PyTorch 2.13 (CPU).
            part = part.movedim(-1, 1).contiguous()
        return part

    def to_keras(theirs: Tensor, shape: torch.Size) -> Tensor:
        rows = ends and theirs.ndim == 3 and theirs.movedim(1, -1).shape == shape
        return theirs.movedim(1, -1) if rows or (turned and theirs.ndim == 4) else theirs

    def outputs(part: slice = slice(None), training: bool = True) -> tuple[Tensor, Tensor]:
        torch_model.train(training)
        ours = keras_model(x[part], training=training)
        theirs = torch_model(to_torch(x[part]))
        if not isinstance(ours, Tensor) or not isinstance(theirs, Tensor):
            raise ParityError(
                "A model has several outputs: parity compares models with one. Where PyTorch's is "
                "recurrent or attention, give a module whose forward returns what Keras returns."
            )
        theirs = to_keras(theirs, ours.shape)
        if ours.shape != theirs.shape:
            raise ParityError(
                f"The outputs have shape {tuple(ours.shape)} in Keras and {tuple(theirs.shape)} "
                "in PyTorch: the two networks end differently."
            )
        return ours, theirs

    def losses(part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        ours, theirs = outputs(part)
        both = loss[0](y[part], ours), loss[1](theirs, y[part])
        if both[0].ndim or both[1].ndim:
            raise ParityError("A loss must be one number: give one that averages over the batch.")
        if both[0].dtype != dtype:
            raise ParityError(f"The Keras loss answers in {both[0].dtype}: make it in {kind} too.")
        return both[0] + sum(keras_model.losses), both[1]

    variables = {id(p.variable): p.variable for p in trained}
    tensors = {id(t): t for p in trained for t in (p.tensor, p.second) if t is not None}
    tensors = {key: t for key, t in tensors.items() if t.requires_grad}

    def gradients(ours: Tensor, theirs: Tensor) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        found = []
        weights = {key: v.value for key, v in variables.items()}, tensors
        for value, inputs in zip((ours, theirs), weights, strict=True):
            try:
                slopes = torch.autograd.grad(value, list(inputs.values()), materialize_grads=True)
            except RuntimeError as error:
                raise ParityError(
                    f"PyTorch can't give the gradients in {kind}: {error}."
                ) from error
            found.append(dict(zip(inputs, slopes, strict=True)))
        return tuple(found)

    with _untouched(keras_model, torch_model, optimizer):
        rows = _rows({"outputs": outputs(training=False)}, tolerance)
        if any(isinstance(layer, layers.BatchNormalization) for layer in keras_layers(keras_model)):
            rows += _rows({"outputs in training": outputs()}, tolerance)
        if loss:
            both = losses()
            rows += _rows({"loss": both}, tolerance)
            ours, theirs = gradients(*both)
            slopes = {
                p.name: (ours[id(p.variable)][p.part], p.to_keras(theirs[id(p.tensor)][p.rows]))
                for p in trained
            }
            rows += _rows({f"gradient {name}": both for name, both in slopes.items()}, tolerance)
    if steps:
        with _untouched(keras_model, torch_model, optimizer):
            history = _train(*optimizers, variables, tensors, losses, gradients, steps,
                             batch_size or len(x), len(x))  # fmt: skip
            after = f"after {steps} step{'s' * (steps > 1)}"
            rows += _rows({f"loss at each of {steps} steps": history}, tolerance)
            rows += _rows(
                {f"{p.name} {after}": (p.in_keras, p.in_torch) for p in pairs},
                tolerance,
            )
    return Report(rows, kind, list(_remarks(keras_model, torch_model, pairs)))


def _train(
    keras_optimizer: Any,
    torch_optimizer: torch.optim.Optimizer,
    variables: dict[int, keras.Variable],
    tensors: dict[int, Tensor],
    losses: Callable,
    gradients: Callable,
    steps: int,
    size: int,
    count: int,
) -> tuple[Tensor, Tensor]:
    """Train both models for `steps` steps. Return the loss before each step, in both."""
    fresh = type(keras_optimizer).from_config(keras_optimizer.get_config())
    for key, value in vars(keras_optimizer).items():
        if key.startswith("_exclude_from_weight_decay"):  # not in the config
            setattr(fresh, key, value)
    history = []
    for step in range(steps):
        start = step * size % count
        both = losses(slice(start, start + size))
        ours, theirs = gradients(*both)
        with torch.no_grad():
            fresh.apply(list(ours.values()), list(variables.values()))
        for key, gradient in theirs.items():
            tensors[key].grad = gradient
        torch_optimizer.step()
        history.append(torch.stack([value.detach() for value in both]))
    return tuple(torch.stack(history).T)
