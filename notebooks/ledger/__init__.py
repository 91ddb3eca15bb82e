"""The ledger of chapter 13: what differs between Keras and PyTorch, measured when it is asked for.

A row is a function that builds both sides twice, as they come and with the difference reconciled,
and returns how far apart they were. `entry` says what it is about; `measure` runs the rows and
holds each to its word.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import keras

from helpers import parity

__all__ = ["ENTRIES", "Entry", "Measured", "entry", "measure"]

Value = float | str
"""How far apart: a number, or the name of the error that stops the reader."""


@dataclass(frozen=True)
class Entry:
    """A row before it is run."""

    run: Callable[[], tuple[Value, Value | None]]  # as they come, and reconciled
    topic: str  # "Layers"
    name: str  # "Dense, the kernel's order"
    keras: str  # what Keras does unless told
    torch: str  # what PyTorch does unless told
    mend: str  # the setting that reconciles them, or what to do where none does
    unit: str  # what is compared: "outputs", "weights, relative", "learning rate"
    chapter: str  # where the book teaches it: "08_convolution"
    bound: float  # what is left after mending is at most this
    float32: bool  # run in float32, where that is the subject


@dataclass(frozen=True)
class Measured:
    """A row after it was run."""

    entry: Entry
    before: Value
    after: Value | None  # None where nothing reconciles them
    seconds: float

    @property
    def differs(self) -> bool:
        """False where both do the same unless told otherwise: good to know, too."""
        return isinstance(self.before, str) or self.before > self.entry.bound


ENTRIES: list[Entry] = []


def entry(
    topic: str,
    name: str,
    *,
    keras: str,
    torch: str,
    mend: str,
    unit: str,
    chapter: str,
    bound: float = 1e-12,
    float32: bool = False,
) -> Callable:
    """Enter the decorated function in the ledger; it returns (before, after)."""

    def enter(run: Callable) -> Callable:
        ENTRIES.append(Entry(run, topic, name, keras, torch, mend, unit, chapter, bound, float32))
        return run

    return enter


def measure(entries: Iterable[Entry]) -> list[Measured]:
    """Run rows, each from the same seed, in float64 unless it asks for float32.

    An AssertionError names the row that breaks its word.
    """
    done = []
    for e in entries:
        keras.utils.set_random_seed(0)
        start = time.perf_counter()
        with nullcontext() if e.float32 else parity.float64():
            before, after = e.run()
        seconds = time.perf_counter() - start
        assert isinstance(after, (str, type(None))) or after <= e.bound, (e.name, after)
        done.append(Measured(e, before, after, seconds))
    return done
