"""Chapter 28's first result: a whole program from a cold start to a trained network, in turns.

Each turn starts a new Python with one thread, which imports the framework, trains chapter 7's dense
network for two epochs on 50,000 digits and judges it on 10,000. Counted are the processor's seconds
of the import and of the training. Starting Python and reading the pictures are the same for both.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import coldstart

from helpers.data import DataError, load_mnist

NAMES = ("keras", "torch")
PARTS = ("import", "train")


def once(name: str) -> dict:
    """One cold start: seconds of each part, and the accuracy."""
    chapters = Path(coldstart.__file__).resolve().parents[1]
    paths = os.pathsep.join([str(chapters.parent), str(chapters)])
    settings = {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "1", "BOOK_DEVICE": "cpu"}
    found = subprocess.run(
        [sys.executable, "-m", "coldstart.programs", name],
        env=os.environ | settings | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode:
        raise RuntimeError(f"The {name} program failed: {found.stderr.strip().splitlines()[-1]}")
    return json.loads(found.stdout.splitlines()[-1])


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"low": round(low, 2), "median": round(middle, 2), "high": round(high, 2)}


def summary(runs: dict[str, list[dict]]) -> dict:
    """Seconds by part and in all, and Keras over PyTorch round by round: medians and quartiles."""
    results = {}
    for name, found in runs.items():
        parts = {part: spread([one[part] for one in found]) for part in PARTS}
        parts["both"] = spread([sum(one[part] for part in PARTS) for one in found])
        accuracy = [round(one["accuracy"], 4) for one in found]
        results[name] = {"seconds": parts, "accuracy": accuracy}
    pairs = list(zip(runs["keras"], runs["torch"], strict=True))
    ratio = {part: spread([k[part] / t[part] for k, t in pairs]) for part in PARTS}
    whole = [sum(k[p] for p in PARTS) / sum(t[p] for p in PARTS) for k, t in pairs]
    return results | {"keras over torch": ratio | {"both": spread(whole)}, "rounds": len(pairs)}


def run(rounds: int = 5) -> dict:
    """Rounds in turns, each beginning with the other one; one round first that isn't counted."""
    if not load_mnist().is_mnist:
        raise DataError("The programs train on MNIST: set BOOK_DATA to the folder of mnist.npz.")
    runs: dict[str, list[dict]] = {name: [] for name in NAMES}
    for turn in range(rounds + 1):
        for name in NAMES[:: 1 if turn % 2 else -1]:
            one = once(name)
            if turn:
                runs[name].append(one)
                print(turn, name, {key: round(value, 3) for key, value in one.items()}, flush=True)
    results = summary(runs)
    for part, found in results["keras over torch"].items():
        print(f"{part:7} {found['median']:5.2f}  ({found['low']:.2f} to {found['high']:.2f})")
    return results
