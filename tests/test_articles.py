"""Chapter 29 against its list: each entry stands in it once, holds, and leads somewhere."""

import ast
import importlib
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import articles
import keras
import numpy as np
import pytest
import torch
from articles.claims import at
from keras import layers
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from helpers import device
from helpers.data import load_mnist

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
ATTEMPTS = {each.id: each for each in articles.ATTEMPTS}
NAMES = {
    "keras": keras, "layers": layers, "torch": torch, "nn": nn, "F": F, "np": np,
    "importlib": importlib, "os": __import__("os"), "device": device, "DataLoader": DataLoader,
    "load_mnist": load_mnist, "x": np.full((2, 28, 28), 255, "uint8"), "y": np.zeros(2),
} | {name: getattr(articles, name) for name in articles.__all__}  # fmt: skip


def cells(path):
    return [
        SimpleNamespace(kind=cell["cell_type"], source="".join(cell["source"]))
        for cell in json.loads(path.read_text("utf-8"))["cells"]
    ]


@pytest.fixture(scope="module")
def chapter():
    return cells(FOLDER / "29_articles.ipynb")


@pytest.fixture(scope="module")
def prose(chapter):
    return "\n\n".join(cell.source for cell in chapter if cell.kind == "markdown")


@pytest.fixture(scope="module")
def tried(chapter):
    """The chapter's calls of `attempt`: the number, and the expression, as Python writes it."""
    found = []
    for cell in chapter:
        for node in ast.walk(ast.parse(cell.source)) if cell.kind == "code" else ():
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if called and node.func.id == "attempt":
                name, act = node.args
                found.append((name.value, ast.unparse(act.body)))
    return found


def anchors(path):
    """The anchors of a page's headings, as MyST makes them."""
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in cells(path) if cell.kind == "markdown")
    else:
        text = path.read_text("utf-8")
    text = re.sub(r"(?ms)^```.*?^```", "", text)
    heads = [h for h in re.findall(r"(?m)^#{1,3} (.*)$", text) if "$" not in h]  # MyST's differ
    return {re.sub(r"[^\w\- ]", "", head.strip().lower().replace(" ", "-")) for head in heads}


def test_each_attempt_stands_in_the_chapter_once_as_it_stands_in_the_list(tried):
    deliberate = ("1b.10", "torch.nn")  # the chapter shows that `attempt` can fail
    assert deliberate in tried
    tried.remove(deliberate)
    assert [name for name, _ in tried] == list(ATTEMPTS)
    for name, code in tried:
        assert code == ast.unparse(ast.parse(ATTEMPTS[name].code, mode="eval").body), name


@pytest.mark.parametrize("entry", articles.ATTEMPTS, ids=lambda entry: entry.id)
def test_an_attempt_does_what_the_list_says_and_what_is_named_instead_works(entry, capsys):
    assert entry.kind in articles.KINDS and bool(entry.raises) != bool(entry.gives)
    assert (entry.kind == "silent") <= (bool(entry.gives) or entry.id == "2a.29")
    names = NAMES | {"eval": lambda name: eval(name, dict(NAMES))}
    articles.attempt(entry.id, lambda: eval(entry.code, names))
    assert entry.id in capsys.readouterr().out
    error, words = articles.outcome(lambda: eval(entry.instead, dict(NAMES)))
    assert not error, words


def test_ids_are_in_order_and_listings_and_articles_complete(prose):
    for ids in (list(ATTEMPTS), [claim.id for claim in articles.CLAIMS]):
        assert len(ids) == len(set(ids))
        for group in dict.fromkeys(name.partition(".")[0] for name in ids):
            numbers = [int(name.partition(".")[2]) for name in ids if name.startswith(group + ".")]
            assert numbers == list(range(1, len(numbers) + 1)), group
    assert {name.partition(".")[0] for name in ATTEMPTS} == {each.id for each in articles.LISTINGS}
    heads = " ".join(re.findall(r"(?m)^### Listings? .*$", prose))
    for listing in articles.LISTINGS:
        assert len(re.findall(rf"\b{listing.id}\b", heads)) == 1
    for article in articles.ARTICLES:
        assert f"## Article {article.number}\n\n" in prose
        assert article.title in prose and article.english in prose


def test_each_claim_stands_in_the_chapter_once_as_the_list_says(prose):
    for article in articles.ARTICLES:
        assert prose.count(articles.written(article.number)) == 1
    for claim in articles.CLAIMS:
        assert prose.count(f"**{claim.id}, {claim.verdict}.**") == 1
        assert claim.verdict in articles.VERDICTS and claim.truth and claim.see
        assert claim.says.endswith(".") and claim.truth.endswith(".")


