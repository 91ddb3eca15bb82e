"""What two processes on two cores cost and gain, and how many steps a larger batch saves."""

import math
import os
import statistics

import ranks

SIZES = [10, 100, 1000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000]
BATCHES = [64, 256]
TARGET = 0.25  # the validation loss that is to be reached


def quartiles(values: list[float], digits: int = 3) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        key: float(f"{value:.{digits}g}")
        for key, value in zip(("low", "median", "high"), (low, middle, high), strict=True)
    }


def two_processes(rounds: int = 11) -> dict:
    """An all-reduce by size, and a step of chapter 8's network: what the slower rank took."""
    job = {"sizes": SIZES, "batches": BATCHES, "rounds": rounds, "times": 2}
    both = ranks.launch("cost", job, timeout=900)
    slower = [
        [max(pair) for pair in zip(*(found["exchange"][i] for found in both), strict=True)]
        for i in range(len(SIZES))
    ]
    results: dict = {"sizes": SIZES, "exchange": [quartiles(values) for values in slower]}
    for batch in BATCHES:
        found = {
            way: [max(pair) for pair in zip(*(r["steps"][batch][way] for r in both), strict=True)]
            for way in both[0]["steps"][batch]
        }
        base = found["one process, one thread"]
        print(f"\nglobal batch {batch}: seconds, and the ratio to one process with one thread\n")
        row = {}
        for way, values in found.items():
            ratios = [ours / theirs for ours, theirs in zip(values, base, strict=True)]
            row[way] = {"seconds": quartiles(values), "ratio": quartiles(ratios)}
            middle = row[way]["seconds"]["median"], row[way]["ratio"]["median"]
            print("{:36} {:8.4f} {:6.2f}".format(way, *middle))
        results[f"batch {batch}"] = row
    return results


def steps_to_target(seeds: int = 3, longest: int = 4000) -> dict:
    """Steps that a small dense network takes to a validation loss, by batch size and rate."""
    import numpy as np
    import torch
    from torch import nn

    from helpers.data import load_mnist

    digits = load_mnist()
    order = np.random.default_rng(0).permutation(len(digits.x_train))
    x = torch.tensor(digits.x_train[order].reshape(-1, 784) / np.float32(255) - np.float32(0.13))
    y = torch.tensor(digits.y_train[order].astype("int64"))
    x_val, y_val, x, y = x[:2000], y[:2000], x[2000:], y[2000:]
    loss_fn = nn.CrossEntropyLoss()

    def steps(batch: int, lr: float, seed: int, limit: int) -> float:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        every = 5 if batch >= 256 and lr > 0.01 else 20  # steps between looks at the loss
        for step in range(1, limit + 1):
            rows = torch.randint(len(x), (batch,))
            optimizer.zero_grad()
            loss = loss_fn(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            if step % every == 0:
                if not math.isfinite(loss.item()):
                    return math.inf
                with torch.no_grad():
                    if loss_fn(model(x_val), y_val).item() <= TARGET:
                        return step
        return math.inf

    results: dict = {"target": TARGET, "fixed rate": 0.01, "rows": []}
    print("\nsteps to a validation loss of", TARGET, "\n\nbatch   rate 0.01   best   at rate")
    for batch in (32, 64, 128, 256, 512, 1024, 2048):
        found: dict[float, list[float]] = {}
        best = math.inf
        for lr in (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28):
            limit = int(min(longest, 1.5 * best)) if best < math.inf else longest
            found[lr] = [steps(batch, lr, seed, limit) for seed in range(seeds)]
            best = min(best, statistics.median(found[lr]))
        rate = min(found, key=lambda lr: statistics.median(found[lr]))
        row = {
            "batch": batch,
            "fixed": statistics.median(found[0.01]),
            "best": statistics.median(found[rate]),
            "low": min(found[rate]),
            "high": max(found[rate]),
            "rate": rate,
        }
        results["rows"].append({k: (None if v == math.inf else v) for k, v in row.items()})
        print(f"{batch:5}   {row['fixed']:9}   {row['best']:4}   {rate}", flush=True)
    return results


def run() -> dict:
    """Both tables. They take about five minutes on a machine that is otherwise idle."""
    import torch

    torch.set_num_threads(1)
    load = os.getloadavg()[0]  # other work on the machine: it decides what threads are worth
    results = {"two processes": two_processes(), "load": round(load, 1)}
    return results | {"steps to a loss": steps_to_target()}
