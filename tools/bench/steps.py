"""A training step of the book's networks, in every way of chapters 1 to 8."""

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.bench.interleaved import Variant, interleave, ratios, table


def epoch_of_chapter_1() -> dict[str, Variant]:
    """One epoch of chapter 1's network: the explicit loop, then what Keras' ways to train cost."""
    import keras
    import numpy as np
    import torch
    from torch import nn

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 20)).astype("float32")
    y = rng.integers(0, 2, (600, 1)).astype("float32")
    batches = [slice(i, i + 20) for i in range(0, 600, 20)]

    net = nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    loss_fn, tx, ty = nn.BCEWithLogitsLoss(), torch.from_numpy(x), torch.from_numpy(y)

    def loop() -> None:
        for part in batches:
            optimizer.zero_grad()
            loss_fn(net(tx[part]), ty[part]).backward()
            optimizer.step()

    layers = [keras.layers.Dense(10), keras.layers.ReLU(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    model.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
    )
    return {
        "explicit loop (PyTorch)": loop,
        "train_on_batch (Keras)": lambda: [model.train_on_batch(x[p], y[p]) for p in batches],
        "fit (Keras)": lambda: model.fit(x, y, batch_size=20, shuffle=False, verbose=0),
    }


@dataclass(frozen=True)
class Step:
    """A way to train, with the model and the optimiser that it trains with."""

    model: Any
    optimizer: Any
    train: Variant

    def __call__(self) -> object:
        return self.train()


def _training_step(make_keras: Callable, make_torch: Callable, steps: int) -> dict[str, Step]:
    """Both frameworks' ways to train on the same `steps` batches of 128 pictures of 28x28.

    `fast_keras` stands for Keras with the layers of notebooks/race/fast_keras.py.
    """
    import keras
    import numpy as np
    import torch
    from race import fast_keras
    from torch import nn

    from helpers import device, training

    place = device.pick()
    rng = np.random.default_rng(0)
    nhwc = rng.normal(size=(128 * steps, 28, 28, 1)).astype("float32")
    nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
    y = rng.integers(0, 10, len(nhwc))
    keras_data, torch_data = (training.Batches(x, y, 128, seed=0) for x in (nhwc, nchw))
    loss_fn = nn.CrossEntropyLoss()

    def adam(model: nn.Module, fused: bool = False) -> torch.optim.Adam:
        return torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7, fused=fused)

    def loop(model: nn.Module, forward: Callable, data: training.Batches, fused: bool) -> Step:
        optimizer = adam(model, fused)

        def train() -> None:
            for x, labels in data:
                x, labels = torch.as_tensor(x, device=place), torch.as_tensor(labels, device=place)
                optimizer.zero_grad()
                loss_fn(forward(x), labels).backward()
                optimizer.step()
            next(model.parameters()).detach().sum().item()  # a GPU works on alone: wait for it

        return Step(model, optimizer, train)

    def torch_loop(fused: bool = False, format: Any = torch.contiguous_format) -> Step:
        model = make_torch().to(place, memory_format=format)
        return loop(model, lambda x: model(x.to(memory_format=format)), torch_data, fused)

    def keras_loop(data_format: str, fused: bool = False, laid_out: bool = False) -> Step:
        model = make_keras(data_format)
        if laid_out:
            fast_keras.lay_out(model)
        data = keras_data if data_format == "channels_last" else torch_data
        return loop(model, functools.partial(model, training=True), data, fused)

    def fast_loop(data_format: str) -> Step:
        model = make_keras(data_format, fast_keras, fast_keras.Sequential)
        data = keras_data if data_format == "channels_last" else torch_data
        return loop(model, functools.partial(model.call, training=True), data, fused=True)

    def helper(metrics: dict | None) -> Step:
        model = make_torch().to(place)
        optimizer = adam(model)
        return Step(
            model,
            optimizer,
            lambda: training.fit(
                model, torch_data, optimizer=optimizer, loss_fn=loss_fn, metrics=metrics, verbose=0
            ),
        )

    def fit(data_format: str, metrics: list[str]) -> Step:
        model = make_keras(data_format)
        model.compile(
            optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-7),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=metrics,
        )
        data = keras_data if data_format == "channels_last" else torch_data
        return Step(model, model.optimizer, lambda: model.fit(data, shuffle=False, verbose=0))

    class OwnStep(fast_keras.Sequential):
        def train_step(self, data: tuple) -> dict:
            x, labels = data
            optimizer.zero_grad()
            loss = loss_fn(self.call(x, training=True), labels)
            loss.backward()
            optimizer.step()
            return {"loss": loss.detach()}

    own = make_keras("channels_last", fast_keras, OwnStep)
    own.compile(loss=None)
    optimizer = adam(own, fused=True)

    def fit_own() -> None:
        own.fit(keras_data, shuffle=False, verbose=0)

    variants = {
        "explicit loop (PyTorch)": torch_loop(),
        "helpers.training, loss alone": helper({}),
        "helpers.training, and accuracy": helper(None),
        "explicit loop, fused Adam": torch_loop(fused=True),
        "fit (Keras), loss alone": fit("channels_last", []),
        "fit (Keras), and accuracy": fit("channels_last", ["accuracy"]),
        "explicit loop (Keras)": keras_loop("channels_last"),
        "explicit loop (Keras), fused Adam": keras_loop("channels_last", fused=True),
        "fit (fast_keras), own train_step, fused Adam": Step(own, optimizer, fit_own),
        "explicit loop (fast_keras), fused Adam": fast_loop("channels_last"),
    }
    if any(isinstance(module, nn.Conv2d) for module in make_torch().modules()):
        last = torch.channels_last
        variants |= {
            "explicit loop, channels_last": torch_loop(format=last),
            "explicit loop, channels_last, fused Adam": torch_loop(fused=True, format=last),
            "fit (Keras), channels_first": fit("channels_first", []),
            "explicit loop (Keras), channels_first, fused Adam": keras_loop("channels_first", True),
            "explicit loop (Keras), kernels laid out, fused Adam": keras_loop(
                "channels_first", fused=True, laid_out=True
            ),
            "explicit loop (fast_keras), channels_first, fused Adam": fast_loop("channels_first"),
        }
    return variants


