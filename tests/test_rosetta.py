"""Every row of the page Rosetta is run on both sides, and both must find the same."""

import json
import random
import re
from contextlib import nullcontext
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import torch
from keras import layers, ops
from torch import nn
from torch.nn import functional as F

from helpers import parity

ROOT = Path(__file__).resolve().parent.parent
spec = util.spec_from_file_location("rosetta", ROOT / "book" / "_ext" / "rosetta.py")
rosetta = util.module_from_spec(spec)
spec.loader.exec_module(rosetta)

TOPICS = rosetta.read(ROOT / "book" / "rosetta")
ROWS = [row for topic in TOPICS for row in topic.rows]
TOLERANCE = 1e-12  # a few thousand roundings in float64


def base(seed: int, folder: Path) -> dict:
    """The names that each row may use without saying so."""
    return {
        "keras": keras, "layers": layers, "ops": ops, "torch": torch, "nn": nn, "F": F, "np": np,
        "rng": np.random.default_rng(seed), "folder": folder, "copy_weights": parity.copy_weights,
    }  # fmt: skip


def run(row, seed: int, folder: Path) -> tuple:
    """What both sides of a row find, from inputs that the seed decides."""
    with nullcontext() if row.float32 else parity.float64():
        keras.utils.set_random_seed(seed)
        shared = base(seed, folder)
        exec(row.shared, shared)
        exec(row.setup, shared)
        sides = {}
        for side in rosetta.SIDES:
            keras.utils.set_random_seed(seed)
            sides[side] = dict(shared)
            exec(getattr(row, side), sides[side])
        k, t = (SimpleNamespace(**sides[side]) for side in rosetta.SIDES)
        exec(row.carry, shared | {"k": k, "t": t})
        for side, found in zip(rosetta.SIDES, (k, t), strict=True):
            sides[side].update(vars(found))
        found = []
        for side, expression in zip(rosetta.SIDES, row.same, strict=True):
            keras.utils.set_random_seed(seed)
            found.append(list(flat(eval(expression, sides[side]))))
        return tuple(found)


def flat(value):
    """The numbers, texts and shapes in a result, one array or text after the other."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from flat(part)
    elif isinstance(value, str) or value is None:
        yield value
    else:
        value = value.value if isinstance(value, keras.Variable) else value
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = value.float() if value.dtype == torch.bfloat16 else value
        yield np.asarray(value).astype(np.float64)


def gap(one: list, other: list) -> float:
    """The largest difference, as a part of the largest value of its array; inf for other kinds."""
    if len(one) != len(other) or not one:
        return np.inf
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            if a.shape != b.shape or not np.isfinite(a).all():
                return np.inf
            size = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0), 1e-300)
            worst = max(worst, np.abs(a - b).max(initial=0) / size)
        elif type(a) is not type(b) or a != b:
            return np.inf
    return worst


@pytest.mark.parametrize("row", ROWS, ids=[row.anchor for row in ROWS])
def test_both_sides_find_the_same(row, tmp_path) -> None:
    found = []
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        ours, theirs = run(row, seed, folder)
        difference = gap(ours, theirs)
        assert difference <= TOLERANCE, f"{row.task}: {difference}\n{ours}\n{theirs}"
        arrays = [a for a in ours if isinstance(a, np.ndarray)]
        assert any(np.ptp(a) > 0 if a.size > 1 else a.any() for a in arrays) or any(
            isinstance(a, str) for a in ours
        ), f"{row.task}: nothing but one number: {ours}"
        found.append(ours)
    same = gap(*found) <= 1e-9
    assert same == bool(row.fixed), f"{row.task}: the result {'never ' * same}changes with the input"
