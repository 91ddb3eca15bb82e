"""One small network in both frameworks, and the same mistakes put to both.

A fault is a call that asks for a loss. What it should have been is known from NumPy, which is
neither framework: so an answer is what was meant, or silently wrong, or an error with a message.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import torch
from keras import layers
from torch import nn
from torch.nn import functional as F

__all__ = ["FEATURES", "Answer", "Pair", "ask", "make_pair", "reference"]

FEATURES, CLASSES = 64, 5


@dataclass(frozen=True)
class Pair:
    """The same network twice, one batch for it, and the loss that NumPy finds."""

    keras_model: keras.Model
    torch_model: nn.Module
    x: np.ndarray  # (32, 64), float32 from 0 to 1
    y: np.ndarray  # (32,), whole numbers from 0 to 4
    weights: list[np.ndarray]  # kernel, bias, kernel, bias, as Keras has them
    meant: float

    def by_keras(self, x: np.ndarray, y: np.ndarray) -> float:
        """The loss as `evaluate` gives it."""
        return float(self.keras_model.evaluate(x, y, batch_size=32, verbose=0))

    def by_torch(self, x: np.ndarray, y: np.ndarray) -> float:
        """The loss of logits, as a loop would ask for it."""
        with torch.no_grad():
            logits = self.torch_model(torch.as_tensor(x))
            return F.cross_entropy(logits, torch.as_tensor(y)).item()


@dataclass(frozen=True)
class Answer:
    """What came back: `meant`, `wrong` (and silent) or `refused`; of an error, what it said."""

    kind: str
    error: str = ""
    message: str = ""

    def says(self, word: str) -> bool:
        """Whether the message has this name, or number, by itself: 63 is in 32x63, not in 163."""
        edge = r"\d" if word.isdigit() else r"\w"
        return bool(re.search(rf"(?<!{edge}){re.escape(word)}(?!{edge})", self.message))


def make_pair(seed: int = 0, hidden: int = 48) -> Pair:
    """Twins with the same weights: 64 numbers in, a layer `first`, ReLU, dropout, `second`."""
    rng = np.random.default_rng(seed)
    keras_model = keras.Sequential(
        [
            keras.Input(shape=(FEATURES,)),
            layers.Dense(hidden, name="first"),
            layers.ReLU(),
            layers.Dropout(0.5),
            layers.Dense(CLASSES, name="second"),
        ]
    )
    torch_model = nn.Sequential(
        OrderedDict(
            first=nn.Linear(FEATURES, hidden),
            relu=nn.ReLU(),
            dropout=nn.Dropout(0.5),
            second=nn.Linear(hidden, CLASSES),
        )
    ).eval()
    weights = [rng.normal(0, 0.3, w.shape).astype("float32") for w in keras_model.get_weights()]
    keras_model.set_weights(weights)
    with torch.no_grad():
        for parameter, value in zip(torch_model.parameters(), weights, strict=True):
            parameter.copy_(torch.as_tensor(value.T))
    keras_model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = rng.random((32, FEATURES), dtype="float32")
    y = rng.integers(0, CLASSES, 32)
    return Pair(keras_model, torch_model, x, y, weights, reference(weights, x, y))


def reference(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
    """The loss in NumPy, in float64: kernel, bias, kernel, bias as Keras has them."""
    W, b, V, c = (np.asarray(w, dtype="float64") for w in weights)
    logits = np.maximum(x @ W + b, 0) @ V + c
    logits -= logits.max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[range(len(y)), y]))


def ask(call: Callable[[], float], meant: float | None) -> Answer:
    """Make the call. `meant` is the right loss, or None where no answer is right.

    float32 rounds a loss of a few dozen products by some 1e-6; a hundred times that is a fault.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss = call()
    except Exception as error:
        return Answer("refused", type(error).__name__, str(error))
    if meant is not None and abs(loss - meant) <= 1e-4 * abs(meant):
        return Answer("meant")
    for warning in caught:
        if warning.category is UserWarning:  # a deprecation isn't about the call
            return Answer("refused", "UserWarning", str(warning.message))
    return Answer("wrong")
