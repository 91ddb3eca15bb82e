"""Chapter 28's counts: code, pages, mistakes, verdicts, and the programs that are timed cold."""

import json
import math
import textwrap
from pathlib import Path

import numpy as np
import pytest
from choosing import count, pages, toys, verdict

from tools.bench import first

CHAPTERS = Path(__file__).parents[1] / "notebooks"


def notebook(folder, name, cells):
    """A notebook file of (type, source, tags, text that it printed)."""
    made = []
    for kind, source, tags, text in cells:
        cell = {"cell_type": kind, "source": source.splitlines(True), "metadata": {"tags": tags}}
        if kind == "code":
            cell["outputs"] = [{"output_type": "stream", "text": text.splitlines(True)}]
        made.append(cell)
    path = folder / name
    path.write_text(json.dumps({"cells": made}))
    return path


# ------------------------------------------------------------------------------------- count


def test_lines_are_those_that_hold_something():
    assert count.lines("") == 0
    assert count.lines("a = 1\n\n  \n# why\nb = 2\n") == 3


@pytest.mark.parametrize(
    ("code", "pieces"),
    [
        ("", 0),
        ("x", 1),
        ("x = 'a b c'", 3),
        ("f(x)[0]", 7),
        ("x = 1  # a comment", 3),
        ("def f(x):\n    return x", 8),
    ],
)
def test_pieces_are_names_numbers_strings_and_signs(code, pieces):
    assert count.pieces(code) == pieces


def test_pieces_dont_depend_on_where_lines_are_broken():
    assert count.pieces("f(a,\n  b,\n)") == count.pieces("f(a, b,)")


def test_what_isnt_python_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="isn't Python that can be counted"):
        count.pieces("f(")


# ------------------------------------------------------------------------------------- pages


def test_twins_are_neighbours_tagged_keras_and_torch(tmp_path):
    path = notebook(
        tmp_path,
        "03_x.ipynb",
        [
            ("code", "k1\nk2", ["keras"], ""),
            ("code", "t1", ["torch"], ""),
            ("markdown", "text", [], ""),
            ("code", "k3", ["keras", "uneven"], ""),
            ("code", "t3", ["torch", "uneven"], ""),
            ("code", "t4", ["torch"], ""),
        ],
    )
    assert pages.twins(path) == [
        pages.Twin(3, "k1\nk2", "t1", False),
        pages.Twin(3, "k3", "t3", True),
    ]


def test_chapters_are_all_up_to_the_last_in_order(tmp_path):
    for name in ("02_b.ipynb", "01_a.ipynb", "04_d.ipynb"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in pages.chapters(2, tmp_path)] == ["01_a.ipynb", "02_b.ipynb"]
    with pytest.raises(FileNotFoundError, match="no notebook of chapter 3"):
        pages.chapters(4, tmp_path)


def test_what_a_cell_printed_is_found_or_missed_in_a_sentence(tmp_path):
    cells = [("code", "print()", [], "one 1\n"), ("code", "print()", [], "two 2\ntwo 3\n")]
    notebook(tmp_path, "01_a.ipynb", cells)
    assert pages.printed(1, r"two (\d)", tmp_path)[1] == "2"
    with pytest.raises(LookupError, match="prints nothing like 'three' any more"):
        pages.printed(1, "three", tmp_path)


def test_headings_become_anchors_but_not_in_code(tmp_path):
    text = "# One\n```python\n# not one\n```\n## Two: $x$ and `y`\n#### too deep\n"
    path = notebook(tmp_path, "01_a.ipynb", [("markdown", text, [], "")])
    assert pages.anchors(path) == ["one", "two--and-y"]
    page = tmp_path / "page.md"
    page.write_text(text)
    assert pages.anchors(page) == ["one", "two--and-y"]


def test_a_heading_that_isnt_there_is_no_address(tmp_path):
    notebook(tmp_path, "07_x.ipynb", [("markdown", "## What `fit` costs", [], "")])
    assert pages.heading("7: What `fit` costs", tmp_path) == "07_x.ipynb#what-fit-costs"
    for wrong in ("7: Luck", "8: What `fit` costs"):
        with pytest.raises(LookupError, match="has no heading"):
            pages.heading(wrong, tmp_path)


def test_even_twins_have_equally_many_lines_in_every_chapter():
    """What the chapter's first count measures is this rule."""
    for path in pages.chapters():
        for twin in pages.twins(path):
            same = len(twin.keras.splitlines()) == len(twin.torch.splitlines())
            assert same or twin.uneven, path.name


def test_rosettas_tasks_are_all_there():
    tasks = pages.tasks()
    assert len(tasks) == 15 and sum(map(len, tasks.values())) > 190
    assert all(keras.strip() and torch.strip() for rows in tasks.values() for keras, torch in rows)


# ----------------------------------------------------------------------------------- verdict


@pytest.mark.parametrize(
    ("keras", "torch", "said"),
    [(1, 1, "either"), (4, 5, "either"), (5, 4, "either"), (3.9, 5, "Keras"), (5, 3.9, "PyTorch")],
)
def test_a_quarter_decides(keras, torch, said):
    assert verdict.rule(keras, torch) == said


def test_costs_are_positive():
    for costs in ((0, 1), (1, -1), (math.nan, 1)):
        with pytest.raises(ValueError, match="give positive numbers"):
            verdict.rule(*costs)
    with pytest.raises(ValueError, match="give positive numbers"):
        verdict.rule(1, 2, margin=0.5)