PAIRS = {
    "as everybody writes it": ("fit (Keras), and accuracy", "explicit loop (PyTorch)"),
    "contiguous, Keras' own layers": (
        "explicit loop (Keras), channels_first, fused Adam",
        "explicit loop, fused Adam",
    ),
    "contiguous, fast_keras": (
        "explicit loop (fast_keras), channels_first, fused Adam",
        "explicit loop, fused Adam",
    ),
    "channels_last, Keras' own layers": (
        "explicit loop (Keras), kernels laid out, fused Adam",
        "explicit loop, channels_last, fused Adam",
    ),
    "channels_last, fast_keras": (
        "explicit loop (fast_keras), fused Adam",
        "explicit loop, channels_last, fused Adam",
    ),
}
"""What is compared with what: Keras' way over PyTorch's, at the same layout in memory."""


def over_torch(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """For each of PAIRS that was timed, and for the fastest of each: Keras' time over PyTorch's."""
    fastest = [
        min(
            (name for name in seconds if ("eras)" in name) == keras),
            key=lambda name: statistics.median(seconds[name]),
        )
        for keras in (True, False)
    ]
    found = {}
    for pair, (ours, theirs) in {**PAIRS, "the fastest of each": fastest}.items():
        if ours in seconds and theirs in seconds:
            found[pair] = ratios({theirs: seconds[theirs], ours: seconds[ours]})[ours]
    return found


def dense_twins() -> tuple[Callable, Callable]:
    """What builds chapter 7's network in Keras, for a data format, and in PyTorch."""
    import keras
    from keras import layers
    from torch import nn

    def make_keras(
        data_format: str, kit: Any = layers, sequential: type = keras.Sequential
    ) -> keras.Model:
        hidden = [kit.Dense(64), layers.ReLU(), kit.Dense(64), layers.ReLU()]
        return sequential([keras.Input((28, 28, 1)), layers.Flatten(), *hidden, kit.Dense(10)])

    def make_torch() -> nn.Module:
        hidden = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))

    return make_keras, make_torch


