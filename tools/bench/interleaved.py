"""Times as ratios: each round runs every variant once, in turn.

Machines are noisy and differ, so a time in seconds says little. Each round times every variant
once, in turn, and each round begins with another one; a ratio is taken within a round, and the
table shows its median and its quartiles.
"""

import statistics
import time
from collections.abc import Callable

Variant = Callable[[], object]


def interleave(variants: dict[str, Variant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round. One round more is run first, and not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    names = list(variants)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            variants[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Each variant's time over the first one's, round by round: median and quartiles."""
    first, found = next(iter(seconds.values())), {}
    for name, times in seconds.items():
        quotients = [ours / theirs for ours, theirs in zip(times, first, strict=True)]
        low, middle, high = statistics.quantiles(quotients, n=4, method="inclusive")
        found[name] = {"ratio": round(middle, 3), "low": round(low, 3), "high": round(high, 3)}
    return found


def table(seconds: dict[str, list[float]]) -> str:
    """The ratios as lines of text."""
    width = max(map(len, seconds))
    lines = [f"{'':{width}}  ratio  (quartiles)"]
    for name, found in ratios(seconds).items():
        quartiles = f"({found['low']:.2f} to {found['high']:.2f})"
        lines.append(f"{name:{width}}  {found['ratio']:5.2f}  {quartiles}")
    return "\n".join(lines)
