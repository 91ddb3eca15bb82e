"""The harness, tried on chapters that are broken on purpose: each must be found out.

One small chapter is made by the real `run`, and has no problems. Then each row of a table breaks
one thing in it, and must be reported in one sentence, the right one. Last, nbval itself is held
to what the book relies on: which differences it sees, and which it lets pass.
"""

import base64
import copy
import io
import json
import os
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from nbformat import v4
from PIL import Image

from tools import notebooks
from tools.chapter import ROOT, ChapterError, clean, digest, dumps, load
from tools.form import problems
from tools.notebooks import main, run

DEVICE = """
def name():
    return "cpu"

def versions():
    return {"python": "3.11", "keras": "3.15", "torch": "2.13", "numpy": "2.4"}
"""

HEAD = """# Add two numbers

Two numbers go in, and one comes out.

**You will build** a sum.

**You will learn** to add.

**You need** nothing."""

ALT = "A line that rises from zero to one"


def text(source):
    return v4.new_markdown_cell(source)


def code(name, source, *tags, **metadata):
    return v4.new_code_cell(source, id=name, metadata={"tags": list(tags), **metadata})


def cells():
    return [
        text(HEAD),
        text("One import, of what draws the picture."),
        code("setup", "import sys\nimport time\n\nimport matplotlib.pyplot as plt", "setup"),
        text("The sum, written in two ways that must agree."),
        code("keras", "one = 1\ntwo = one + one\nprint(two)", "keras"),
        code("torch", "three = 3\nfour = three + two\nprint(four)", "torch"),
        text("Its picture shows a line that rises."),
        code("figure", "plt.plot([0, two, four])\nplt.show()", mystnb={"image": {"alt": ALT}}),
        text("The clock never says the same thing twice, so it isn't compared."),
        code("clock", "t = time.perf_counter()\nprint(t)\nassert t > 0", "nbval-ignore-output"),
        text("A list has no element that isn't in it, and says so."),
        code("error", "sys.argv[99]", "raises-exception"),
        text("A value that ends a cell is shown, even without a call of print."),
        code("value", "sys.version_info.major", "parity"),
        text("## What we learned\n\nThat sums are sums."),
        text("## Exercises"),
        text("### Exercise 1\n\nAdd one to three, and check that it is four."),
        code("solution", "assert three + one == 4", "solution"),
        text("## Next\n\nMore sums."),
    ]


@pytest.fixture(scope="session")
def book(tmp_path_factory):
    """A small book: a `helpers` of its own, and one chapter as the real `run` leaves it."""
    root = tmp_path_factory.mktemp("book")
    (root / "helpers").mkdir()
    (root / "helpers" / "__init__.py").touch()
    (root / "helpers" / "device.py").write_text(DEVICE)
    (root / "notebooks").mkdir()
    path = root / "notebooks" / "good.ipynb"
    path.write_text(dumps(v4.new_notebook(cells=cells(), metadata={"widgets": {}})))
    run(path, root)
    return root


@pytest.fixture(scope="session")
def good(book):
    return load(book / "notebooks" / "good.ipynb")


def of(nb, name):
    """The cell with this id."""
    return next(cell for cell in nb.cells if cell.id == name)


def before(nb, name):
    """The text before the cell with this id."""
    return nb.cells[nb.cells.index(of(nb, name)) - 1]


# ---- run ----


def test_the_good_chapter_has_no_problems(book):
    assert problems(book / "notebooks" / "good.ipynb", book) == []


def test_the_stamp(book, good):
    stamp = good.metadata.stamp
    assert stamp.digest == digest(good, book)
    assert stamp.device == "cpu"
    assert stamp.versions.torch == "2.13"
    assert 0 <= stamp.seconds < 60


def test_what_cleaning_keeps(good):
    assert set(good.metadata) == {"kernelspec", "language_info", "stamp"}
    assert of(good, "solution").metadata == {
        "tags": ["solution", "hide-cell"],
        "jupyter": {"source_hidden": True},
    }
    assert of(good, "figure").metadata == {"mystnb": {"image": {"alt": ALT}}}
    assert of(good, "error").outputs[0].traceback == ["IndexError: list index out of range"]


