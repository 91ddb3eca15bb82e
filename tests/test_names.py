"""The index of names: each name is looked up in the installed libraries, and none is missing."""

import importlib
import io
import json
import logging
import re
import sys
import tokenize
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import names_page  # noqa: E402
import rosetta  # noqa: E402

INDEX = names_page.index(ROOT)
SAID = names_page.read(ROOT / "book")
FRAMEWORKS = {"keras", "torch"}


@cache
def exists(name: str) -> bool:
    """Whether there is such a thing in the installed version: a module, or a part of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        try:
            for part in parts[count:]:
                thing = getattr(thing, part)
        except AttributeError:
            return False
        return True
    return False


def code_of(chapter: str) -> str:
    """A chapter's code, all cells."""
    text = (ROOT / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf8")
    code = (cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join("".join(cell["source"]) for cell in code)


# ------------------------------------------------------------------------------- every name exists


def test_every_name_is_in_the_installed_version() -> None:
    unknown = {name: list(use.sections) for name, use in INDEX.items() if not exists(name)}
    assert not unknown, f"invented, or list it under [invented] in book/names.toml: {unknown}"


def test_every_name_on_the_page_rosetta_exists() -> None:
    rows = [row for topic in rosetta.read(ROOT / "book" / "rosetta") for row in topic.rows]
    unknown = {
        rosetta.full(name): row.task
        for row in rows
        for side in rosetta.SIDES
        for _, name in rosetta.names(getattr(row, side))
        if not name.startswith(".") and not exists(rosetta.full(name))
    }
    assert not unknown


def test_what_is_said_to_be_invented_is() -> None:
    assert SAID["invented"]
    for name, says in SAID["invented"].items():
        assert not exists(name), name
        assert len(says) > 20
        for chapter, anchor in re.findall(r"\.\./notebooks/(\w+)\.ipynb#([\w-]+)", says):
            path = ROOT / "notebooks" / f"{chapter}.ipynb"
            cells = json.loads(path.read_text(encoding="utf8"))["cells"]
            assert anchor in {a for found in names_page.anchors(cells) for _, a in found}, name


def test_an_invented_name_is_caught() -> None:
    code = "import keras\nfrom torch import nn\nkeras.layers.Dens(3)\nnn.ReLU()\nnn.Relu()\n"
    found = [names_page.full(name, SAID) for name in names_page.names(code)]
    assert [name for name in found if not exists(name)] == ["keras.layers.Dens", "torch.nn.Relu"]
    assert not exists("torch.nn.Linear.forwards")
    assert exists("torch.nn.Linear.forward") and exists("torch.optim.lr_scheduler")


# --------------------------------------------------------------------------------- none is missing

SHORT = {"layers": "keras.layers", "ops": "keras.ops", "nn": "torch.nn", "np": "numpy"}
SHORT |= {"F": "torch.nn.functional"}


def by_tokens(code: str) -> set[str]:
    """The names that begin with a framework, found another way: by tokens instead of a tree."""
    words = [
        t.string
        for t in tokenize.generate_tokens(io.StringIO(code).readline)
        if t.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
    ]
    out, at = set(), 0
    while at < len(words):
        name, start = words[at], at
        while words[at + 1 : at + 2] == ["."] and re.match(r"[^\W\d]", words[at + 2]):
            name += "." + words[at + 2]
            at += 2
        at += 1
        head = name.split(".")[0]
        after = start == 0 or words[start - 1] not in (".", "import", "from", ",")
        if "." in name and head in {*FRAMEWORKS, "layers", "ops", "nn", "F"} and after:
            out.add(SHORT.get(head, head) + name[len(head) :])
    return out


@pytest.mark.parametrize("chapter", names_page.chapters(ROOT))
def test_a_second_reading_finds_no_other_names(chapter: str) -> None:
    here = {name for name, use in INDEX.items() if chapter in use.sections}
    never = tuple(SAID["invented"])
    found = {n for n in by_tokens(code_of(chapter)) if exists(n) and not n.startswith(never)}
    assert not found - here, "the index lacks these"
    known = {n for n in here if n.split(".")[0] in FRAMEWORKS}
    assert len(known & found) >= len(found) > 0 or not known


def test_each_method_is_used_and_is_nobody_elses() -> None:
    others = (np.ndarray, np.float64, np.random.Generator, str, bytes, int, float, Path)
    others += (list, dict, set, tuple)
    used = {name.rpartition(".")[2] for name in INDEX}
    for owner, methods in SAID["methods"].items():
        assert methods == sorted(set(methods)), owner
        for method in methods:
            assert exists(f"{owner}.{method}"), f"{owner}.{method}"
            assert method in used, f"no chapter uses {owner}.{method}"
            shared = [other.__name__ for other in others if hasattr(other, method)]
            assert method in MINE or not shared, f".{method} may be one of {shared}"
    listed = [method for methods in SAID["methods"].values() for method in methods]
    assert len(set(listed)) == len(listed)


MINE = {"device"}  # NumPy has it since 2.0; no chapter asks an array for it


def test_methods_that_only_a_framework_has_are_listed() -> None:
    import keras
    import torch

    owners = [torch.Tensor, torch.nn.Module, torch.optim.Optimizer, keras.Model, keras.layers.Layer]
    owners += [keras.Variable, keras.optimizers.Optimizer, keras.metrics.Metric]
    others = (np.ndarray, str, list, dict, set, Path, logging.Logger, io.BytesIO)
    listed = {m for part in ("methods", "overridden") for ms in SAID[part].values() for m in ms}
    counts: dict[str, int] = {}
    for chapter in names_page.chapters(ROOT):
        for name in set(names_page.names(code_of(chapter))):
            if name.startswith(".") and not name.startswith(("._", ".__")):
                counts[name[1:]] = counts.get(name[1:], 0) + 1
    missing = [
        name
        for name, count in counts.items()
        if count >= 3 and name not in listed | OURS
        if any(hasattr(owner, name) for owner in owners)
        and not any(hasattr(other, name) for other in others)
    ]
    assert not missing, f"put these under [methods] in book/names.toml, or in OURS: {missing}"


OURS = {"name", "type", "path", "output", "indices", "compile", "build", "call", "forward", "apply"}
OURS |= {"values", "metrics", "input", "graph", "module", "log", "median", "seed", "ndim", "dtype"}


# ------------------------------------------------------------------------------------- the reading


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from torch import nn\nnn.Linear(2, 3)", ["torch.nn.Linear"]),
        ("import torch.nn.functional as F\nF.relu", ["torch.nn.functional.relu"]),
        ("from torch.func import vmap as v\nv(f)", ["torch.func.vmap"]),
        ("import torch\nr = torch.optim\nr.SGD(p)", ["torch.optim", "torch.optim.SGD"]),
        ("from keras import layers\ndef f(layers):\n    layers.append(1)", [".append"]),
        ("from keras import layers\ndef f():\n    layers = []\n    layers.sort()", [".sort"]),
        ("from keras import layers\nlayers = [1]\nlayers.sort()", [".sort"]),
        ("from keras import ops\nf = lambda ops: ops.pop()\nops.exp", [".pop", "keras.ops.exp"]),
        (
            "from sklearn.svm import SVC\nm = SVC()\nm.fit(x)\nn.fit(x)",
            ["sklearn.svm.SVC", ".fit"],
        ),
        (
            "import keras\nclass L(keras.layers.Layer):\n    def call(self, x): ...\n",
            ["keras.layers.Layer:call", "keras.layers.Layer"],
        ),
        ("import torch\n@torch.no_grad()\ndef f(): ...", ["torch.no_grad"]),
        ("import torch\ndef f(t: torch.Tensor) -> torch.Size: ...", ["torch.Tensor", "torch.Size"]),
    ],
)
def test_names_are_read(code: str, found: list[str]) -> None:
    assert names_page.names(code) == found


