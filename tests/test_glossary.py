"""The glossary: its form, where each term is taught, and the links between it and the chapters."""

import inspect
import json
import re
import sys
from functools import cache
from pathlib import Path

import keras
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import glossary  # noqa: E402
import names_page  # noqa: E402

TEXT = (ROOT / "book" / "glossary.md").read_text(encoding="utf8")
TERMS = glossary.read(TEXT)
SLUGS = {term.slug for term in TERMS}
LINK = re.compile(r"\[([^\[\]]+)\]\(\.\./book/glossary\.md#([\w-]+)\)")


@cache
def cells(chapter: str) -> list[dict]:
    """The cells of a chapter."""
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    return json.loads(path.read_text(encoding="utf8"))["cells"]


def prose(chapter: str):
    """Each piece of a chapter's prose with the anchor of the heading that it stands under."""
    here = ""
    for cell, found in zip(cells(chapter), names_page.anchors(cells(chapter)), strict=True):
        if cell["cell_type"] == "markdown":
            first, *parts = re.split(r"(?m)^(?=#{1,3} )", "".join(cell["source"]))
            yield here, first
            for part, (_, anchor) in zip(parts, found, strict=True):
                yield anchor, part
        here = found[-1][1] if found else here


def links() -> list[tuple[str, str, str, str]]:
    """Every link to the glossary: the chapter, the section's anchor, the words, the term's slug."""
    return [
        (chapter, anchor, *match.groups())
        for chapter in names_page.chapters(ROOT)
        for anchor, text in prose(chapter)
        for match in LINK.finditer(text)
    ]


LINKS = links()


# ------------------------------------------------------------------------------------ the page


def test_terms_stand_once_and_in_order() -> None:
    names = [term.name for term in TERMS]
    assert 120 <= len(names) <= 215
    assert names == sorted(names, key=lambda name: name.lower().replace("-", " "))
    assert len({name.lower() for name in names}) == len(SLUGS) == len(names)
    assert [term for term in TERMS if term.letter != term.name[0].upper()] == []
    letters = re.findall(r"(?m)^## (.+)$", TEXT)
    assert letters == sorted(set(letters))


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.slug)
def test_a_term_is_said_in_a_few_plain_words(term) -> None:
    assert term.says.endswith((".", "?", ".)")), term.name
    assert term.says[0].isupper() or term.says.startswith(("[", "$", "1", "mAP")), term.name
    assert 20 <= len(term.says) <= 330
    assert term.says.count(". ") <= 2  # two sentences, three where the last is a warning
    said = glossary.plain(term.says)
    assert not re.search(r"[\\${}`*\]]", said), said
    for slug in re.findall(r"\]\(#([\w-]+)\)", term.says):
        assert slug in SLUGS - {term.slug}, slug


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.slug)
def test_a_term_leads_to_the_section_that_teaches_it(term) -> None:
    assert term.chapter in names_page.chapters(ROOT)
    there = [heading for found in names_page.anchors(cells(term.chapter)) for heading in found]
    assert (term.heading, term.anchor) in there


def test_every_term_is_linked_where_it_is_taught() -> None:
    there = {(chapter, anchor, slug) for chapter, anchor, _, slug in LINKS}
    lost = [t.name for t in TERMS if (t.chapter, t.anchor, t.slug) not in there]
    assert not lost, f"no link from the section that teaches: {lost}"


def test_every_link_leads_to_a_term() -> None:
    assert not [link for link in LINKS if link[3] not in SLUGS]
    every = sum(
        "".join(cell["source"]).count("book/glossary.md")
        for chapter in names_page.chapters(ROOT)
        for cell in cells(chapter)
    )
    assert every == len(LINKS)  # none in code, none of another form


def test_links_do_not_crowd() -> None:
    for chapter in names_page.chapters(ROOT):
        here = [slug for name, _, _, slug in LINKS if name == chapter]
        assert len(set(here)) == len(here), chapter  # a term at most once a chapter
        assert len(here) <= 32, chapter
        for cell in cells(chapter):
            for line in "".join(cell["source"]).splitlines():
                assert not (re.match(r"#{1,6} ", line) and LINK.search(line)), line


