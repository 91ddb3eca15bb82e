"""How long a recipe trains until it knows 99 of 100 test pictures."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from race.recipes import Predict, Runner

__all__ = ["Run", "race"]


@dataclass
class Run:
    """One runner's race: the seconds trained after each epoch, and the test accuracy then."""

    seconds: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    reached: bool = False


def race(
    runners: dict[str, Runner],
    data: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    seed: int,
    goal: float = 0.99,
    rivals: dict[str, str] | None = None,
) -> dict[str, Run]:
    """Let all run at once, an epoch at a time, until each has reached the goal or its end.

    The next epoch is always that of the runner who has trained for the shortest time, so that a
    slow hour of the machine hits all. A runner's clock runs from before its model is built; it
    stands still while others train and while the test pictures are judged. `data` is x_train,
    y_train, x_test, y_test. `rivals` maps a runner to another one: it gives up once it has
    trained longer than the other needed.
    """
    x_train, y_train, x_test, y_test = data
    running: dict[str, Iterator[Predict]] = {
        name: runner(x_train, y_train, seed) for name, runner in runners.items()
    }
    runs = {name: Run() for name in runners}
    while running:
        name = min(running, key=lambda name: runs[name].seconds[-1:])  # [] comes before [1.0]
        run, rival = runs[name], runs.get((rivals or {}).get(name, ""))
        if rival and rival.reached and run.seconds and run.seconds[-1] > rival.seconds[-1]:
            del running[name]
            continue
        start = time.perf_counter()
        predict = next(running[name], None)
        spent = time.perf_counter() - start
        if predict is None:
            del running[name]
            continue
        run.seconds.append(spent + (run.seconds[-1] if run.seconds else 0))
        run.accuracy.append(float((predict(x_test).argmax(1) == y_test).mean()))
        run.reached = run.accuracy[-1] >= goal
        if run.reached:
            del running[name]
    return runs