def convolutional_twins() -> tuple[Callable, Callable]:
    """What builds chapter 8's network in Keras, for a data format, and in PyTorch."""
    import keras
    from keras import layers
    from torch import nn

    def make_keras(
        data_format: str, kit: Any = layers, sequential: type = keras.Sequential
    ) -> keras.Model:
        def block(filters: int) -> list[layers.Layer]:
            return [
                kit.Conv2D(filters, 3, data_format=data_format),
                layers.ReLU(),
                kit.MaxPooling2D(2, data_format=data_format),
            ]

        shape = (28, 28, 1) if data_format == "channels_last" else (1, 28, 28)
        head = [layers.Flatten(), kit.Dense(64), layers.ReLU(), kit.Dense(10)]
        return sequential([keras.Input(shape), *block(32), *block(64), *head])

    def make_torch() -> nn.Module:
        first = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(*first, *second, *head)

    return make_keras, make_torch


def normalised_twins() -> tuple[Callable, Callable]:
    """What builds three convolutions with BatchNorm in Keras, for a data format, and in PyTorch."""
    import keras
    from keras import layers
    from torch import nn

    def make_keras(
        data_format: str, kit: Any = layers, sequential: type = keras.Sequential
    ) -> keras.Model:
        last = data_format == "channels_last"

        def block(filters: int) -> list[layers.Layer]:
            return [
                kit.Conv2D(filters, 3, padding="same", use_bias=False, data_format=data_format),
                kit.BatchNormalization(axis=-1 if last else 1),
                layers.ReLU(),
                kit.MaxPooling2D(2, data_format=data_format),
            ]

        blocks = [*block(16), *block(32), *block(64)]
        shape = (28, 28, 1) if last else (1, 28, 28)
        return sequential([keras.Input(shape), *blocks, layers.Flatten(), kit.Dense(10)])

    def make_torch() -> nn.Module:
        def block(channels: int, filters: int) -> list[nn.Module]:
            return [
                nn.Conv2d(channels, filters, 3, padding=1, bias=False),
                nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]

        blocks = [*block(1, 16), *block(16, 32), *block(32, 64)]
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(576, 10))

    return make_keras, make_torch


def step_of_the_dense_network(steps: int = 100) -> dict[str, Step]:
    """A training step of chapter 7's dense network, 784-64-64-10, batches of 128."""
    return _training_step(*dense_twins(), steps)


def step_of_the_convolutional_network(steps: int = 10) -> dict[str, Step]:
    """A training step of chapter 8's convolutional network, 32 and 64 filters, batches of 128."""
    return _training_step(*convolutional_twins(), steps)


def step_of_the_normalised_network(steps: int = 10) -> dict[str, Step]:
    """A training step of three normalised convolutions, 16, 32, 64 filters, batches of 128."""
    return _training_step(*normalised_twins(), steps)


def run(rounds: int = 15) -> dict:
    """Every table of this file.

    The results hold each variant's ratios to the first one and, under `over_torch`, Keras' to
    PyTorch's.
    """
    results: dict[str, dict] = {"over_torch": {}}
    for benchmark in (
        epoch_of_chapter_1,
        step_of_the_dense_network,
        step_of_the_convolutional_network,
        step_of_the_normalised_network,
    ):
        name = benchmark.__name__
        print(f"\n{benchmark.__doc__}\n")
        seconds = interleave(benchmark(), rounds)
        print(table(seconds), flush=True)
        results[name] = ratios(seconds)
        if benchmark is not epoch_of_chapter_1:
            results["over_torch"][name] = over_torch(seconds)
            print("\nKeras over PyTorch\n")
            for pair, found in results["over_torch"][name].items():
                quartiles = f"({found['low']:.2f} to {found['high']:.2f})"
                print(f"{pair:32}  {found['ratio']:5.2f}  {quartiles}", flush=True)
    return results
