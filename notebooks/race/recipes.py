"""The runners of chapter 14's race to 99 %: our network, and two that everybody copies.

A runner is a generator function: it takes pictures (N, 28, 28) and labels (N,), both uint8, and a
seed, builds its model, and after each epoch it yields a function that takes pictures and returns
logits or probabilities (N, 10). Its arguments are those of its recipe, all spelled out.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch
import torch.nn.functional as F
from keras import layers
from torch import Tensor, nn

from race import fast_keras

__all__ = [
    "RUNNERS",
    "examples_torch",
    "keras_io",
    "make_keras_model",
    "make_torch_model",
    "ours_in_keras",
    "ours_in_keras_as_it_comes",
    "ours_in_torch",
    "triangle",
]

Predict = Callable[[np.ndarray], np.ndarray]
Runner = Callable[[np.ndarray, np.ndarray, int], Iterator[Predict]]

MEAN, STD = 0.1307, 0.3081  # of the training pictures' ink
LR, WARM_UP, WEIGHT_DECAY, SMOOTHING = 0.02, 0.3, 0.01, 0.1
BATCH_SIZE = 256


def standard(x: np.ndarray) -> np.ndarray:
    """Pictures (N, 28, 28) of 0 to 255 as (N, 28, 28, 1), with mean 0 and standard deviation 1."""
    return ((x[..., None] / np.float32(255) - np.float32(MEAN)) / np.float32(STD)).astype("float32")


def triangle(step: int, steps: int) -> float:
    """The share of the learning rate at a step: up in a straight line, then down to zero."""
    return min((step + 1) / (WARM_UP * steps), (steps - 1 - step) / ((1 - WARM_UP) * steps))


def make_keras_model(kind: Any = layers, model: Any = keras.Sequential) -> keras.Model:
    """The network of the race from Keras' layers, or from the faster ones of `fast_keras`."""
    norm = {"momentum": 0.9, "epsilon": 1e-5}
    return model(
        [
            keras.Input((28, 28, 1)),
            kind.Conv2D(16, 5, strides=2, use_bias=False),
            kind.BatchNormalization(**norm),
            layers.ReLU(),
            kind.Conv2D(32, 3, padding="same", use_bias=False),
            kind.MaxPooling2D(2),
            kind.BatchNormalization(**norm),
            layers.ReLU(),
            kind.Conv2D(64, 3, padding="same", use_bias=False),
            kind.MaxPooling2D(2),
            kind.BatchNormalization(**norm),
            layers.ReLU(),
            kind.Conv2D(64, 3, padding="same", use_bias=False),
            kind.BatchNormalization(**norm),
            layers.ReLU(),
            layers.Flatten(),
            kind.Dense(10),
        ]
    )


