"""The size of the batch, a second thread, and processes that load data: what each is worth."""

import random
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tools.bench.interleaved import Variant, interleave, ratios, table

if TYPE_CHECKING:
    from torch import nn

BATCH = 128
TARGET = 0.96  # of the validation pictures, for the dense network


def cpu_rounds(variants: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """As `interleave`, in CPU seconds of this process: blind to neighbours, and to waiting.

    The order is drawn anew in each round.
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


def make_dense() -> "nn.Module":
    """Chapter 7's network, in PyTorch."""
    from torch import nn

    hidden = [nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


def make_conv() -> "nn.Module":
    """Chapter 8's network, in PyTorch."""
    from torch import nn

    first = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Linear(1600, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*first, *second, *head)


def threads_and_workers(rounds: int) -> dict:
    """A second thread, and two processes that load: by the clock, since CPU time can't see them."""
    import torch
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    def train(make: Callable, size: int, steps: int, threads: int = 1) -> Variant:
        x, y = torch.randn(size, 1, 28, 28), torch.randint(0, 10, (size,))
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

        def run() -> None:
            torch.set_num_threads(threads)
            for _ in range(steps):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            torch.set_num_threads(1)

        return run

    dense, conv = make_dense, make_conv
    dataset = TensorDataset(torch.randn(6400, 784), torch.randint(0, 10, (6400,)))
    model = dense()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch(**settings: object) -> Variant:
        loader = DataLoader(dataset, BATCH, shuffle=True, **settings)

        def run() -> None:
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()

        return run

    kept = {"persistent_workers": True, "multiprocessing_context": "fork"}
    workers = interleave(
        {
            "num_workers=0": epoch(),
            "num_workers=1": epoch(num_workers=1, **kept),
            "num_workers=2": epoch(num_workers=2, **kept),
        },
        rounds,
    )
    print(table(workers), flush=True)

    found = {}
    for name, make, size, steps in (
        ("dense, batch 128", dense, 128, 20),
        ("dense, batch 2048", dense, 2048, 4),
        ("convolutional, batch 128", conv, 128, 2),
    ):
        pair = {f"{n} thread{'s' * (n > 1)}": train(make, size, steps, n) for n in (1, 2)}
        seconds = interleave(pair, rounds)
        print(f"{name}\n{table(seconds)}", flush=True)
        found[name] = ratios(seconds)["2 threads"]
    return {"threads": found, "workers": ratios(workers)}


def batch_sizes(sizes: tuple[int, ...], seeds: int = 3) -> dict:
    """Steps that the dense network needs to TARGET, at the best rate of a grid, and their time.

    The rate is chosen with a start of its own, by fewest steps; the other starts are measured.
    """
    import numpy as np
    import torch
    from torch.nn import functional as F

    from helpers import training
    from helpers.data import load_mnist

    digits = load_mnist()
    if not digits.is_mnist:
        raise RuntimeError("batch_sizes needs MNIST: set BOOK_DATA to the folder that holds it.")
    rows = np.random.default_rng(0).permutation(len(digits.x_train))
    x = torch.from_numpy((digits.x_train[rows, None] / np.float32(255) - 0.1307) / 0.3081).float()
    y = torch.from_numpy(digits.y_train[rows].astype("int64"))
    (x, x_val), (y, y_val) = (part.split([50_000, 10_000]) for part in (x, y))
    make = make_dense

    def steps_needed(size: int, lr: float, seed: int, at_most: int) -> int | None:
        torch.manual_seed(seed)
        model, step, epoch = make(), 0, 0
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        every = max(1, 2000 // size)
        while step < at_most:
            order = torch.from_numpy(training.epoch_order(len(x), seed, epoch))
            for part in order.split(size):
                optimizer.zero_grad()
                F.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
                step += 1
                if step % every == 0:
                    with torch.no_grad():
                        right = (model(x_val).argmax(1) == y_val).double().mean().item()
                    if right >= TARGET:
                        return step
                if step >= at_most:
                    break
            epoch += 1
        return None

    def one_step(size: int) -> Variant:
        model, repeats = make(), max(1, 512 // size)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
        part = torch.arange(size)

        def run() -> None:
            for _ in range(repeats):
                optimizer.zero_grad()
                F.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()

        return run

    seconds = cpu_rounds({str(size): one_step(size) for size in sizes}, 15)
    found = {}
    for size in sizes:
        best, limit = None, max(25, 12 * 50_000 // size)
        centre = min(0.2, 0.02 * size / 64)
        for lr in (centre, centre / 2, 2 * centre, centre / 4):
            steps = steps_needed(size, lr, 1000, limit)
            if steps is not None and (best is None or steps < best[0]):
                best, limit = (steps, lr), steps
        if best is None:
            found[str(size)] = None
            continue
        needed = [steps_needed(size, best[1], seed, 40 * best[0]) for seed in range(seeds)]
        milliseconds = 1000 * statistics.median(seconds[str(size)]) / max(1, 512 // size)
        found[str(size)] = {
            "lr": float(f"{best[1]:.3g}"),
            "steps": needed,
            "milliseconds a step": float(f"{milliseconds:.3g}"),
        }
        print(size, found[str(size)], flush=True)
    return found


def run(rounds: int = 5) -> dict:
    """Every table of this file; ratios are medians over rounds, with their quartiles."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "batch sizes": batch_sizes((8, 32, 128, 512, 2048)),
            "target": TARGET,
            **threads_and_workers(rounds),
        }
    finally:
        torch.set_num_threads(threads)