def test_ids_are_read_from_the_cell_and_then_kept(good):
    assert good.cells[0].id == "add-two-numbers-two-numbers-go"
    assert len({cell.id for cell in good.cells}) == len(good.cells)
    moved = copy.deepcopy(good)
    moved.cells[0].source = "# Another title"
    moved.cells[1].id = moved.cells[0].id
    del moved.cells[3]["id"]
    moved.cells[6].id = "0f1e2d3c"
    clean(moved)
    assert moved.cells[0].id == good.cells[0].id
    assert [moved.cells[i].id for i in (1, 3, 6)] == [good.cells[i].id for i in (1, 3, 6)]


def test_pieces_of_a_stream_are_joined(good):
    nb = copy.deepcopy(good)
    pieces = [v4.new_output("stream", name="stdout", text=t) for t in ("two", "\n")]
    of(nb, "keras").outputs = [*pieces, v4.new_output("display_data", {"text/plain": "x"})]
    clean(nb)
    assert [output.get("text") for output in of(nb, "keras").outputs] == ["two\n", None]


def test_a_second_run_changes_nothing_and_takes_its_own_kernel(book, good, tmp_path, monkeypatch):
    """Not even where the user has a broken kernel of the same name, and another backend."""
    spec = {"argv": ["false"], "display_name": "Broken", "language": "python"}
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    (book / "again").mkdir()
    path = book / "again" / "good.ipynb"
    path.write_text(dumps(good))
    run(path, book)
    assert list(path.parent.iterdir()) == [path]
    again = load(path)
    again.metadata.stamp.seconds = good.metadata.stamp.seconds
    again.metadata.stamp.cpu = good.metadata.stamp.cpu
    of(again, "clock").outputs = of(good, "clock").outputs
    for now, then in zip(of(again, "figure").outputs, of(good, "figure").outputs, strict=True):
        now.data["image/png"] = then.data["image/png"]
    assert dumps(again) == dumps(good)


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def opened(stored):
    return Image.open(io.BytesIO(base64.b64decode(stored)))


def test_a_figure_is_stored_in_few_colours(good):
    (shown,) = (o for o in of(good, "figure").outputs if o.output_type == "display_data")
    assert opened(shown.data["image/png"]).mode == "P"


def test_a_figure_of_few_colours_loses_nothing():
    pixels = np.random.default_rng(0).integers(0, 16, (60, 60, 1), dtype="uint8") * 17
    before = png(np.repeat(pixels, 3, axis=2))
    after = notebooks.smaller(before)
    assert len(after) < len(before)
    assert np.array_equal(np.asarray(opened(after).convert("RGB"))[..., :1], pixels)


