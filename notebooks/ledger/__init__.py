"""The ledger of chapter 13: what differs between Keras and PyTorch, measured when it is asked for.

A row is a function that builds both sides twice, as they come and with the difference reconciled,
and returns how far apart they were. `entry` says what it is about; `measure` runs the rows and
holds each to its word. `show` makes one table of them, `find` keeps the rows with certain words.
"""

import importlib
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass

import keras
import torch

from helpers import parity

__all__ = ["ENTRIES", "Entry", "Measured", "Table", "entry", "find", "measure", "rows", "show"]

ROOMS = ("layers", "activations", "losses", "optimisers", "training", "interop", "surprises")
SAME = "nothing to do"  # so begins the mend of a row that says: no difference here

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
        return isinstance(self.before, str) or not self.before <= self.entry.bound


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
    if any(e.name == name for e in ENTRIES):
        raise ValueError(f"The ledger has a row {name!r} already: give this one a name of its own.")

    def enter(run: Callable) -> Callable:
        ENTRIES.append(Entry(run, topic, name, keras, torch, mend, unit, chapter, bound, float32))
        return run

    return enter


def rows(topic: str = "") -> list[Entry]:
    """All entries, or those of one topic, in the order in which they were written."""
    for room in ROOMS:
        importlib.import_module(f"{__name__}.{room}")
    topics = list(dict.fromkeys(e.topic for e in ENTRIES))
    if topic and topic not in topics:
        raise ValueError(f"The ledger has no topic {topic!r}: its topics are {', '.join(topics)}.")
    return [e for e in ENTRIES if topic in ("", e.topic)]


def measure(entries: Iterable[Entry]) -> list[Measured]:
    """Run rows on the CPU, each from the same seed, in float64 unless it asks for float32.

    An AssertionError names the row that breaks its word: one that is still apart when reconciled,
    that differs where it says "nothing to do", or that doesn't where it says what to do.
    """
    done = []
    for e in entries:
        keras.utils.set_random_seed(0)
        start = time.perf_counter()
        try:
            wide = nullcontext() if e.float32 else parity.float64()
            with keras.device("cpu"), torch.device("cpu"), wide:
                before, after = e.run()
        except Exception as error:
            raise AssertionError(f"{e.name!r} can't be measured: {error!r}") from error
        row = Measured(e, before, after, time.perf_counter() - start)
        mended = isinstance(after, (str, type(None))) or after <= e.bound
        assert mended, f"{e.name!r} says at most {e.bound:.0e}, and is {after:.1e} apart"
        assert row.differs != e.mend.startswith(SAME), (
            f"{e.name!r} says {e.mend!r}, and finds {before}"
        )
        done.append(row)
    return done


from .table import Table, find, show  # noqa: E402 (it needs what stands above)
