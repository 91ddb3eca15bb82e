"""Every cause in the debugging guide is run: broken, found by its check, and mended."""

import ast
import json
import re
import warnings
from dataclasses import replace
from importlib import util
from pathlib import Path

import keras
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "book" / "symptoms"
spec = util.spec_from_file_location("symptoms", ROOT / "book" / "_ext" / "symptoms.py")
guide = util.module_from_spec(spec)
spec.loader.exec_module(guide)

TOPICS = guide.read(FOLDER)
SYMPTOMS = [symptom for topic in TOPICS for symptom in topic.symptoms]
CASES = [
    (symptom, cause, case)
    for symptom in SYMPTOMS
    for cause in symptom.causes
    for case in cause.cases
]
IDS = [f"{s.anchor}-{s.causes.index(c) + 1}-{case.side}" for s, c, case in CASES]
GIVEN = compile((FOLDER / "given.py").read_text(encoding="utf8"), "given.py", "exec")


def last(code: str, names: dict):
    """Run the code; the value of its last line."""
    tree = ast.parse(code)
    exec(compile(ast.Module(tree.body[:-1], []), "<check>", "exec"), names)
    return eval(compile(ast.Expression(tree.body[-1].value), "<check>", "eval"), names)


def run(case, code: str, folder: Path) -> tuple[bool, bool, dict]:
    """Whether the symptom is seen after that code, whether the check finds it, and the names.

    An error of the code is text under `raised`, its warnings are under `warned`; those of the
    setup, the check and `seen` are nobody's, and are raised.
    """
    keras.utils.set_random_seed(0)
    names = {"folder": folder}
    exec(GIVEN, names)
    exec(case.setup, names)
    names["raised"] = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Keras' own: its variables' __array__ has no `copy` yet, which NumPy 2 wants
        warnings.filterwarnings("ignore", message="__array__ implementation")
        try:
            exec(code, names)
        except Exception as error:  # whatever a reader may meet
            names["raised"] = f"{type(error).__name__}: {error}"
    names["warned"] = "\n".join(str(w.message) for w in caught)
    try:
        return truth(last(case.seen, names)), truth(last(case.check, names)), names
    except NameError as error:  # the code stopped before it made what is asked about
        raise AssertionError(f"{error}; the code said {names['raised']!r}") from error


def quoted(*texts: str) -> list[str]:
    """The longer quotations in backticks, one or two of them."""
    found = re.findall(r"(`+)(.+?)\1(?!`)", " ".join(texts))
    return [words.strip() for _, words in found if len(words) > 12]


def truth(value) -> bool:
    """True or False, and nothing that merely counts as one."""
    assert isinstance(value, (bool, np.bool_)) or getattr(value, "shape", None) == (), value
    return bool(value)


@pytest.mark.parametrize(("symptom", "cause", "case"), CASES, ids=IDS)
def test_the_broken_shows_it_and_the_mended_does_not(symptom, cause, case, tmp_path) -> None:
    for name in ("broken", "mend"):
        (tmp_path / name).mkdir()
    seen, found, names = run(case, case.broken, tmp_path / "broken")
    said = names["raised"] or names["warned"]
    assert seen, f"the broken code doesn't show it; it said {said!r}"
    assert found, f"the check overlooks it; the code said {said!r}"
    if "raised" in case.seen:  # so that a search for the message finds it
        assert any(words in said for words in quoted(symptom.looks, cause.why)), said
    else:
        assert not names["raised"], said
    seen, found, names = run(case, case.mend, tmp_path / "mend")
    said = names["raised"] or names["warned"]
    assert not said, f"the mended code says {said}"
    assert not seen, "the mended code still shows it"
    assert not found, "the check cries wolf over the mended code"


# ---------------------------------------------------------------------------------- the page


def headings(chapter: str) -> set[str]:
    """The headings of a chapter, as they are written."""
    path = ROOT / "notebooks" / f"{chapter}.ipynb"
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return set(re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE))


def test_every_cause_leads_to_a_heading_of_the_book() -> None:
    titles = {symptom.title for symptom in SYMPTOMS}
    lost = []
    for symptom in SYMPTOMS:
        for cause in symptom.causes:
            chapter, _, heading = cause.chapter.partition(": ")
            if chapter and heading not in headings(chapter):
                lost.append(f"{cause.name} {chapter} has no heading {heading!r}")
            if cause.see and cause.see not in titles - {symptom.title}:
                lost.append(f"{cause.name} no other symptom {cause.see!r}")
    assert not lost, "\n".join(lost)


