"""What everybody advises on speed, one change at a time; and what a compiler costs."""

import contextlib
import ctypes
import os
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable

from tools.bench.interleaved import Variant, ratios, table

BATCH = 128


def cpu_rounds(variants: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """As `interleave`, in CPU seconds of this process: blind to neighbours, and to waiting.

    The order is drawn anew in each round. A variant that keeps or frees memory leaves its
    successor another heap than it found, and with a fixed order that is always the same one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    shuffle = random.Random(0)
    for turn in range(rounds + 1):
        for name in shuffle.sample(list(variants), len(variants)):
            start = time.process_time()
            variants[name]()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def cpu_seconds() -> float:
    """What this process and its finished children (the C++ compiler) have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


class Kept:
    """Within it glibc keeps what is freed, instead of giving large blocks back to the system.

    After it come the thresholds that glibc gives itself once a block of 11 MB was freed.
    """

    def __enter__(self) -> None:
        self.set(2**30, 2**31 - 1)

    def __exit__(self, *_: object) -> None:
        self.set(11_100_000, 22_200_000)

    def set(self, mmap: int, trim: int) -> None:
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, mmap), libc.mallopt(-1, trim)  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def _data(steps: int) -> tuple:
    import numpy as np

    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(BATCH * steps, 1, 28, 28)).astype("float32")
    return pictures, rng.integers(0, 10, len(pictures))


def torch_variants(make_torch: Callable, steps: int, compiled: dict) -> dict[str, Variant]:
    """A PyTorch loop over data in memory, and the same with one thing changed."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    x, y = map(torch.from_numpy, _data(steps))
    conv = any(isinstance(module, nn.Conv2d) for module in make_torch().modules())

    def loop(
        batches: object = None,
        adam: dict | None = None,
        change: Callable = lambda model: model,
        fetch: bool = False,
        bfloat16: bool = False,
        zero: dict | None = None,
        around: Callable | None = None,
        last: bool = False,
    ) -> Variant:
        torch.manual_seed(0)
        memory = torch.channels_last if last else torch.contiguous_format
        model = change(make_torch().to(memory_format=memory))
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **(adam or {}))
        inputs = x.to(memory_format=memory)

        def train() -> None:
            for images, labels in batches or zip(inputs.split(BATCH), y.split(BATCH), strict=True):
                optimizer.zero_grad(**(zero or {}))
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    logits = model(images)
                    loss = F.cross_entropy(logits, labels)
                loss.backward()
                optimizer.step()
                if fetch:
                    loss.item(), (logits.argmax(1) == labels).float().mean().item()

        def surrounded() -> None:
            with around():
                train()

        return surrounded if around else train

    def pool_first(model: nn.Module) -> nn.Module:
        """Pool, then ReLU: the same outputs, since the larger stays the larger."""
        modules = list(model)
        for i, module in enumerate(modules):
            if isinstance(module, nn.MaxPool2d):
                modules[i - 1 : i + 1] = [module, modules[i - 1]]
        return nn.Sequential(*modules)

    def in_place(model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = True
        return model

    class Flushed:
        def __enter__(self) -> None:
            torch.set_flush_denormal(True)

        def __exit__(self, *_: object) -> None:
            torch.set_flush_denormal(False)

    class Medium:
        def __enter__(self) -> None:
            torch.set_float32_matmul_precision("medium")

        def __exit__(self, *_: object) -> None:
            torch.set_float32_matmul_precision("highest")

    class Benchmark:
        def __enter__(self) -> None:
            torch.backends.cudnn.benchmark = True

        def __exit__(self, *_: object) -> None:
            torch.backends.cudnn.benchmark = False

    compiling = loop(change=torch.compile)
    before = cpu_seconds()
    compiling()
    compiled["torch.compile"] = cpu_seconds() - before
    variants = {
        "the loop, data in memory": loop(),
        "the same once more": loop(),
        "DataLoader, one by one": loop(DataLoader(TensorDataset(x, y), BATCH, shuffle=True)),
        "loss.item(), accuracy.item()": loop(fetch=True),
        "Adam(fused=True)": loop(adam={"fused": True}),
        "Adam(foreach=True)": loop(adam={"foreach": True}),
        "zero_grad(set_to_none=False)": loop(zero={"set_to_none": False}),
        "ReLU(inplace=True)": loop(change=in_place),
        "set_flush_denormal(True)": loop(around=Flushed),
        'matmul precision "medium"': loop(around=Medium),
        "cudnn.benchmark = True": loop(around=Benchmark),
        "detect_anomaly()": loop(around=lambda: torch.autograd.detect_anomaly(check_nan=True)),
        "autocast to bfloat16": loop(bfloat16=True),
        "torch.compile": compiling,
    }
    if conv:
        together = {"last": True, "adam": {"fused": True}, "change": pool_first, "around": Kept}
        variants["channels_last"] = loop(last=True)
        variants["pooling before ReLU"] = loop(change=pool_first)
        variants["memory kept"] = loop(around=Kept)
        variants["these three, fused Adam"] = loop(**together)
    return variants


def keras_variants(make_keras: Callable, steps: int, compiled: dict) -> dict[str, Variant]:
    """Keras' `fit` as everybody writes it, and the same with one thing changed."""
    import keras
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    first, y = _data(steps)
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1))
    model = make_keras("channels_last")
    conv = any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)

    def fit(
        x: object = last,
        labels: object = y,
        metrics: tuple = ("accuracy",),
        policy: str = "float32",
        data_format: str = "channels_last",
        around: Callable = contextlib.nullcontext,
        **settings: object,
    ) -> Variant:
        keras.utils.set_random_seed(0)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        model = make_keras(data_format)
        keras.config.set_dtype_policy(before)
        jit = settings.pop("jit_compile", False)
        model.compile(
            optimizer=keras.optimizers.Adam(1e-3),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=list(metrics),
            jit_compile=jit,
        )
        arguments = {"verbose": 0, **settings}
        if not isinstance(x, DataLoader):
            arguments |= {"y": labels, "batch_size": BATCH}

        def train() -> None:
            with around():
                model.fit(x, **arguments)

        return train

    tensors = torch.from_numpy(last), torch.from_numpy(y)
    compiling = fit(jit_compile=True)
    before = cpu_seconds()
    compiling()
    compiled["jit_compile"] = cpu_seconds() - before
    variants = {
        "fit, as everybody writes it": fit(),
        "fit once more": fit(),
        "no metrics": fit(metrics=()),
        "tensors for arrays": fit(*tensors),
        "shuffle=False": fit(shuffle=False),
        "a DataLoader": fit(
            DataLoader(TensorDataset(*tensors), BATCH, shuffle=True), shuffle=False
        ),
        "mixed_bfloat16": fit(policy="mixed_bfloat16"),
        "jit_compile=True": compiling,
    }
    if conv:
        variants["channels_first"] = fit(first, data_format="channels_first")
        variants["memory kept (Keras)"] = fit(around=Kept)
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


