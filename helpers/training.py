"""The training loop of chapter 7 for PyTorch, with a history and a progress bar like Keras' own.

`Batches` and `epoch_order` were first built in chapter 6: the same batches in the same order for
both frameworks. The loop, its measures and what stands in its history were built in chapter 7.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Batches", "accuracy", "epoch_order", "evaluate", "fit", "predict", "tell"]

Metric = Callable[[Tensor, Tensor], Tensor]
"""Takes the outputs and the labels of a batch; gives one number, its mean over the batch."""


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of `n` examples in one epoch: shape (n,). Depends on the three arguments alone."""
    return np.random.default_rng([seed, epoch, 1]).permutation(n)


class Batches(keras.utils.PyDataset):
    """Arrays cut into batches, the same ones in both frameworks; the last may be smaller.

    `x` (N, ...) and `y` (N, ...) are arrays or CPU tensors. With a `seed`, each epoch has the order
    that `epoch_order` gives for the attribute `epoch`; without one, the order is that of the
    arrays. `fit` below sets `epoch`; to a Keras `fit` give `shuffle=False, callbacks=[tell(...)]`.
    """

    def __init__(self, x: Any, y: Any, batch_size: int, seed: int | None = None) -> None:
        super().__init__()
        if len(x) != len(y):
            raise ValueError(f"{len(x)} examples and {len(y)} labels: give one label an example.")
        if batch_size < 1 or not len(x):
            raise ValueError(
                f"{len(x)} examples in batches of {batch_size}: give at least one of each."
            )
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.seed, self.epoch = seed, 0
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        if not 0 <= i < len(self):
            raise IndexError(f"There are {len(self)} batches: no batch {i}.")
        rows: Any = slice(i * self.batch_size, (i + 1) * self.batch_size)
        if self.seed is not None:
            if self._order is None or self._order[0] != self.epoch:
                self._order = self.epoch, epoch_order(len(self.x), self.seed, self.epoch)
            rows = self._order[1][rows]
        return self.x[rows], self.y[rows]


def tell(batches: Batches) -> keras.callbacks.Callback:
    """A Keras callback that tells `batches` which epoch begins."""

    def begin(epoch: int, logs: Any) -> None:
        batches.epoch = epoch

    return keras.callbacks.LambdaCallback(on_epoch_begin=begin)


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """The share of examples whose largest logit is the label's: logits (N, C), labels (N,)."""
    if logits.ndim != 2 or y.shape != logits.shape[:1]:
        raise ValueError(
            f"accuracy takes logits (N, C) and labels (N,), not {tuple(logits.shape)} and "
            f"{tuple(y.shape)}: give `metrics` of your own, or metrics={{}} for none."
        )
    return (logits.argmax(1) == y).to(_wide(logits)).mean()


def _wide(value: Tensor) -> torch.dtype:
    """The widest floating type that the tensor's device has."""
    return torch.float32 if value.device.type == "mps" else torch.float64


def _tensor(value: Any, device: torch.device) -> Tensor:
    """An array or tensor as a tensor on the device; what PyTorch can't share is copied."""
    if isinstance(value, np.ndarray):
        value = np.require(value, requirements=["C", "W"])
    return torch.as_tensor(value, device=device)


def _inputs(x: Any, model: nn.Module) -> Tensor:
    """The inputs on the model's device; a TypeError where its parameters have another type."""
    x = _tensor(x, _device(model))
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
    if x.is_floating_point() and x.dtype != wanted:
        raise TypeError(
            f"The inputs are {x.dtype}, the model's parameters {wanted}: convert one, "
            "as in x.astype('float32')."
        )
    return x


class _Means:
    """Means over examples, summed on the device: no value is fetched before it is asked for."""

    def __init__(self) -> None:
        self.n = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor], n: int) -> None:
        self.n += n
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + n * value.detach().to(_wide(value))

    def read(self) -> dict[str, float]:
        if not self.n:
            raise ValueError(
                "No batch came: give at least one, and a list rather than a generator."
            )
        return {name: total.item() / self.n for name, total in self.sums.items()}


class _Bar:
    """Keras' own progress bar over one epoch, and the means that it shows."""

    def __init__(self, steps: int | None, verbose: int) -> None:
        self.means, self.step, self.drawn, self.verbose = _Means(), 0, -math.inf, verbose
        self.bar = keras.utils.Progbar(steps, verbose=verbose, stateless_metrics=())

    def add(self, values: Mapping[str, Tensor], n: int) -> None:
        self.means.add(values, n)
        self.step += 1
        if self.verbose == 1 and time.monotonic() - self.drawn > self.bar.interval:
            self.bar.update(self.step, list(self.means.read().items()), finalize=False)
            self.drawn = time.monotonic()

    def end(self, logs: Mapping[str, float]) -> None:
        self.bar.target = self.step
        self.bar.update(self.step, list(logs.items()), finalize=True)


def _call(model: nn.Module, x: Any) -> Tensor:
    """The outputs for a batch. A Keras model is told its mode: `train()` does not reach it."""
    x = _inputs(x, model)
    if isinstance(model, keras.layers.Layer):
        return model(x, training=model.training)
    return model(x)