def test_linked_words_name_the_term() -> None:
    """The words and the term, its other words or its sentences have something in common."""
    by_slug = {term.slug: term for term in TERMS}
    strange = []
    for chapter, _, words, slug in LINKS:
        term = by_slug[slug]
        known = f"{term.name} {term.also} {term.names} {term.says}".lower()
        stems = [word[:4] for word in re.findall(r"[a-z]{3,}", words.lower())]
        if not any(stem in known for stem in stems):
            strange.append(f"{chapter}: {words!r} for {term.name!r}")
    assert not strange, strange


@cache
def vocabulary() -> set[str]:
    """Every public name, method and argument of the two frameworks that the glossary may mean."""
    modules = [keras, keras.layers, keras.losses, keras.metrics, keras.optimizers, keras.ops]
    modules += [keras.optimizers.schedules, keras.initializers, keras.regularizers, keras.callbacks]
    modules += [keras.utils, torch, torch.nn, torch.nn.init, torch.nn.utils, torch.optim]
    modules += [torch.optim.lr_scheduler, torch.optim.swa_utils, torch.utils.data, torch.utils]
    modules += [keras.Model, torch.func, torch.Tensor, torch.export, torch.onnx, torch.autograd]
    out = {"keras", "torch", "_", "pad", "if", "mixed_bfloat16", "same", "False", "True", "None"}
    out |= set(inspect.signature(keras.Model.fit).parameters)
    for module in modules:
        for name in dir(module):
            if name.startswith("_"):
                continue
            thing = getattr(module, name, None)
            out.add(name)
            if inspect.isclass(thing):
                out |= {method for method in dir(thing) if not method.startswith("_")}
            try:
                out |= set(inspect.signature(thing).parameters)
            except (TypeError, ValueError):
                continue
    return out


@pytest.mark.parametrize("term", [t for t in TERMS if t.names], ids=lambda term: term.slug)
def test_the_frameworks_names_exist(term) -> None:
    assert re.match(r"\*Keras\* .+|\*PyTorch\* .+", term.names)
    for code in re.findall(r"`([^`]+)`", term.names):
        for word in re.findall(r"[A-Za-z_]\w*", code):
            known = word in vocabulary() or hasattr(keras.layers.BatchNormalization(), word)
            assert known or hasattr(torch.nn.BatchNorm2d(1), word), f"{term.name}: {word}"


# ------------------------------------------------------------------------- the test of the test

ENTRY = "# G\n\n## A\n\n### a term\n\n{}\n"
GOOD = "What it is.\n\n[Chapter 1: Tensors](../notebooks/01_concepts.ipynb#tensors)"


def test_an_entry_is_read() -> None:
    (term,) = glossary.read(ENTRY.format(f"<!-- also: thing -->\n\n{GOOD}"))
    assert (term.name, term.slug, term.also, term.letter) == ("a term", "a-term", "thing", "A")
    assert (term.chapter, term.heading, term.anchor) == ("01_concepts", "Tensors", "tensors")


@pytest.mark.parametrize(
    "wrong",
    [
        "What it is.",
        GOOD.partition("\n\n")[2],
        GOOD.replace("Chapter 1", "Chapter 2"),
        GOOD.replace(".ipynb#tensors", ".ipynb"),
        f"One.\n\nTwo.\n\nThree.\n\n{GOOD}",
    ],
)
def test_an_entry_that_lacks_something_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="a term"):
        glossary.read(ENTRY.format(wrong))


def test_a_mark_for_the_search_box_stands_under_each_term() -> None:
    marked = glossary.mark(TEXT)
    assert marked.count('class="names term"') == len(TERMS)
    assert "<!-- also" not in marked
    entry = "### rate\n\n<!-- also: lr & eta -->\n\nA.\n"
    assert 'data-also="lr &amp; eta"' in glossary.mark(entry)


def test_a_sentence_becomes_plain_text() -> None:
    assert glossary.plain("A [b](#c), `d` and $\\max(0, a)$.") == "A b, d and max(0, a)."
    assert glossary.plain("$2^{-53}$, *e*, `no_grad`") == "2⁻⁵³, e, no_grad"
