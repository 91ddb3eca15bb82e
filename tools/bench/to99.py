"""Chapter 14's race: time to 99 % test accuracy on MNIST, from a cold start of training."""

import statistics

from race.clock import Run, race
from race.recipes import RUNNERS

from helpers.data import DataError, load_mnist

ANCHORS = ("keras.io's example", "PyTorch's example")


def row(name: str, runs: list[Run], best: list[float]) -> dict:
    """What is stored of one runner: every epoch of every seed, and its share of the best anchor."""
    found = {
        "seconds": [[round(value, 1) for value in run.seconds] for run in runs],
        "accuracy": [[round(value, 4) for value in run.accuracy] for run in runs],
        "reached": [run.reached for run in runs],
    }
    if all(found["reached"]):
        shares = [run.seconds[-1] / anchor for run, anchor in zip(runs, best, strict=True)]
        found["share"] = round(statistics.median(shares), 4)
        found["shares"] = [round(share, 4) for share in shares]
    return found


def line(name: str, found: dict) -> str:
    ends = ", ".join(f"{100 * accuracy[-1]:.2f}" for accuracy in found["accuracy"])
    epochs = ", ".join(str(len(seconds)) for seconds in found["seconds"])
    took = statistics.median(seconds[-1] for seconds in found["seconds"])
    share = f"1/{1 / found['share']:.1f}" if "share" in found else "not reached by all"
    return f"{name:26} {took:7.1f} s  {share:18}  epochs {epochs}; accuracy {ends} %"


def run(seeds: tuple[int, ...] = (0, 1, 2)) -> dict:
    """All runners, for each seed; the slower of the two anchors gives up once it is beaten."""
    digits = load_mnist()
    if not digits.is_mnist:
        raise DataError("The race is run on MNIST: set BOOK_DATA to the folder with mnist.npz.")
    data = digits.x_train, digits.y_train, digits.x_test, digits.y_test
    rivals = dict(zip(ANCHORS, reversed(ANCHORS), strict=True))
    runs = []
    for seed in seeds:
        runs.append(race(RUNNERS, data, seed, rivals=rivals))
        for name, one in runs[-1].items():
            last = f"{one.seconds[-1]:.1f} s, {100 * one.accuracy[-1]:.2f} %"
            print(f"seed {seed}: {name:26} {last}", flush=True)
    best = [min(one[name].seconds[-1] for name in ANCHORS if one[name].reached) for one in runs]
    results = {name: row(name, [one[name] for one in runs], best) for name in RUNNERS}
    print("\nMedian time to 99 %, and its share of the faster of the two examples\n")
    print(*(line(name, found) for name, found in results.items()), sep="\n", flush=True)
    return results