def advice(twins: tuple[Callable, Callable], steps: int, rounds: int) -> dict:
    """Every piece of advice for one network, both frameworks in one interleaved run."""
    compiled: dict[str, float] = {}
    variants = torch_variants(twins[1], steps, compiled)
    names = list(variants)
    variants |= keras_variants(twins[0], steps, compiled)
    seconds = cpu_rounds(variants, rounds)
    ours = {name: times for name, times in seconds.items() if name not in names}
    theirs = {name: seconds[name] for name in names}
    print(f"{table(theirs)}\n\n{table(ours)}", flush=True)
    medians = {name: statistics.median(times) / steps for name, times in seconds.items()}
    loop, fit = names[0], next(iter(ours))
    return {
        "torch": ratios(theirs),
        "keras": ratios(ours),
        "keras to torch": ratios({name: seconds[name] for name in (loop, fit)})[fit],
        "milliseconds a step": {n: float(f"{1000 * s:.3g}") for n, s in medians.items()},
        "seconds to compile": {name: round(s, 1) for name, s in compiled.items()},
    }


def run(rounds: int = 7) -> dict:
    """Every table of this file; ratios are medians over rounds, with their quartiles."""
    import torch

    warnings.filterwarnings("ignore", message="Anomaly Detection")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as cache:  # compile from scratch
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
            os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
            results = {
                "dense": advice(dense_twins(), 40, rounds),
                "convolutional": advice(convolutional_twins(), 3, rounds),
            }
    finally:
        torch.set_num_threads(threads)
    return results