@pytest.fixture
def table():
    made = verdict.Table()
    made.enter("a", "First", (1, 2), "1: Tensors")
    made.enter(
        "b", "Second <b>", (3, 1.5), "14: What `fit` costs, and how to get it back", "{:.1f}"
    )
    made.enter("c", "Third", (1, 1), "14: Threads")
    return made


def test_the_table_says_the_same_as_text_and_as_a_page(table):
    assert [row.verdict for row in table.rows] == ["Keras", "PyTorch", "either"]
    lines = repr(table).splitlines()
    assert lines[1].split() == ["Second", "<b>", "3.0", "1.5", "PyTorch", "chapter", "14"]
    page = table._repr_html_()
    assert page.count("<tr>") == 4 and "Second &lt;b&gt;" in page
    address = "14_speed.ipynb#what-fit-costs-and-how-to-get-it-back"
    assert f'<a href="{address}">14, What fit costs, and how to get it back</a>' in page


def test_a_row_needs_a_section_and_a_verdict():
    with pytest.raises(LookupError, match="Chapter 14 has no heading 'Nowhere'"):
        verdict.Row("a", "First", "1", "2", "Keras", "14: Nowhere")
    with pytest.raises(ValueError, match="'both' is no verdict"):
        verdict.Row("a", "First", "1", "2", "both", "14: Threads")


def test_weights_are_shared_out(table):
    assert verdict.weigh(table.rows, {"a": 1, "c": 3}) == {
        "Keras": 0.25,
        "PyTorch": 0,
        "either": 0.75,
        "neither": 0,
    }
    for wrong in ({"d": 1}, {"a": 0}, {"a": -1, "b": 2}, {}):
        with pytest.raises(ValueError, match=r"No row is called|weight of 0 or more"):
            verdict.weigh(table.rows, wrong)


# ------------------------------------------------------------------------------------ faults


@pytest.fixture(scope="module")
def faults():
    from choosing import faults

    return faults


def test_both_have_the_loss_of_numpy(faults):
    pair = faults.make_pair(seed=3, hidden=7)
    assert pair.by_keras(pair.x, pair.y) == pytest.approx(pair.meant, rel=1e-5)
    assert pair.by_torch(pair.x, pair.y) == pytest.approx(pair.meant, rel=1e-5)
    assert pair.weights[0].shape == (64, 7)


def test_the_reference_is_the_formula(faults):
    zeros = [np.zeros((64, 3)), np.zeros(3), np.zeros((3, 5)), np.zeros(5)]
    assert faults.reference(zeros, np.ones((2, 64)), np.array([1, 4])) == pytest.approx(math.log(5))


def test_answers_are_told_apart(faults):
    import warnings

    def warned(category):
        warnings.warn("oh, 32x63", category, stacklevel=1)
        return 2.0

    assert faults.ask(lambda: 2.0, 2.0).kind == "meant"
    assert faults.ask(lambda: 2.001, 2.0).kind == "wrong"
    assert faults.ask(lambda: 2.0, None).kind == "wrong"
    assert faults.ask(lambda: math.nan, 2.0).kind == "wrong"
    assert faults.ask(lambda: warned(UserWarning), 2.0).kind == "meant"
    assert faults.ask(lambda: warned(UserWarning), None).kind == "refused"
    assert faults.ask(lambda: warned(DeprecationWarning), None).kind == "wrong"
    refused = faults.ask(lambda: 1 / 0, 2.0)
    assert (refused.kind, refused.error) == ("refused", "ZeroDivisionError")


def test_a_message_says_a_number_only_by_itself(faults):
    answer = faults.Answer("refused", "E", "layer 'first' got 32x63, not 164")
    assert answer.says("63") and answer.says("32") and answer.says("first")
    assert not answer.says("64") and not answer.says("6") and not answer.says("fir")


# ---------------------------------------------------------------------------------- programs


def test_bars_are_bright_where_the_label_says():
    x, y = toys.bars(2000, np.random.default_rng(0))
    assert x.shape == (2000, 64) and x.dtype == "float32" and set(y) == set(range(10))
    for label in range(10):
        mean = x[y == label].mean(0).reshape(8, 8)
        line = mean[label + 1] if label < 5 else mean[:, label - 4]
        assert line.min() > 1 and mean.sum() == pytest.approx(12, abs=2.5)


def test_the_programs_that_are_timed_are_the_chapters():
    timed = (CHAPTERS / "coldstart" / "programs.py").read_text("utf-8")
    shown = next(
        twin for twin in pages.twins(CHAPTERS / "28_which.ipynb") if "first_keras" in twin.keras
    )
    for code in (shown.keras, shown.torch):
        assert textwrap.indent(code, "    ") in timed


def test_ratios_are_taken_round_by_round():
    runs = {
        "keras": [{"import": 4.0 * n, "train": 2.0 * n, "accuracy": 0.9} for n in (1, 2, 3)],
        "torch": [{"import": 2.0 * n, "train": 2.0 * n, "accuracy": 0.8} for n in (1, 2, 3)],
    }
    found = first.summary(runs)
    assert found["keras over torch"]["import"] == {"low": 2, "median": 2, "high": 2}
    assert found["keras over torch"]["both"]["median"] == 1.5
    assert found["torch"]["seconds"]["both"]["median"] == 8 and found["rounds"] == 3
    assert found["keras"]["accuracy"] == [0.9] * 3


def test_a_program_that_fails_says_why(monkeypatch):
    class Failed:
        returncode, stderr, stdout = 1, "a long story\nKeyError: 'jax'\n", ""

    monkeypatch.setattr(first.subprocess, "run", lambda *args, **kwargs: Failed)
    with pytest.raises(RuntimeError, match="The jax program failed: KeyError: 'jax'"):
        first.once("jax")