def test_code_fits_into_its_column() -> None:
    long = [
        f"{symptom.title}: {case.side}: {line}"
        for symptom, cause, case in CASES
        for part in (case.check, guide.was(case.broken, case.mend))
        for line in part.splitlines()
        if len(line) > (80 if case.side == "both" else 60)
    ]
    assert not long, "\n".join(long)


def test_there_is_enough_and_all_of_it_has_a_place() -> None:
    places = [s.anchor for s in SYMPTOMS] + [guide.slug(topic.name) for topic in TOPICS]
    assert len(set(places)) == len(places)
    assert len(SYMPTOMS) >= 30
    run_in = {symptom.title for symptom, _, _ in CASES}
    silent = [s.title for s in SYMPTOMS if s.title not in run_in]
    assert silent == ["`fit` is slower than a loop"], "a clock decides there, and no test"
    page = (ROOT / "book" / "debugging.md").read_text(encoding="utf8")
    assert all(page.count(mark) == 1 for mark in guide.MARKS)
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= set(places)


def last_line(code: str) -> str:
    """The code's last expression, however it is written."""
    return ast.unparse(ast.parse(code).body[-1])


def test_a_check_rarely_repeats_what_is_seen() -> None:
    """A check that only repeats the symptom says nothing about its cause."""
    same = {c.name for _, c, case in CASES if last_line(case.check) == last_line(case.seen)}
    assert len(same) <= 4, same


# ------------------------------------------------------------------------- the test of the test


@pytest.mark.parametrize(
    ("title", "change", "why"),
    [
        ("The loss can't get below 1.461", {"mend": "broken"}, "still shows it"),
        ("The loss can't get below 1.461", {"broken": "mend"}, "doesn't show it"),
        ("The best weights are the last ones", {"check": "False"}, "overlooks it"),
        ("The best weights are the last ones", {"check": "True"}, "cries wolf"),
        ("The best weights are the last ones", {"seen": "True"}, "still shows it"),
        ("The best weights are the last ones", {"check": "[1]"}, r"\[1\]"),
        ("The shapes don't fit", {"mend": "1 / 0"}, "ZeroDivisionError"),
        ("The shapes don't fit", {"broken": "raise ValueError('shape')"}, "ValueError: shape"),
    ],
)
def test_a_false_row_is_seen(title, change, why, tmp_path) -> None:
    symptom = next(s for s in SYMPTOMS if s.title == title)
    cause = symptom.causes[0]
    case = next(case for case in cause.cases if case.side == "torch")
    parts = {key: getattr(case, value, value) for key, value in change.items()}
    with pytest.raises(AssertionError, match=why):
        test_the_broken_shows_it_and_the_mended_does_not(
            symptom, cause, replace(case, **parts), tmp_path
        )


def test_a_row_that_cant_be_shown_is_refused(tmp_path) -> None:
    good = (FOLDER / "2_nan.toml").read_text(encoding="utf8")
    for right, wrong in [
        ("looks =", "looked ="),
        ('chapter = "18_safety', 'chaptre = "18_safety'),
        ("seen = ", "sehen = "),
        ('check = "not np', 'check = "bad = not np'),
        ("keras.mend = '''\n", "keras.mend = '''\n)"),
    ]:
        assert right in good
        (tmp_path / "2_nan.toml").write_text(good.replace(right, wrong, 1), encoding="utf8")
        with pytest.raises(guide.SymptomError, match=r"2_nan\.toml: The loss is nan"):
            guide.read(tmp_path)


def test_the_mended_code_says_what_was() -> None:
    assert guide.was("for a in b:\n    f(a)\nc()", "for a in b:\n    g(a)\nc()").splitlines() == [
        "for a in b:",
        "    # was: f(a)",
        "    g(a)",
        "c()",
    ]
    assert guide.was("a = 1\nb = 2", "b = 2") == "# was: a = 1\nb = 2"
    assert guide.was("b = 2", "a = 1\nb = 2") == "# new\na = 1\nb = 2"
