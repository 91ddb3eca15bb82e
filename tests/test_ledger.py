"""The ledger of chapter 13: each row keeps its word, a false one is found out, none gets lost."""

import html
import re
from collections import Counter
from dataclasses import replace

import keras
import ledger
import pytest
import torch

from tools.chapter import ROOT

ROWS = ledger.rows()
TOPICS = {  # how many rows a topic has at least: none may vanish unnoticed
    "Layers": 50,
    "Activations": 25,
    "Initialisers": 18,
    "Losses": 35,
    "Optimisers": 40,
    "Schedules": 9,
    "Training": 22,
    "Whole networks": 10,
    "Keras in PyTorch": 19,
    "PyTorch in Keras": 6,
    "Saving": 6,
    "Precision": 3,
    "The backend": 3,
}
NAMED = {e.name: e for e in ROWS}


@pytest.fixture
def row():
    return NAMED["LayerNormalization, epsilon"]


@pytest.mark.parametrize("name", NAMED)
def test_a_row_keeps_its_word(name):
    [found] = ledger.measure([NAMED[name]])
    assert found.seconds < 20
    assert found.entry.keras and found.entry.torch and found.entry.mend and found.entry.unit


def test_the_topics_are_complete():
    found = Counter(e.topic for e in ROWS)
    assert set(found) == set(TOPICS)
    assert {topic: n for topic, n in TOPICS.items() if found[topic] < n} == {}
    assert sum(len(ledger.rows(topic)) for topic in TOPICS) == len(ROWS)


def test_names_are_unique():
    assert len(NAMED) == len(ROWS)


@pytest.mark.parametrize("chapter", sorted({e.chapter for e in ROWS}))
def test_a_row_points_to_a_chapter(chapter):
    assert (ROOT / "notebooks" / f"{chapter}.ipynb").is_file()


FALSE = [
    (lambda: (1.0, 0.5), {}, "says at most 1e-12, and is 5.0e-01 apart"),
    (lambda: (1.0, float("nan")), {}, "says at most 1e-12, and is nan apart"),
    (lambda: (0.0, 0.0), {}, "finds 0.0"),
    (lambda: (1.0, 0.0), {"mend": "nothing to do: the same"}, "finds 1.0"),
    (lambda: (float("nan"), 0.0), {"mend": "nothing to do"}, "finds nan"),
    (lambda: ("ValueError", 0.0), {"mend": "nothing to do"}, "finds ValueError"),
    (lambda: 1 / 0, {}, "can't be measured: ZeroDivisionError"),
    (lambda: (1.0,), {}, "can't be measured: ValueError"),
]


@pytest.mark.parametrize(("run", "words", "sentence"), FALSE)
def test_a_false_row_is_named(row, run, words, sentence):
    with pytest.raises(AssertionError) as error:
        ledger.measure([row, replace(row, run=run, name="a false row", **words)])
    assert str(error.value).startswith("'a false row' ")
    assert sentence in str(error.value)


def test_a_row_may_have_no_mend(row):
    [found] = ledger.measure([replace(row, run=lambda: (1.0, None))])
    assert found.differs
    assert "stays apart" in str(ledger.show([found]))


@pytest.mark.parametrize("float32", [True, False])
def test_rows_run_on_the_cpu_whatever_the_default(row, float32):
    """A reader's GPU has other digits, and float64 isn't on all of them."""
    found = []
    run = lambda: (1.0, found.append((torch.ones(1), keras.ops.ones(1))))  # noqa: E731
    with keras.device("meta"), torch.device("meta"):
        ledger.measure([replace(row, run=run, float32=float32)])
    assert {tensor.device.type for tensor in found[0]} == {"cpu"}


def test_a_few_rows_say_what_each_framework_does(row):
    assert f"Keras: {row.keras}; PyTorch: {row.torch}; of {row.unit}" in str(
        ledger.show([fake(row)])
    )


def test_a_name_is_given_once(row):
    with pytest.raises(ValueError, match="has a row 'LayerNormalization, epsilon' already"):
        ledger.entry("Layers", row.name, keras="", torch="", mend="", unit="", chapter="")
    assert len(ledger.ENTRIES) == len(ROWS)


def test_a_topic_must_exist():
    with pytest.raises(ValueError, match="no topic 'layers': its topics are Layers, "):
        ledger.rows("layers")


def fake(e):
    """A measured row without its measurement."""
    return ledger.Measured(e, 1.0, 0.0, 0.0)


def test_the_table_holds_every_row():
    rows = [fake(e) for e in ROWS]
    page = ledger.show(rows)._repr_html_()
    assert page.startswith('<table class="findable ledger"><thead>')
    body = page.partition("<tbody>")[2]
    lines = re.findall(r'<tr data-topic="([^"]+)">(.*?)</tr>', body, re.S)
    assert [html.unescape(topic) for topic, _ in lines] == [e.topic for e in ROWS]
    for (_, line), e in zip(lines, ROWS, strict=True):
        line = line.replace("<wbr>", "")
        cells = dict(re.findall(r'<td data-label="([^"]+)"[^>]*>(.*?)</td>', line, re.S))
        assert len(cells) == 8
        assert html.unescape(cells["What"]) == e.name
        assert html.unescape(cells["Keras default"]) == e.keras
        assert html.unescape(cells["PyTorch default"]) == e.torch
        assert html.unescape(cells["Reconciled by"]) == e.mend
        assert f'href="{e.chapter}.ipynb"' in cells["Chapter"]
    text = str(ledger.show(rows))
    assert all(e.name in text for e in ROWS)


def test_long_code_may_break(row):
    page = ledger.show(
        [fake(replace(row, mend="model.layers.dense.kernel, not a.b"))]
    )._repr_html_()
    assert "model.<wbr>layers.<wbr>dense.<wbr>kernel, not a.b" in page


def test_a_table_escapes_what_html_would_read(row):
    page = ledger.show([fake(replace(row, name="<b> & c"))])._repr_html_()
    assert "&lt;b&gt; &amp; c" in page


@pytest.mark.parametrize(
    ("before", "bound", "float32", "shown"),
    [
        (0.4567, 1e-12, False, "0.46"),
        (0.4567, 1e-6, True, "0.5"),
        (38.4, 1e-12, False, "38"),
        (1234.0, 1e-12, False, "1200"),
        (84.0, 1e-6, True, "80"),
        (3.456e-8, 1e-12, False, "3e-08"),
        (1e-13, 1e-12, False, "the same"),
        ("ValueError", 1e-12, False, "ValueError"),
    ],
)
def test_a_difference_is_printed_coarsely(row, before, bound, float32, shown):
    e = replace(row, bound=bound, float32=float32)
    cells = re.findall(r"<td[^>]*>(.*?)</td>", ledger.show([fake_with(e, before)])._repr_html_())
    assert cells[3] == shown
    assert cells[6] == f"≤ {bound:.0e}"


def fake_with(e, before):
    return ledger.Measured(e, before, 0.0, 0.0)


def test_find():
    rows = [fake(e) for e in ROWS]
    names = [found.entry.name for found in ledger.find(rows, "EPSILON adam")]
    assert "Adam, epsilon" in names
    assert len(names) < len(rows) / 4
    assert ledger.find(rows, "") == rows
    assert ledger.find(rows, "no such words") == []
    assert str(ledger.show(rows, "no such words")) == "No row of the ledger says that."
    assert "says that" in ledger.show(rows, "no such words")._repr_html_()