@pytest.mark.parametrize("claim", articles.CLAIMS, ids=lambda claim: claim.id)
def test_a_claims_links_lead_to_headings_that_exist(claim):
    for text, target in claim.see:
        assert text
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        path = (FOLDER / (file or "29_articles.ipynb")).resolve()
        assert path.is_file(), f"{claim.id} links to {file}"
        assert not anchor or anchor in anchors(path), f"{claim.id} links to #{anchor} in {file}"


def test_places_of_claims_name_articles_and_sections():
    for claim in articles.CLAIMS:
        assert re.fullmatch(r"[\d.]+|References", claim.where)
        for place in claim.also.split("; ") if claim.also else ():
            assert re.fullmatch(r"[1-5] § [\d.]+(, [\d.]+)*", place), (claim.id, place)


def test_no_claim_links_by_a_heading_that_isnt_there():
    assert at(1, "Tensors")[1] == "01_concepts.ipynb#tensors"
    assert "tensors" in anchors(FOLDER / "01_concepts.ipynb")
    assert "no-such-heading" not in anchors(FOLDER / "01_concepts.ipynb")


def test_attempt_refuses_what_isnt_so():
    with pytest.raises(ValueError, match=r"no attempt '9z\.1'"):
        articles.attempt("9z.1", lambda: None)
    with pytest.raises(AssertionError, match=r"1b\.10 was to raise AttributeError, not nothing"):
        articles.attempt("1b.10", lambda: "fine")
    with pytest.raises(AssertionError, match=r"1b\.10 says 'another'"):
        articles.attempt("1b.10", lambda: getattr(SimpleNamespace(), "x", None) or raising())
    with pytest.raises(AssertionError, match=r"was to give 1\.46, not 2\.00"):
        articles.attempt("1b.9", lambda: 2.0)
    with pytest.raises(AssertionError, match="and raised KeyError"):
        articles.attempt("1b.9", lambda: {}["x"])
    with pytest.raises(ValueError, match="no article 6"):
        articles.written(6)
    with pytest.raises(ValueError, match=r"keras\.nothing is no function"):
        articles.signature("keras.nothing")


def raising():
    raise AttributeError("another")


def test_a_gpu_excuses_only_what_needs_one(capsys):
    articles.attempt("1b.13", lambda: torch.zeros(1))  # where there is one
    assert "where there is no GPU" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="not KeyError"):
        articles.attempt("1b.13", lambda: {}["x"])


def test_a_lone_python_has_no_tensorflow_and_no_backend():
    articles.alone("import os; assert 'KERAS_BACKEND' not in os.environ")
    articles.alone("import importlib.util as u; assert u.find_spec('tensorflow') is None")
    with pytest.raises(ModuleNotFoundError, match="No module named 'tensorflow'"):
        articles.alone("import tensorflow.keras")
    with pytest.raises(RuntimeError, match="ended with AssertionError"):
        articles.alone("assert False")
    with pytest.raises(RuntimeError, match="ended with 3"):
        articles.alone("raise SystemExit(3)")


def test_keras_computes_where_there_is_no_tensorflow():
    told = "import os; os.environ['KERAS_BACKEND'] = 'torch'"
    articles.alone(f"{told}; import keras; assert float(keras.ops.sum(keras.ops.ones(2))) == 2")


def test_the_loaders_argument_is_the_name_of_the_copy(monkeypatch):
    """`load_data("train.csv")` doesn't read a CSV file: it stores MNIST under that name."""
    asked = {}

    def get_file(fname=None, origin=None, **_):
        asked.update(fname=fname, origin=origin)
        raise ConnectionError

    module = sys.modules["keras.src.datasets.mnist"]
    monkeypatch.setattr(module, "get_file", get_file)
    with pytest.raises(ConnectionError):
        module.load_data("train.csv")
    assert asked["fname"] == "train.csv" and asked["origin"].endswith("mnist.npz")


def test_the_count_counts_all():
    claims, attempts = articles.count()
    assert sum(claims.values()) == len(articles.CLAIMS)
    assert sum(attempts.values()) == len(articles.ATTEMPTS)
    assert {verdict for _, verdict in claims} == set(articles.VERDICTS)
    assert {kind for _, kind in attempts} == set(articles.KINDS)