def test_a_picture_of_many_colours_stays_as_it_came():
    photo = png(np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype="uint8"))
    assert notebooks.smaller(photo) == photo


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("three = 3\nfour = three / 0", "raised ZeroDivisionError: division by zero"),
        ("import os\nos._exit(1)", "killed the kernel"),
    ],
)
def test_a_failed_run_leaves_the_file_alone(book, good, tmp_path, source, reason):
    nb = copy.deepcopy(good)
    of(nb, "torch").source = source
    path = tmp_path / "broken.ipynb"
    path.write_text(dumps(nb))
    with pytest.raises(ChapterError) as caught:
        run(path, book)
    first = source.splitlines()[0]
    assert str(caught.value) == f"broken.ipynb, cell 6 ({first!r}) {reason}. The file is unchanged."
    assert path.read_text() == dumps(nb)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.ipynb", None, "there is no such file."),
        ("words.ipynb", "Once upon a time", "is not a notebook (Expecting value"),
        ("list.ipynb", "[]", "is not a notebook ('list' object"),
        ("old.ipynb", '{"nbformat": 3}', "is not a notebook of format 4 (old)."),
        ("bare.ipynb", '{"nbformat": 4, "nbformat_minor": 5}', "is not a notebook ("),
        ("", None, "there are no notebooks in this folder."),
    ],
)
def test_what_is_no_notebook(tmp_path, capsys, name, content, sentence):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    assert main(["run", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"{path}")
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr()
    assert sentence in said.out + said.err


def test_a_slow_chapter_is_written_and_refused(tmp_path, capsys, monkeypatch):
    stamp = {"seconds": 61.5, "device": "cpu"}
    monkeypatch.setattr(notebooks, "run", lambda path: stamp)
    assert main(["run", str(tmp_path / "slow.ipynb")]) == 1
    assert "slow.ipynb took 61.5 s, and may take 60" in capsys.readouterr().out
    stamp["seconds"] = 59.9
    assert main(["run", str(tmp_path / "slow.ipynb")]) == 0


# ---- check: each row breaks one thing ----


def source(name, value):
    """Replace a cell's source."""
    return lambda nb: of(nb, name).update(source=value)


def more(name, value):
    """Add to a cell's source."""
    return lambda nb: of(nb, name).update(source=of(nb, name).source + value)


def tag(name, *values):
    """Replace a cell's tags."""
    return lambda nb: of(nb, name).metadata.update(tags=list(values))


def no_tags(name):
    return lambda nb: of(nb, name).metadata.pop("tags")


def said(old, new):
    """Replace words in the text cells."""

    def change(nb):
        assert any(old in cell.source for cell in nb.cells)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = cell.source.replace(old, new)

    return change


def prints(name, value, stream="stdout"):
    """Add to a cell's output."""
    output = v4.new_output("stream", text=value, name=stream)
    return lambda nb: of(nb, name).outputs.append(output)


def after(name, cell):
    """Put a cell after another."""
    return lambda nb: nb.cells.insert(nb.cells.index(of(nb, name)) + 1, cell)


def both(*changes):
    return lambda nb: [change(nb) for change in changes]


HIDDEN = {"tags": ["solution", "hide-cell"], "jupyter": {"source_hidden": True}}
EMPTY = v4.new_code_cell(" ", id="empty", execution_count=9, metadata=HIDDEN)
MODEL = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
MANY = "\nif one:" + 15 * "\n    print(one)"
CLASS = "class Big:\n    x = sys.version_info.major\n" + 38 * "    print(x)\n"

BROKEN = {
    # form
    "title": (said("# Add", "## Add"), "cell 1 .*must be text that starts with the title"),
    "promise": (said("Two numbers go in, and one comes out.\n\n", ""), "cell 1 .*the promise"),
    "build": (said("**You will build**", "We build"), r"start with '\*\*You will build\*\*'"),
    "learn": (said("**You will learn**", "We learn"), r"start with '\*\*You will learn\*\*'"),
    "need": (said("**You need**", "We need"), r"start with '\*\*You need\*\*'"),
    "no setup": (no_tags("setup"), "cell 3 .*must be tagged 'setup'"),
    "two setups": (tag("value", "setup"), "cell 3 .*and no other, must be tagged 'setup'"),
    "learned": (said("## What we learned", "## In short"), "must close with the headings"),
    "next": (said("## Next", "## Later"), "must close with the headings"),
    "no heading": (said("## Exercises", "Exercises follow"), "must close with the headings"),
    "order": (
        lambda nb: nb.cells.insert(14, nb.cells.pop(18)),
        "must close with the headings",
    ),
    "after next": (said("More sums.", "More.\n\n## Thanks"), "must close with the headings"),
    "no number": (said("### Exercise 1", "### Exercise"), "must be headed '### Exercise N'"),
    "numbering": (said("### Exercise 1", "### Exercise 2"), r"from 1 on, not \['2'\]"),
    "unsolved": (
        after("solution", v4.new_markdown_cell("### Exercise 2\n\nAdd.", id="exercise-2")),
        "cell 19 .*'Exercise 2' needs a cell tagged 'solution'",
    ),
    "idle solution": (source("solution", "three + one"), "'Exercise 1' needs .* asserts"),
    "tag": (tag("value", "parrity"), r"cell 14 .*its tags \['parrity'\] are none of"),
    "empty cell": (after("solution", EMPTY), "cell 19 .*the cell is empty"),
    "empty text": (
        after("solution", v4.new_markdown_cell(" \n", id="empty")),
        "cell 19 .*the cell is empty",
    ),
    # code
    "long cell": (more("value", 25 * "\nprint(one)"), "cell 14 .*has 26 lines, and may have 25"),
    "long class": (source("value", CLASS + "\n\nBig"), "cell 14 .*has 41 lines, and may have 25"),
    "median": (
        both(*(more(n, 6 * "\none") for n in ("keras", "torch", "figure", "clock", "value"))),
        "have 8 lines in the median",
    ),
    "many long": (both(more("value", MANY), more("figure", MANY)), "2 of 7 code cells have over"),
    "syntax": (source("value", "sys.version_info.("), "cell 14 .*doesn't parse"),
    "magic": (source("value", "%time sys.version_info"), "cell 14 .*no shell and no magics"),
    "shell": (source("value", "files = !ls"), "cell 14 .*no shell and no magics"),
    "os.system": (source("value", "import os\n\nos.system('ls')"), "it uses os.system"),
    "subprocess": (
        source("value", "from subprocess import run\n\nrun('ls')"),
        "it uses subprocess.run: use no shell",
    ),
    "urllib": (
        source("value", "import urllib.request\n\nurllib"),
        "it uses urllib.request: get data from helpers.data",
    ),
    "datasets": (
        source("value", "from keras.datasets import mnist\n\nmnist"),
        "it uses keras.datasets.mnist: get data from helpers.data",
    ),
    "input": (source("value", "input('Your name?')"), "it uses input: nobody is there"),
    "star": (source("value", "from math import *"), "cell 14 .*import names"),
    "global": (
        source("value", "def grow():\n    global one\n    one = 2\n\n\ngrow()"),
        "cell 14 .*instead of 'global'",
    ),
    "dead code": (more("value", "\n# print(one)"), r"cell 14 .*commented out \('print\(one\)'\)"),
    "dead setting": (more("value", "\n# lr = 0.1"), r"commented out \('lr = 0.1'\)"),
    "excused by word": (more("value", "\n# NBVAL_SKIP"), "'NBVAL_SKIP' excuses it"),
    # pairs
    "no text": (lambda nb: nb.cells.pop(12), "cell 13 .*text that says why must stand before it"),
    "heading only": (
        said("A value that ends a cell is shown, even without a call of print.", "# A value"),
        "cell 14 .*the text before it must say why",
    ),
    "keras alone": (tag("figure", "keras"), "cell 8 .*its torch twin must follow it"),
    "torch alone": (tag("value", "torch"), "cell 14 .*its keras twin must stand before it"),
    "twins' lines": (more("torch", "\n\nfour"), "cell 6 .*has 5 lines and its twin 3"),
    "wide twin": (more("torch", "  # " + 50 * "x"), "cell 6 .*at most 60 characters, not 65"),
    # names
    "unused": (more("value", "\nspare = 1"), "cell 14 .*'spare' is defined and never used"),
    "unused import": (more("setup", "\nimport json"), "cell 3 .*'json' is defined and never used"),
    "unused function": (
        source("value", "def again():\n    return again()"),
        "cell 14 .*'again' is defined and never used",
    ),
    "unused target": (
        source("value", "for step in range(3):\n    print(one)"),
        "cell 14 .*'step' is defined and never used",
    ),
    "used only before": (more("value", "\ntwo = 9"), "cell 14 .*'two' is defined and never used"),
    "unknown": (more("value", "\nnobody"), "cell 14 .*'nobody' is used before it is defined"),
    "unknown inside": (
        more("value", "\nprint([nobody + i for i in range(3)])"),
        "cell 14 .*'nobody' is used before it is defined",
    ),
    "too early": (more("figure", "\nt"), "cell 8 .*'t' is used before it is defined"),
    # outputs
    "not run": (
        lambda nb: of(nb, "value").update(execution_count=None),
        "cell 14 .*its number is None, not 7",
    ),
    "run twice": (
        lambda nb: of(nb, "value").update(execution_count=12),
        "cell 14 .*its number is 12, not 7",
    ),
    "stderr": (prints("value", "Careful!\n", "stderr"), "cell 14 .*writes to stderr"),
    "error": (no_tags("error"), "cell 12 .*must raise if it is tagged"),
    "no error": (lambda nb: of(nb, "error").update(outputs=[]), "cell 12 .*must raise if"),
    "address": (prints("value", "<object at 0x7f3a>\n"), "cell 14 .*a memory address"),
    "path": (prints("value", "/home/ada/book.py\n"), "cell 14 .*a path of this machine"),
    "package": (prints("value", "site-packages/keras/a.py\n"), "cell 14 .*a path of this machine"),
    "control": (prints("value", "\x1b[1mbold\n"), "cell 14 .*control characters"),
    "no alt text": (lambda nb: of(nb, "figure").metadata.clear(), "cell 8 .*needs alt text"),
    "short alt text": (
        lambda nb: of(nb, "figure").metadata.mystnb.image.update(alt="A line"),
        "cell 8 .*needs alt text",
    ),
    "widget": (
        lambda nb: of(nb, "value").outputs[0].data.update(MODEL),
        "cell 14 .*shows a widget",
    ),
    "asserts nothing": (
        source("clock", "t = time.perf_counter()\nprint(t)"),
        "cell 10 .*must assert what matters",
    ),
    "many excused": (
        both(tag("value", "nbval-ignore-output"), more("value", "\nassert two")),
        "2 of 4 cells that print aren't compared",
    ),
    # metadata
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="mine"), "its metadata must be"),
    "timing": (
        lambda nb: of(nb, "value").metadata.update(execution={"iopub.status.busy": "2020"}),
        "cell 14 .*its metadata isn't clean",
    ),
    "open solution": (
        lambda nb: of(nb, "solution").metadata.pop("jupyter"),
        "cell 18 .*its metadata isn't clean",
    ),
    "same id": (lambda nb: nb.cells[1].update(id="setup"), "cell 3 .*its id isn't clean"),
    "random id": (lambda nb: nb.cells[1].update(id="0f1e2d3c"), "cell 2 .*its id isn't clean"),
    "traceback": (
        lambda nb: of(nb, "error").outputs[0].update(traceback=["In cell 1", "IndexError"]),
        "cell 12 .*its outputs isn't clean",
    ),
    "invalid": (
        lambda nb: of(nb, "value").update(colour="red"),
        "not a notebook of format 4 .*'colour' was unexpected",
    ),
    "format": (
        lambda nb: [nb.update(nbformat_minor=4), *(cell.pop("id") for cell in nb.cells)],
        "its format is 4.4, not 4.5",
    ),
    "no stamp": (lambda nb: nb.metadata.pop("stamp"), "it has no complete stamp"),
    "size": (
        lambda nb: of(nb, "figure").outputs[0].data.update({"image/png": "A" * 400_000}),
        "it has 400 kB or more",
    ),
}
ALLOWED = {
    "as it is": lambda nb: None,
    "uneven twins": both(
        more("torch", "\n\nfour"), tag("keras", "keras", "uneven"), tag("torch", "torch", "uneven")
    ),
    "a big class": both(source("value", CLASS), more("solution", "\nBig")),
    "a comment": more("value", "\n# loss = the mean of the squares, so (n, 10) becomes ()"),
    "underscore": more("value", "\n_, _rest = one, two"),
    "delete": more("value", "\ndel two"),
    "delete a part": more("value", "\nparts = [one, two]\ndel parts[0]"),
    "inner names": more("value", "\nsum(i * one for i in range(3))"),
    "used in a function": more("value", "\nf = lambda x: x + three\nf(one)"),
    "a second solution": after(
        "solution", v4.new_code_cell("print", id="s", execution_count=9, metadata=HIDDEN)
    ),
    "colours behind HTML": lambda nb: (
        of(nb, "value")
        .outputs[0]
        .data.update({"text/plain": "\x1b[1mbold\x1b[0m", "text/html": "<b>bold</b>"})
    ),
    "fenced code": said("More sums.", "More sums.\n\n```python\n# Not a title\n## Nor this\n```"),
}


