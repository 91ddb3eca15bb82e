"""A training step of the book's networks, in every way of chapters 1 to 8."""

from collections.abc import Callable

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


def _training_step(make_keras: Callable, make_torch: Callable, steps: int) -> dict[str, Variant]:
    """Both frameworks' ways to train on the same `steps` batches of 128 pictures of 28x28."""
    import keras
    import numpy as np
    import torch
    from torch import nn

    from helpers import device, training

    place = device.pick()
    rng = np.random.default_rng(0)
    nhwc = rng.normal(size=(128 * steps, 28, 28, 1)).astype("float32")
    nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
    y = rng.integers(0, 10, len(nhwc))
    keras_data, torch_data = (training.Batches(x, y, 128, seed=0) for x in (nhwc, nchw))
    loss_fn = nn.CrossEntropyLoss()

    def loop(memory_format: torch.memory_format) -> Variant:
        model = make_torch().to(place, memory_format=memory_format)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)

        def train() -> None:
            for x, labels in torch_data:
                x, labels = torch.as_tensor(x, device=place), torch.as_tensor(labels, device=place)
                optimizer.zero_grad()
                loss_fn(model(x.to(memory_format=memory_format)), labels).backward()
                optimizer.step()
            next(model.parameters()).detach().sum().item()  # a GPU works on alone: wait for it

        return train

    def helper(metrics: dict | None) -> Variant:
        model = make_torch().to(place)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
        return lambda: training.fit(
            model, torch_data, optimizer=optimizer, loss_fn=loss_fn, metrics=metrics, verbose=0
        )

    def fit(data_format: str, metrics: list[str]) -> Variant:
        model = make_keras(data_format)
        model.compile(
            optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-7),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=metrics,
        )
        data = keras_data if data_format == "channels_last" else torch_data
        return lambda: model.fit(data, shuffle=False, verbose=0)

    variants = {
        "explicit loop (PyTorch)": loop(torch.contiguous_format),
        "helpers.training, loss alone": helper({}),
        "helpers.training, and accuracy": helper(None),
        "fit (Keras), loss alone": fit("channels_last", []),
        "fit (Keras), and accuracy": fit("channels_last", ["accuracy"]),
    }
    if any(isinstance(module, nn.Conv2d) for module in make_torch().modules()):
        variants["explicit loop, channels_last"] = loop(torch.channels_last)
        variants["fit (Keras), channels_first"] = fit("channels_first", [])
    return variants


def dense_twins() -> tuple[Callable, Callable]:
    """What builds chapter 7's network in Keras, for a data format, and in PyTorch."""
    import keras
    from keras import layers
    from torch import nn

    def make_keras(data_format: str) -> keras.Model:
        hidden = [layers.Dense(64), layers.ReLU(), layers.Dense(64), layers.ReLU()]
        return keras.Sequential(
            [keras.Input((28, 28, 1)), layers.Flatten(), *hidden, layers.Dense(10)]
        )

    def make_torch() -> nn.Module:
        hidden = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))

    return make_keras, make_torch


def convolutional_twins() -> tuple[Callable, Callable]:
    """What builds chapter 8's network in Keras, for a data format, and in PyTorch."""
    import keras
    from keras import layers
    from torch import nn

    def make_keras(data_format: str) -> keras.Model:
        def block(filters: int) -> list[layers.Layer]:
            return [
                layers.Conv2D(filters, 3, data_format=data_format),
                layers.ReLU(),
                layers.MaxPooling2D(2, data_format=data_format),
            ]

        shape = (28, 28, 1) if data_format == "channels_last" else (1, 28, 28)
        head = [layers.Flatten(), layers.Dense(64), layers.ReLU(), layers.Dense(10)]
        return keras.Sequential([keras.Input(shape), *block(32), *block(64), *head])

    def make_torch() -> nn.Module:
        first = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
        second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
        head = [nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(*first, *second, *head)

    return make_keras, make_torch


def step_of_the_dense_network(steps: int = 100) -> dict[str, Variant]:
    """A training step of chapter 7's dense network, 784-64-64-10, batches of 128."""
    return _training_step(*dense_twins(), steps)


def step_of_the_convolutional_network(steps: int = 20) -> dict[str, Variant]:
    """A training step of chapter 8's convolutional network, 32 and 64 filters, batches of 128."""
    return _training_step(*convolutional_twins(), steps)


def run(rounds: int = 15) -> dict:
    """Every table of this file; the results hold each variant's ratios to the first one."""
    results = {}
    for benchmark in (
        epoch_of_chapter_1,
        step_of_the_dense_network,
        step_of_the_convolutional_network,
    ):
        print(f"\n{benchmark.__doc__}\n")
        seconds = interleave(benchmark(), rounds)
        print(table(seconds), flush=True)
        results[benchmark.__name__] = ratios(seconds)
    return results
