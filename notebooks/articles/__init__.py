"""The five articles' listings and claims as data, and what runs and counts them for chapter 29.

`listings` holds what the listings try, `claims` what the texts say. The chapter runs each attempt
once, by `attempt`, and prints each claim once; tests/test_articles.py counts both.
"""

import inspect
import logging
import os
import pydoc
import re
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from articles.claims import CLAIMS, VERDICTS, Claim
from articles.listings import ARTICLES, ATTEMPTS, KINDS, LISTINGS, Article, Attempt, Listing

__all__ = [
    "ARTICLES", "ATTEMPTS", "CLAIMS", "KINDS", "LISTINGS", "VERDICTS", "Article", "Attempt",
    "Claim", "Listing", "alone", "attempt", "count", "evaluated", "outcome", "reopened",
    "signature", "stack", "written",
]  # fmt: skip

_ALONE = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, *rest):
        return None if name.startswith("tensorflow") else self.finder.find_spec(name, *rest)

sys.meta_path[:] = map(Without, sys.meta_path)
try:
    exec(sys.argv[1])
except Exception as error:
    print(f"{type(error).__name__}|{error}", end="")
"""


def alone(code: str) -> None:
    """Run code in a new Python that has no TensorFlow and was told of no backend.

    What is raised there is raised here, if it is a missing module; anything else is an error.
    """
    with tempfile.TemporaryDirectory() as home:
        told = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"KERAS_HOME": home}
        line = [sys.executable, "-c", _ALONE, code]
        done = subprocess.run(line, env=told, capture_output=True, text=True, timeout=120)
    name, _, words = done.stdout.rpartition("\n")[2].partition("|")
    if done.returncode or name not in ("", "ModuleNotFoundError"):
        raise RuntimeError(f"{code!r} ended with {name or done.returncode}: {words or done.stderr}")
    if name:
        raise ModuleNotFoundError(words)


def signature(name: str) -> str:
    """The arguments of a function that is given by its dotted name."""
    found = pydoc.locate(name)
    if not callable(found):
        raise ValueError(f"{name} is no function of the installed libraries.")
    return str(inspect.signature(found))


def stack(*parts: keras.Layer, shape: tuple[int, ...] = (28, 28, 1)) -> keras.Sequential:
    """A Keras network of these layers, for examples of this shape."""
    return keras.Sequential([keras.Input(shape), *parts])


def reopened(model: keras.Model, suffix: str) -> keras.Model:
    """Save a model in a file with this ending, which always works, and open that file."""
    before = logging.root.manager.disable
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # h5py's way to read a tensor
        logging.disable(logging.WARNING)  # Keras says that HDF5 is legacy
        try:
            path = Path(folder, f"model.{suffix}")
            model.save(path)
            return keras.saving.load_model(path, safe_mode=False)
        finally:
            logging.disable(before)


def evaluated(**how: Any) -> Any:
    """What `evaluate` returns, of a network with a metric."""
    model = stack(layers.Dense(1), shape=(2,))
    model.compile(loss="mse", metrics=["mae"])
    return model.evaluate(np.ones((4, 2)), np.ones((4, 1)), verbose=0, **how)


def _text(value: Any) -> str:
    """A value as the list writes it: numbers to two digits, a shape as a tuple."""
    if isinstance(value, (str, bool)):
        return str(value)
    if isinstance(value, tuple):
        return str(tuple(value))
    try:
        return f"{float(value):.2f}"
    except (TypeError, ValueError):
        return f"something of type {type(value).__name__}"


def outcome(act: Callable[[], Any]) -> tuple[str, str]:
    """What happens: the error's name and its text, or nothing and what was returned.

    A warning to the user counts as an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            value = act()
    except (Exception, UserWarning) as error:
        return type(error).__name__, str(error)
    return "", _text(value)


def attempt(name: str, act: Callable[[], Any]) -> None:
    """Do what a listing does, see that what the list says happens, and print it."""
    known = {each.id: each for each in ATTEMPTS}
    if name not in known:
        raise ValueError(f"The list has no attempt {name!r}: see articles/listings.py.")
    entry = known[name]
    error, words = outcome(act)
    if entry.gpu and (not error or error in ("AssertionError", "RuntimeError")):
        print(f"{name:6} {entry.raises[0]}, where there is no GPU")
    elif entry.raises:
        found = error or "nothing"
        assert error == entry.raises[0], f"{name} was to raise {entry.raises[0]}, not {found}"
        assert entry.raises[1] in words, f"{name} says {words!r}"
        print(f"{name:6} {error}: {_part(words, entry.raises[1])}")
    else:
        assert not error, f"{name} was to give {entry.gives}, and raised {error}: {words}"
        assert words == entry.gives, f"{name} was to give {entry.gives}, not {words}"
        print(f"{name:6} gives {words}")
    print(f"       {entry.kind}; instead: {entry.instead}")


def _part(words: str, wanted: str, width: int = 76) -> str:
    """The part of an error's text that is wanted: its first words, if it stands there."""
    plain = re.sub(r"\x1b\[\d+m", "", words)
    line = next(line for line in plain.splitlines() if wanted in line)
    if line.find(wanted) + len(wanted) > width:
        return wanted
    return line if len(line) <= width else f"{line[:width].rpartition(' ')[0]} ..."


def written(number: int) -> str:
    """The claims of an article as Markdown, one paragraph each."""
    found = [claim for claim in CLAIMS if claim.id.partition(".")[0] == str(number)]
    if not found:
        raise ValueError(f"There is no article {number}: they are 1 to {len(ARTICLES)}.")
    return "\n\n".join(map(_paragraph, found))


def _paragraph(claim: Claim) -> str:
    links = ", ".join(f"[{text}]({target})" for text, target in claim.see)
    where = f"§ {claim.where}" + f"; also {claim.also}" * bool(claim.also)
    where = where.replace(" §", "\u00a0§").replace("§ ", "§\u00a0")
    return textwrap.fill(
        f"**{claim.id}, {claim.verdict}.** *{claim.says}* ({where}) {claim.truth} →\u00a0{links}",
        110,
        break_long_words=False,
        break_on_hyphens=False,
    )


def count() -> tuple[Counter, Counter]:
    """How many claims of (article, verdict), how many attempts of (listing, kind)."""
    claims = Counter((int(claim.id.partition(".")[0]), claim.verdict) for claim in CLAIMS)
    attempts = Counter((each.id.partition(".")[0], each.kind) for each in ATTEMPTS)
    return claims, attempts