@pytest.fixture
def saved(book, good, tmp_path):
    """A function that writes a changed chapter, with a stamp that fits it, to a file."""

    def save(change, name="bad", stamped=True, folder=tmp_path):
        nb = copy.deepcopy(good)
        change(nb)
        if stamped and "stamp" in nb.metadata:
            nb.metadata.stamp.digest = digest(nb, book)
        path = folder / f"{name}.ipynb"
        path.write_text(dumps(nb), encoding="utf-8")
        return path

    return save


@pytest.mark.parametrize(("change", "sentence"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_reported(book, saved, change, sentence):
    found = problems(saved(change), book)
    assert len(found) == 1, found
    assert re.match(r"(/.*/)?bad\.ipynb(, cell \d+ \(.+\))?[: ] ?.*\.$", found[0])
    assert re.search(sentence, found[0]), found[0]


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_is_allowed_is_not(book, saved, change):
    assert problems(saved(change), book) == []


@pytest.mark.parametrize("start", [0, 3, 20])
@pytest.mark.parametrize("step", [1, 2])
def test_a_torso_has_problems(book, saved, start, step):
    def change(nb):
        del nb.cells[start::step], nb.cells[:1]

    found = problems(saved(change), book)
    assert found
    assert all(sentence.startswith("bad.ipynb") for sentence in found)


@pytest.mark.parametrize(
    ("change", "stale"),
    [(more("value", " "), 1), (tag("value", "uneven"), 1), (said("More sums.", "Many sums."), 0)],
    ids=["code", "tags", "text"],
)
def test_the_stamp_goes_stale(book, saved, change, stale):
    found = problems(saved(change, stamped=False), book)
    assert len(found) == stale
    assert all("its stamp is stale (code or helpers changed)" in sentence for sentence in found)


@pytest.mark.parametrize("name", ["device.py", "more.py"], ids=["changed", "new"])
def test_a_changed_helper_makes_the_stamp_stale(saved, tmp_path, name):
    helpers = tmp_path / "helpers"
    helpers.mkdir()
    (helpers / "__init__.py").touch()
    (helpers / "device.py").write_text(DEVICE)
    path = saved(lambda nb: None)
    assert problems(path, tmp_path) == []
    with (helpers / name).open("a") as file:
        file.write("# changed\n")
    assert "its stamp is stale" in " ".join(problems(path, tmp_path))


@pytest.mark.parametrize(
    ("line", "stale"),
    [
        ("import ledger", True),
        ("from ledger import rows", True),
        ("from ledger.table import show", True),
        ("import sys, ledger", True),
        ("import ledgers", False),
        ("import sys", False),
    ],
)
def test_a_package_is_stamped_where_a_chapter_imports_it(good, tmp_path, line, stale):
    nb = copy.deepcopy(good)
    of(nb, "value").source += f"\n{line}"
    alone = digest(nb, tmp_path)
    package = tmp_path / "notebooks" / "ledger"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    first = digest(nb, tmp_path)
    (package / "table.py").write_text("# new\n")
    assert len({alone, first, digest(nb, tmp_path)}) == (3 if stale else 1)


def test_a_stored_result_is_stamped_where_a_chapter_names_it(good, tmp_path):
    nb = copy.deepcopy(good)
    of(nb, "value").source += '\nimport measured\nmeasured.load("speed")'
    package = tmp_path / "notebooks" / "measured"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    before = digest(nb, tmp_path)
    (package / "other.json").write_text("1")
    assert digest(nb, tmp_path) == before
    (package / "speed.json").write_text("1")
    first = digest(nb, tmp_path)
    (package / "speed.json").write_text("2")
    assert len({before, first, digest(nb, tmp_path)}) == 3


def test_the_file_is_written_as_jupyter_does(book, saved):
    path = saved(lambda nb: None)
    path.write_text(json.dumps(json.loads(path.read_text()), indent=2))
    assert "isn't written as Jupyter writes it" in " ".join(problems(path, book))


# ---- nbval: what it compares, and what it lets pass ----


def out(words, stream="stdout"):
    return v4.new_output("stream", text=words, name=stream)


def raised(value, *traceback):
    return v4.new_output("error", ename="IndexError", evalue=value, traceback=list(traceback))


def picture(**data):
    return v4.new_output("display_data", {"text/plain": "a picture", **data})


SETUP = """import sys

from IPython.display import display


class Rich:
    def __init__(self, **kinds):
        self.kinds = kinds
    def __repr__(self):
        return "rich"
    def _repr_mimebundle_(self, **_):
        return {kind.replace("_", "/"): value for kind, value in self.kinds.items()}"""


def rich(kind, value):
    """What a page shows of `Rich(kind=value)`."""
    return v4.new_output("execute_result", {"text/plain": "rich", kind: value}, execution_count=1)


def text_result(value):
    return v4.new_output("execute_result", {"text/plain": value}, execution_count=1)


PNG = 'display({"text/plain": "a picture", "image/png": "AAAA"}, raw=True)'
ERROR = "list index out of range"
# What a cell does, what the page shows, its tags, and whether nbval accepts it.
SEEN = {
    "setup": (SETUP, [], [], True),
    "same text": ("print(1)", [out("1\n")], [], True),
    "other text": ("print(1)", [out("2\n")], [], False),
    "text gone": ("None", [out("1\n")], [], False),
    "text new": ("print(1)", [], [], False),
    "text in pieces": ("print(1)\nprint(2)", [out("1\n"), out("2\n")], [], True),
    "same value": ("1", [text_result("1")], [], True),
    "other value": ("1", [text_result("2")], [], False),
    "value new": ("1", [], [], False),
    "stderr new": ("print(1, file=sys.stderr)", [], [], False),
    "other stderr": ("print(1, file=sys.stderr)", [out("2\n", "stderr")], [], False),
    "same html": ("Rich(text_html='<b>1</b>')", [rich("text/html", "<b>1</b>")], [], True),
    "other html": ("Rich(text_html='<b>1</b>')", [rich("text/html", "<b>2</b>")], [], False),
    "other latex": ("Rich(text_latex='$1$')", [rich("text/latex", "$2$")], [], False),
    "other markdown": ("Rich(text_markdown='*1*')", [rich("text/markdown", "*2*")], [], False),
    "other svg": (
        "Rich(**{'image_svg+xml': '<svg>1</svg>'})",
        [rich("image/svg+xml", "<svg>2</svg>")],
        [],
        False,
    ),
    "other png": (PNG, [picture(**{"image/png": "BBBB"})], [], True),
    "png gone": (PNG, [picture()], [], True),
    "one png more": (f"{PNG}\n{PNG}", [picture(**{"image/png": "AAAA"})], [], False),
    "same error": ("[][0]", [raised(ERROR)], ["raises-exception"], True),
    "other error": ("[][0]", [raised("no such index")], ["raises-exception"], False),
    "no error": ("None", [raised(ERROR)], ["raises-exception"], False),
    "excused text": ("print(1)\nassert True", [out("2\n")], ["nbval-ignore-output"], True),
    "excused claim": ("print(1)\nassert 1 > 2", [out("1\n")], ["nbval-ignore-output"], False),
    "open error": ("1 / 0", [], [], False),
}


def seen():
    """A notebook with one cell for each row of the table."""
    cells = [
        v4.new_code_cell(
            source,
            id=name.replace(" ", "-"),
            execution_count=1,
            outputs=outputs,
            metadata={"tags": tags},
        )
        for name, (source, outputs, tags, _) in SEEN.items()
    ]
    return v4.new_notebook(cells=cells)


def nbval(folder):
    """The cells that nbval refuses, by chapter, when it is called as `make test` calls it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    command = "-m pytest -n 2 --dist loadfile --nbval --nbval-current-env -q --tb=line -rA"
    done = subprocess.run(
        [
            sys.executable,
            *command.split(),
            "-c",
            ROOT / "pyproject.toml",
            "--rootdir",
            folder,
            folder,
        ],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = re.findall(
        r"^(PASSED|FAILED|ERROR) (?:.*/)?(\w+)\.ipynb::Cell (\d+)", done.stdout, re.M
    )
    refused: dict[str, list[int]] = {}
    for verdict, name, cell in lines:
        refused.setdefault(name, [])
        refused[name] += [int(cell)] if verdict != "PASSED" else []
    assert lines, done.stdout + done.stderr
    assert done.returncode == int(any(refused.values())), done.stdout + done.stderr
    return {name: sorted(cells) for name, cells in refused.items()}


def test_what_nbval_sees(saved, tmp_path):
    """The good chapter passes, though its clock and its PNG drifted; the broken ones fail."""
    folder = tmp_path / "chapters"
    folder.mkdir()
    saved(
        lambda nb: of(nb, "figure").outputs[0].data.update({"image/png": "AAAA"}),
        "good",
        folder=folder,
    )
    saved(source("value", "one / 0"), "raises", folder=folder)
    (folder / "seen.ipynb").write_text(dumps(seen()))
    refused = nbval(folder)
    assert refused["good"] == []
    assert refused["raises"] == [6]
    names = list(SEEN)
    assert [names[i] for i in refused["seen"]] == [n for n in names if not SEEN[n][-1]]


def test_outputs_are_stored_from_the_real_mnist_alone(tmp_path, monkeypatch, capsys):
    """With the stand-in nothing is run; a chapter that loads no data doesn't care."""
    user, other = tmp_path / "user.ipynb", tmp_path / "other.ipynb"
    user.write_text('{"cells": ["load_mnist"]}')
    other.write_text("{}")
    for mnist in (False, True):
        monkeypatch.setattr(
            "helpers.data.load_mnist", lambda mnist=mnist: types.SimpleNamespace(is_mnist=mnist)
        )
        assert main(["run", str(user)]) == 1  # it is no notebook either way
        told = "user.ipynb is stored as run on the real MNIST: set BOOK_DATA"
        assert (told in capsys.readouterr().err) is not mnist
        assert main(["run", str(other)]) == 1
        assert told not in capsys.readouterr().err