def test_what_a_cell_imports_the_next_one_knows() -> None:
    aliases: dict[str, str] = {}
    names_page.names("from torch import nn", aliases)
    assert names_page.names("nn.ReLU()", aliases) == ["torch.nn.ReLU"]


def test_a_method_belongs_to_its_class() -> None:
    assert names_page.full(".fit", SAID) == "keras.Model.fit"
    assert names_page.full(".detach", SAID) == "torch.Tensor.detach"
    assert names_page.full(".mean", SAID) == ""
    assert names_page.full("keras.layers.Layer:call", SAID) == "keras.layers.Layer.call"
    assert names_page.full("keras.layers.Layer:share", SAID) == ""
    assert names_page.full("helpers.parity.pair", SAID) == ""
    assert names_page.full("torch.keras.Sequential", SAID) == ""


# ---------------------------------------------------------------------------------------- the page


def test_the_chapters_are_those_of_the_table_of_contents() -> None:
    listed = names_page.chapters(ROOT)
    there = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    assert listed == [name for name in there if name in listed]
    assert set(names_page.chapters(ROOT)) == {c for use in INDEX.values() for c in use.sections}


def test_names_are_sorted_and_filed() -> None:
    assert list(INDEX) == sorted(INDEX, key=names_page.sort_key)
    assert names_page.sort_key("keras.layers.Dense")[0] == "dense"
    assert names_page.topic_of("keras.layers.Dense") == "Keras: layers"
    assert names_page.topic_of("keras.Model.fit") == "Keras: the rest"
    assert names_page.topic_of("torch.nn.functional.relu") == "PyTorch: functions"
    assert names_page.topic_of("torch.nn.ReLU") == "PyTorch: layers"
    assert names_page.topic_of("numpy.mean") == names_page.OTHERS
    assert {names_page.topic_of(name) for name in INDEX} == {
        *names_page.TOPICS.values(),
        names_page.OTHERS,
    }


def test_every_place_is_a_heading() -> None:
    for chapter in names_page.chapters(ROOT):
        path = ROOT / "notebooks" / f"{chapter}.ipynb"
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        known = {a for found in names_page.anchors(cells) for _, a in found}
        for name, use in INDEX.items():
            for place in use.sections.get(chapter, []):
                assert place.rpartition("#")[2] in known, (name, place)


def test_a_row_says_where() -> None:
    dense = names_page.where(INDEX["keras.layers.Dense"])
    assert '[1](../notebooks/01_concepts.ipynb#one-layer- "One layer: y = f(Wx + b)")' in dense
    assert "Rosetta: [A dense layer](rosetta.md#a-dense-layer)" in dense
    few = names_page.where(INDEX["keras.callbacks.TerminateOnNaN"])
    anchor = "18_safety.ipynb#nan-and-where-it-came-from"
    assert few == f"[18: nan, and where it came from](../notebooks/{anchor})"
    for row in names_page.table(INDEX).splitlines():
        assert len(re.findall(r"(?<!\\)\|", row)) == 3, row