def make_torch_model() -> nn.Sequential:
    """The network of the race from PyTorch's modules."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(576, 10),
    )


def _in_batches(x: Tensor, forward: Callable[[Tensor], Tensor]) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([forward(part).numpy() for part in x.split(1000)])


def _train(
    forward: Callable[[Tensor], Tensor],
    parameters: list[nn.Parameter],
    x: Tensor,
    y: Tensor,
    seed: int,
    epochs: int,
) -> Iterator[None]:
    """The loop of our recipe, the same for both frameworks; it yields after each epoch."""
    steps = math.ceil(len(x) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: max(0.0, triangle(step, epochs * steps))
    )
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        for rows in order.split(BATCH_SIZE):
            loss = F.cross_entropy(forward(x[rows]), y[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        yield


def ours_in_torch(
    x_train: np.ndarray, y_train: np.ndarray, seed: int, epochs: int = 1
) -> Iterator[Predict]:
    """Our network in PyTorch, in the memory format channels_last."""
    torch.manual_seed(seed)
    model = make_torch_model().to(memory_format=torch.channels_last)

    def pictures(x: np.ndarray) -> Tensor:
        return torch.from_numpy(standard(x)).permute(0, 3, 1, 2)

    def predict(x: np.ndarray) -> np.ndarray:
        model.eval()
        outputs = _in_batches(pictures(x), model)
        model.train()
        return outputs

    y = torch.from_numpy(y_train).long()
    for _ in _train(model, list(model.parameters()), pictures(x_train), y, seed, epochs):
        yield predict


def ours_in_keras(
    x_train: np.ndarray, y_train: np.ndarray, seed: int, epochs: int = 1
) -> Iterator[Predict]:
    """Our network in Keras, from layers that copy nothing, in the same loop."""
    keras.utils.set_random_seed(seed)
    model = make_keras_model(fast_keras, fast_keras.Sequential)
    parameters = [weight.value for weight in model.trainable_weights]

    def forward(x: Tensor) -> Tensor:
        return model.call(x, training=True)

    def predict(x: np.ndarray) -> np.ndarray:
        return _in_batches(torch.from_numpy(standard(x)), lambda part: model(part, training=False))

    x, y = torch.from_numpy(standard(x_train)), torch.from_numpy(y_train).long()
    for _ in _train(forward, parameters, x, y, seed, epochs):
        yield predict


@keras.saving.register_keras_serializable("race")
class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """`triangle` as a schedule of Keras."""

    def __init__(self, lr: float, steps: int) -> None:
        self.lr, self.steps = lr, steps

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        up = (step + 1) / (WARM_UP * self.steps)
        down = (self.steps - 1 - step) / ((1 - WARM_UP) * self.steps)
        return self.lr * keras.ops.maximum(0.0, keras.ops.minimum(up, down))

    def get_config(self) -> dict:
        return {"lr": self.lr, "steps": self.steps}


def ours_in_keras_as_it_comes(
    x_train: np.ndarray, y_train: np.ndarray, seed: int, epochs: int = 1
) -> Iterator[Predict]:
    """Our network in Keras, from its own layers, optimiser and `fit`."""
    keras.utils.set_random_seed(seed)
    model = make_keras_model()
    steps = epochs * math.ceil(len(x_train) / BATCH_SIZE)
    model.compile(
        optimizer=keras.optimizers.AdamW(Triangle(LR, steps), weight_decay=WEIGHT_DECAY),
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=SMOOTHING),
    )
    x, y = standard(x_train), keras.utils.to_categorical(y_train, 10)
    for _ in range(epochs):
        model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        yield lambda x: model.predict(standard(x), batch_size=1000, verbose=0)


def keras_io(
    x_train: np.ndarray, y_train: np.ndarray, seed: int, epochs: int = 15
) -> Iterator[Predict]:
    """The network and the settings of the first convolutional example on keras.io."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    kept = len(x_train) * 9 // 10  # it validates on the last tenth: we do without, in its favour
    x = x_train[:kept, ..., None].astype("float32") / 255
    y = keras.utils.to_categorical(y_train[:kept], 10)
    for _ in range(epochs):
        model.fit(x, y, batch_size=128, verbose=0)
        yield lambda x: model.predict(
            x[..., None].astype("float32") / 255, batch_size=1000, verbose=0
        )


class ExampleNet(nn.Module):
    """The MNIST network of PyTorch's examples."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Sequential(
            nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(128, 10), nn.LogSoftmax(1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def examples_torch(
    x_train: np.ndarray, y_train: np.ndarray, seed: int, epochs: int = 14
) -> Iterator[Predict]:
    """The network and the settings of PyTorch's MNIST example; the batches lie ready in memory."""
    torch.manual_seed(seed)
    model = ExampleNet()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    x = torch.from_numpy(standard(x_train)).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(y_train).long()

    def predict(x: np.ndarray) -> np.ndarray:
        model.eval()
        return _in_batches(torch.from_numpy(standard(x)).permute(0, 3, 1, 2).contiguous(), model)

    for _ in range(epochs):
        model.train()
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            F.nll_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
        scheduler.step()
        yield predict


RUNNERS: dict[str, Runner] = {
    "keras.io's example": keras_io,
    "PyTorch's example": examples_torch,
    "ours, Keras as it comes": ours_in_keras_as_it_comes,
    "ours, Keras": ours_in_keras,
    "ours, PyTorch": ours_in_torch,
}