def _measure(logits: Tensor, y: Tensor, loss_fn: Metric, metrics: Mapping[str, Metric]) -> tuple:
    """The loss of a batch, and everything that the history shows of it, in Keras' order."""
    loss = loss_fn(logits, y)
    if loss.ndim:
        raise ValueError(
            f"loss_fn gave a tensor of shape {tuple(loss.shape)}, not one number: use the mean "
            "over the batch."
        )
    with torch.no_grad():
        return loss, {name: metric(logits, y) for name, metric in metrics.items()} | {"loss": loss}


def _device(model: nn.Module) -> torch.device:
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("The model has no parameters: a Keras model must be built first.")
    return parameter.device


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients; after it every module has the mode that it had before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def evaluate(
    model: nn.Module,
    batches: Iterable,
    loss_fn: Metric,
    metrics: Mapping[str, Metric] | None = None,
) -> dict[str, float]:
    """The mean loss and metrics over all examples, in evaluation mode."""
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    device, means = _device(model), _Means()
    with _evaluating(model):
        for x, y in batches:
            values = _measure(_call(model, x), _tensor(y, device), loss_fn, metrics)[1]
            means.add(values, len(x))
    return means.read()


def predict(model: nn.Module, x: Any, batch_size: int = 256) -> np.ndarray:
    """The model's outputs (N, ...) for the inputs `x` (N, ...), in evaluation mode."""
    _device(model)
    if not len(x):
        raise ValueError("x is empty: there is nothing to predict.")
    parts = []
    with _evaluating(model):
        for i in range(0, len(x), batch_size):
            parts.append(_call(model, x[i : i + batch_size]).cpu().numpy())
    return np.concatenate(parts)


def _check(
    model: nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any, initial: int, epochs: int
) -> None:
    ours = {id(parameter) for parameter in model.parameters()}
    if not any(id(p) in ours for group in optimizer.param_groups for p in group["params"]):
        raise ValueError(
            "The optimizer holds none of this model's parameters: make it with "
            "model.parameters(), after the model is built and moved to its device."
        )
    if not 0 <= initial <= epochs:
        raise ValueError(
            f"initial_epoch={initial} and epochs={epochs}: `epochs` is where training ends, "
            "counted from the very first epoch."
        )
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        raise ValueError(
            "ReduceLROnPlateau needs the loss of an epoch: call its step(logs['val_loss']) in "
            "on_epoch_end. A scheduler given to `fit` is stepped after each batch."
        )


def fit(
    model: nn.Module,
    batches: Iterable,
    *,
    optimizer: torch.optim.Optimizer,
    loss_fn: Metric,
    epochs: int = 1,
    initial_epoch: int = 0,
    validation: Iterable | None = None,
    metrics: Mapping[str, Metric] | None = None,
    scheduler: Any = None,
    on_epoch_end: Callable[[int, dict[str, float]], Any] | None = None,
    verbose: int = 1,
) -> keras.callbacks.History:
    """Train `model` on `batches`, pairs (x, y), and return a history like that of Keras' `fit`.

    `batches` and `validation` may be `Batches`, a DataLoader or a list. What has an attribute
    `epoch`, or a sampler that has one, is told the epoch. `loss_fn(logits, y)` is one number.
    As in Keras, `loss` and the `metrics` (accuracy, unless told otherwise) are means over the
    examples of an epoch, each taken just before the step that learns from it; `val_loss` and the
    like are taken after the epoch, in evaluation mode. `scheduler.step()` is called after each
    step, `on_epoch_end(epoch, logs)` after each epoch, in evaluation mode: where it returns True,
    training ends.
    `epochs` is where training ends, so that a run resumed at `initial_epoch` is its own
    continuation. `verbose` is 0 for silence, 1 for a progress bar, 2 for a line an epoch.
    Each epoch begins with `model.train()`, which wakes frozen layers too; the model is left in
    evaluation mode.
    """
    metrics = {"accuracy": accuracy} if metrics is None else metrics
    device = _device(model)
    _check(model, optimizer, scheduler, initial_epoch, epochs)
    steps = len(batches) if hasattr(batches, "__len__") else None
    history = keras.callbacks.History()
    history.set_params({"verbose": verbose, "epochs": epochs, "steps": steps})
    history.on_train_begin()
    try:
        for epoch in range(initial_epoch, epochs):
            for listener in (batches, getattr(batches, "sampler", None)):
                if hasattr(listener, "epoch"):
                    listener.epoch = epoch
            if verbose and epochs > 1:
                print(f"Epoch {epoch + 1}/{epochs}", flush=True)
            bar = _Bar(steps, verbose)
            model.train()
            for x, y in batches:
                optimizer.zero_grad()
                loss, values = _measure(_call(model, x), _tensor(y, device), loss_fn, metrics)
                loss.backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                bar.add(values, len(x))
            model.eval()
            logs = bar.means.read()
            if validation is not None:
                values = evaluate(model, validation, loss_fn, metrics)
                logs |= {f"val_{name}": value for name, value in values.items()}
            bar.end(logs)
            history.epoch.append(epoch)
            for name, value in logs.items():
                history.history.setdefault(name, []).append(value)
            if on_epoch_end is not None and on_epoch_end(epoch, logs):
                break
    finally:
        model.eval()
    return history
