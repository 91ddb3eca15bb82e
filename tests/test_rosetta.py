"""Every row of the page Rosetta is run on both sides, and both must find the same."""

import json
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
NAMES = rosetta.read_names(ROOT / "book" / "rosetta")
TOLERANCE = 1e-12  # a few thousand roundings in float64


def put(parameter: torch.Tensor, value: torch.Tensor) -> None:
    """Write a value into a parameter of the same shape."""
    assert parameter.shape == value.shape, (parameter.shape, value.shape)
    with torch.no_grad():
        parameter.copy_(value)


def fresh(value):
    """A tensor or an array of one's own; anything else as it is."""
    if type(value) is torch.Tensor:
        return value.detach().clone().requires_grad_(value.requires_grad)
    return value.copy() if isinstance(value, np.ndarray) else value


def base(seed: int, folder: Path) -> dict:
    """The names that each row may use without saying so."""
    return {
        "keras": keras, "layers": layers, "ops": ops, "torch": torch, "nn": nn, "F": F, "np": np,
        "rng": np.random.default_rng(seed), "folder": folder,
        "copy_weights": parity.copy_weights, "put": put,
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
            sides[side] = {name: fresh(value) for name, value in shared.items()}
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
            if a.shape != b.shape or not (np.isfinite(a) & np.isfinite(b)).all():
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
    assert same == bool(row.fixed), (
        f"{row.task}: the result {'never ' * same}changes with the input"
    )


# ---------------------------------------------------------------------------------- the page

COMING = {"10_keras_in_torch", "11_torch_in_keras", "12_weights", "13_defaults"}


def headings(chapter: str) -> set[str]:
    """The headings of a chapter, as they are written."""
    cells = json.loads((ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf8"))[
        "cells"
    ]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return set(re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE))


def test_every_row_leads_to_a_heading_of_the_book() -> None:
    lost = []
    for row in ROWS:
        chapter, _, heading = row.chapter.partition(": ")
        path = ROOT / "notebooks" / f"{chapter}.ipynb"
        if not path.exists():
            lost += [] if chapter in COMING else [f"{row.task}: no chapter {chapter}"]
        elif heading and heading not in headings(chapter):
            lost.append(f"{row.task}: {chapter} has no heading {heading!r}")
        elif not heading and chapter not in COMING:
            lost.append(f"{row.task}: which heading of {chapter}?")
    assert not lost, "\n".join(lost)


def test_rows_fit_into_two_columns() -> None:
    long = [
        f"{row.task}: {line}"
        for row in ROWS
        for side in rosetta.SIDES
        for line in getattr(row, side).splitlines()
        if len(line) > 54
    ]
    assert not long, "\n".join(long)


def test_each_row_and_topic_has_a_place_of_its_own() -> None:
    places = [row.anchor for row in ROWS] + [rosetta.slug(topic.name) for topic in TOPICS]
    assert len(set(places)) == len(places)
    assert len(ROWS) >= 80
    assert all(topic.rows and topic.about for topic in TOPICS)


@pytest.mark.parametrize("side", rosetta.SIDES)
def test_the_index_is_corrected_where_it_has_a_name(side) -> None:
    index = rosetta.index(ROWS, side)
    assert not set(NAMES[side]) - set(index), "names that no row has"
    for name, better in NAMES[side].items():
        assert better and not set(better) - {"says", "first"}, name
        tasks = [row.task for row in index[name][1]]
        assert better.get("first", tasks[0]) in tasks, name
        for answer in re.findall(r"`((?:keras|layers|ops|torch|nn|F)\.[\w.]+)`", str(better)):
            eval(answer)  # there is such a thing
    loose = [name for name, (answers, _) in index.items() if not answers]
    assert not set(loose) - set(NAMES[side]), "names without an answer"


def test_a_part_of_a_module_has_its_whole_name() -> None:
    code = "rules = torch.optim.lr_scheduler\nrule = rules.StepLR(optimizer, 2)\n"
    assert rosetta.names(code) == [(2, "torch.optim.lr_scheduler.StepLR")]
    for side in rosetta.SIDES:
        assert not [n for n in rosetta.index(ROWS, side) if re.match(r"\.[A-Z]\w+\(", n)]


def test_few_results_are_independent_of_the_input() -> None:
    assert sum(bool(row.fixed) for row in ROWS) <= len(ROWS) / 10
    assert sum(row.float32 for row in ROWS) <= 5


# ------------------------------------------------------------------------- the test of the test


def changed(row, **parts):
    """The row with other code."""
    return type(row)(**{**vars(row), **parts})


@pytest.mark.parametrize(
    ("task", "side", "right", "wrong"),
    [
        ("Reorder axes: channels last to channels first", "torch", "0, 3, 1, 2", "0, 3, 2, 1"),
        ("Standard deviation and variance", "torch", "correction=0", "correction=1"),
        ("BatchNorm, after training", "keras", "epsilon=1e-5", "epsilon=1e-3"),
        ("LayerNorm", "keras", "epsilon=1e-5", "epsilon=1e-3"),
        ("Warm up, then follow a cosine", "torch", "T_max=4", "T_max=5"),
        ("Warm up, then follow a cosine", "torch", "milestones=[3]", "milestones=[4]"),
        ("Limit the length of the whole gradient", "torch", "0.5", "0.6"),
        ("A training step of your own", "keras", "self.metrics[0].update_state(loss)", "pass"),
        ("A number that the model keeps but does not learn", "keras", '"zeros"', "None"),
        ("Adam", "keras", "epsilon=1e-20", "epsilon=1e-7"),
        ("Classes as integers", "keras", "from_logits=True", "from_logits=False"),
        ("Average pooling that keeps the size", "torch", "pad=False", "pad=True"),
        ("A learning rate in stairs", "torch", "milestones=[3, 5]", "milestones=[2, 4]"),
        ("Multi-head attention", "torch", "~allowed", "allowed"),
        ("Two classes from logits: accuracy", "keras", "threshold=0.0", "threshold=0.5"),
        ("BatchNorm, in training", "keras", "momentum=0.9", "momentum=0.99"),
        ("GELU", "keras", "approximate=False", "approximate=True"),
        ("Keep the best weights", "torch", "w.clone()", "w"),
    ],
)
def test_a_wrong_argument_is_seen(task, side, right, wrong, tmp_path) -> None:
    row = next(row for row in ROWS if row.task == task)
    code = getattr(row, side)
    assert right in code
    ours, theirs = run(changed(row, **{side: code.replace(right, wrong)}), 1, tmp_path)
    assert gap(ours, theirs) > 1e-6


def test_the_comparison_sees_shapes_kinds_and_nans() -> None:
    one = [np.ones(3)]
    assert gap(one, [np.ones(3)]) == 0
    for other in ([], [np.ones((3, 1))], [np.full(3, np.nan)], ["1"], [np.ones(3), np.ones(3)]):
        assert gap(one, other) == gap(other, one) == np.inf
    assert gap(one, [np.array([1, 1, 1 + 1e-9])]) > TOLERANCE
