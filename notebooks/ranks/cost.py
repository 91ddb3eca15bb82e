"""What a step costs: the seconds of an all-reduce by size, and of a training step, in turn.

Two ranks take turns, round by round: one process with one thread, one with two, and both ranks
together. While one works, the other sleeps on a socket.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ranks.nets import make_torch_model
from ranks.start import joined


def seconds(work: Callable[[], Any], times: int) -> float:
    """Of one call, in the mean of several; both ranks begin together."""
    dist.barrier()
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def exchange(sizes: list[int], rounds: int) -> list[list[float]]:
    """Seconds of an all-reduce of so many float32 numbers: for each size, one value a round."""
    tensors = [torch.ones(size) for size in sizes]
    found: list[list[float]] = [[] for _ in sizes]
    for turn in range(rounds + 1):
        for values, tensor in zip(found, tensors, strict=True):
            times = 20 if len(tensor) < 1e5 else 4
            value = seconds(lambda tensor=tensor: dist.all_reduce(tensor), times)
            tensor.fill_(1)
            if turn:
                values.append(value)
    return found


def training_step(batch: int, synchronise: bool) -> Callable[[], None]:
    model = make_torch_model()
    outer = DistributedDataParallel(model) if synchronise else model
    optimizer, loss_fn = torch.optim.SGD(model.parameters(), lr=0.01), nn.CrossEntropyLoss()
    x, y = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(outer(x), y).backward()
        optimizer.step()

    return step


def steps(batch: int, rounds: int, times: int) -> dict[str, list[float]]:
    """Seconds of a step on a global batch, five ways; one value a round."""
    whole, half = training_step(batch, False), training_step(batch // 2, False)
    joint = training_step(batch // 2, True)
    first, idle = dist.get_rank() == 0, (lambda: None)
    ways = {  # name: what this rank does, and with how many threads
        "one process, one thread": (whole if first else idle, 1),
        "one process, two threads": (whole if first else idle, 2),
        "two processes": (joint, 1),
        "half a batch, alone": (half if first else idle, 1),
        "half a batch, both, each for itself": (half, 1),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, (work, threads) in ways.items():
            torch.set_num_threads(threads)
            value = seconds(work, times)
            torch.set_num_threads(1)
            if turn:
                found[name].append(value)
    return found


def main() -> None:
    file = Path(sys.argv[1])
    with joined(file) as report:
        job = torch.load(file, weights_only=True)
        report(
            exchange=exchange(job["sizes"], job["rounds"]),
            steps={b: steps(b, job["rounds"], job["times"]) for b in job["batches"]},
        )


if __name__ == "__main__":
    main()
