"""The page Rosetta, from the rows in `book/rosetta/*.toml`, without importing either framework.

A file is a topic: `topic`, `about`, a `setup` that its rows share, and `[[row]]` tables. In a row
`task`, `keras` and `torch` are shown; `tests/test_rosetta.py` runs `setup`, both codes, `carry`
(which gives both the same weights), and compares the values of the expressions in `same`.
In `book/rosetta.md` the line `<!-- rows -->` gives way to the topics, `<!-- names -->` to the two
indexes, whose names are found in the code; `names.toml` corrects what that finds.
"""

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

ROWS, NAMES = "<!-- rows -->", "<!-- names -->"
FULL = {"layers": "keras.layers", "ops": "keras.ops", "nn": "torch.nn", "F": "torch.nn.functional"}
OTHERS = ("np", "math", "copy", "random", "warnings", "parity", "self")  # not a framework's
PLAIN = ("append", "join", "items", "permutation", "hidden", "drop")  # nor these, of anything
SHOWN = 3  # rows that the index names; more are a search
SIDES = {"keras": "Keras", "torch": "PyTorch"}
KEYS = {
    *("task", "keras", "torch", "setup", "carry", "same", "note", "also", "chapter", "fixed"),
    "float32",
}


class RowError(ValueError):
    """A row that can't be shown; the message names it."""


@dataclass(frozen=True)
class Row:
    """One task, in both frameworks."""

    task: str
    keras: str
    torch: str
    same: tuple[str, str]  # what is compared: an expression of either side
    chapter: str  # where it is taught: "08_convolution: Pooling"
    topic: str
    shared: str = ""  # run first, in every row of the topic
    setup: str = ""  # then this: the inputs of both
    carry: str = ""  # run after both, with their names in `k` and `t`: the same weights
    note: str = ""
    also: str = ""  # words that somebody may look for, which stand nowhere in it
    fixed: str = ""  # why the values don't depend on the input, where they don't
    float32: bool = False

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return slug(self.task)


@dataclass(frozen=True)
class Topic:
    """The rows of one file."""

    name: str
    about: str
    setup: str
    rows: list[Row]


def slug(title: str) -> str:
    """The anchor that MyST gives to a heading: formulas don't count.

    >>> slug("One layer: $y = f(x)$")
    'one-layer-'
    """
    words = re.sub(r"\$[^$]*\$", "", title).lower().replace(" ", "-")
    return re.sub(r"[^\w-]", "", words)


def read_topic(path: Path) -> Topic:
    """A file's topic; RowError where a row lacks something or has what nobody reads."""
    data = tomllib.loads(path.read_text(encoding="utf8"))
    rows = []
    for entry in data["row"]:
        name = f"{path.name}: {entry.get('task', 'a row')}"
        missing = {"task", "keras", "torch", "same", "chapter"} - set(entry)
        if missing or set(entry) - KEYS:
            raise RowError(f"{name}: {sorted(missing or set(entry) - KEYS)}")
        same = entry["same"] if isinstance(entry["same"], list) else [entry["same"]] * 2
        code = {side: entry[side].strip("\n") for side in SIDES}
        rest = {key: value for key, value in entry.items() if key not in ("same", *SIDES)}
        row = Row(**rest, **code, same=tuple(same), topic=data["topic"], shared=data["setup"])
        try:
            for side in SIDES:
                ast.parse(getattr(row, side))
        except SyntaxError as error:
            raise RowError(f"{name}: {error}") from error
        rows.append(row)
    return Topic(data["topic"], data["about"], data["setup"], rows)


def read(folder: Path) -> list[Topic]:
    """All topics, in the order of their files' names."""
    return [read_topic(path) for path in sorted(folder.glob("[0-9]*.toml"))]


def read_names(folder: Path) -> dict[str, dict[str, dict[str, str]]]:
    """What the indexes say where the lines of the rows would give a loose answer."""
    return tomllib.loads((folder / "names.toml").read_text(encoding="utf8"))


# ------------------------------------------------------------------------------------- names


def _dotted(node: ast.expr) -> str:
    """`nn.Linear` as written, or nothing where it doesn't begin with a name."""
    if isinstance(node, ast.Name):
        return node.id
    base = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{base}.{node.attr}" if base else ""


def _found(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names of a framework in a piece of code, each with its line.

    `nn.Linear` is one, and `.permute()`, a method of whatever; `self.x` and NumPy's are none. A
    module under a shorter name (`rules = torch.optim.lr_scheduler`) is none, but its parts are.
    """
    inner: set[int] = set()
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    short = {
        node.targets[0].id: name
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        if (name := _dotted(node.value)).split(".")[0] in (*FULL, *SIDES)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef):
                    yield item.lineno, f".{item.name}()"
        if not isinstance(node, ast.Attribute) or id(node) in inner:
            continue
        name = _dotted(node)
        head, _, rest = name.partition(".")
        if head in (*FULL, *SIDES, *short):
            inner.update(id(part) for part in ast.walk(node))
            name = f"{short[head]}.{rest}" if head in short else name
            if name not in short.values():
                yield node.end_lineno, name
        elif head not in OTHERS and node.attr not in PLAIN:
            yield node.end_lineno, f".{node.attr}{'()' if id(node) in called else ''}"


def names(code: str) -> list[tuple[int, str]]:
    """The framework's names in the code, each with its line, once a line."""
    return sorted(set(_found(ast.parse(code))))


def full(name: str) -> str:
    """`nn.Linear` as `torch.nn.Linear`."""
    head, dot, rest = name.partition(".")
    return f"{FULL[head]}{dot}{rest}" if head in FULL else name


def index(rows: Iterable[Row], side: str) -> dict[str, tuple[list[str], list[Row]]]:
    """For each name of that side: the names that answer it, and its rows, the plainest first.

    Line answers line where both codes have equally many; else any name of the row may answer. The
    answers are those most often together with the name, as a part of all lines that have either.
    """
    other = "torch" if side == "keras" else "keras"
    together: dict[str, Counter] = defaultdict(Counter)
    found: dict[str, list[Row]] = defaultdict(list)
    here_count, there_count = Counter(), Counter()
    for row in rows:
        here, there = names(getattr(row, side)), names(getattr(row, other))
        aligned = row.keras.count("\n") == row.torch.count("\n")
        there_count.update({name for _, name in there})
        for name in {name for _, name in here}:
            here_count[name] += 1
            lines = {line for line, n in here if n == name}
            answers = {n for line, n in there if line in lines or not aligned}
            together[name].update(answers or {n for _, n in there})
            found[name].append(row)
    out = {}
    for name in sorted(found, key=sort_key):
        score = {
            answer: count / (here_count[name] + there_count[answer])
            for answer, count in together[name].items()
        }
        best = sorted(score, key=lambda answer: (-score[answer], sort_key(answer)))
        kept = [answer for answer in best[:3] if score[answer] > 0.6 * score[best[0]]]
        out[name] = kept, sorted(found[name], key=lambda row: len(names(getattr(row, side))))
    return out


def sort_key(name: str) -> tuple[str, str]:
    """By the last part, as one looks it up: `layers.Dense` under D."""
    return name.rstrip("()").split(".")[-1].lower().strip("_"), name


# -------------------------------------------------------------------------------------- page


def link(row: Row, notebooks: Path) -> str:
    """Where the row is taught, as a Markdown link; bare words where there is no such notebook."""
    chapter, _, heading = row.chapter.partition(": ")
    words = f"Chapter {int(chapter[:2])}" + (f": {heading}" if heading else "")
    path = notebooks / f"{chapter}.ipynb"
    anchor = f"#{slug(heading)}" if heading else ""
    return f"[{words}](../notebooks/{path.name}{anchor})" if path.exists() else words


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"


def _fold(summary: str, text: str) -> str:
    """Folded code, in `<code>` alone: the theme measures each `<pre>`, which in a closed fold costs
    a layout of the whole page."""
    code = f"<code>{escape(text.strip())}</code>"
    fold = f'<details class="check"><summary>{summary}</summary>{code}</details>'
    return f"```{{raw}} html\n{fold}\n```"


def row_page(row: Row, notebooks: Path, first: Iterable[str] = ()) -> str:
    """One row as Markdown; `first` are the names that it answers before other rows."""
    known = {full(name) for side in SIDES for _, name in names(getattr(row, side))}
    words = {"find": " ".join(sorted(known)), "first": " ".join(sorted(first)), "also": row.also}
    hidden = " ".join(f'data-{k}="{escape(v, quote=True)}"' for k, v in words.items() if v)
    given = [f"# given\n{row.setup.strip()}"] if row.setup.strip() else []
    carried = [f"# made the same, or both at work\n{row.carry.strip()}"] if row.carry else []
    keras, torch = row.same
    if keras == torch:
        compared = [f"# compared\n{keras}"]
    else:
        compared = [f"# compared: Keras' and PyTorch's\n{keras}\n{torch}"]
    return "\n\n".join(
        [
            f"### {row.task}",
            f'<div class="names" {hidden} hidden></div>',
            f":::{{twins}}\n{_code(row.keras)}\n\n{_code(row.torch)}\n:::",
            *([row.note] if row.note else []),
            link(row, notebooks),
            _fold("How it is compared", "\n".join([*given, *carried, *compared])),
        ]
    )


def topic_page(topic: Topic, notebooks: Path, first: dict[str, list[str]] | None = None) -> str:
    """One topic as Markdown; `first` has the names that a task answers before others."""
    shared = [_fold("What its rows share", topic.setup)] if topic.setup.strip() else []
    rows = [row_page(row, notebooks, (first or {}).get(row.task, ())) for row in topic.rows]
    return "\n\n".join([f"## {topic.name}", topic.about, *shared, *rows])


def index_page(rows: list[Row], side: str, better: dict[str, dict[str, str]] | None = None) -> str:
    """The index of one side's names, as Markdown; `better` is that side's part of names.toml."""
    other = SIDES["torch" if side == "keras" else "keras"]
    lines = [
        f"## By {SIDES[side]} name",
        f"| {SIDES[side]} | {other} | How to |",
        "| --- | --- | --- |",
    ]
    for name, (answers, found) in index(rows, side).items():
        said = (better or {}).get(name, {})
        found.sort(key=lambda row: row.task != said.get("first"))
        tasks = [f"[{row.task}](#{row.anchor})" for row in found[:SHOWN]]
        if len(found) > SHOWN:
            more = f'<a href="?find={name.rstrip("()")}">all {len(found)}</a>'
            tasks.append(more)
        known = said.get("says") or ", ".join(f"`{answer}`" for answer in answers)
        lines.append(f"| `{name}` | {known} | {'; '.join(tasks)} |")
    return "\n".join([lines[0], "", *lines[1:]])


def fill(app, docname: str, source: list[str]) -> None:
    """Put rows and indexes where the marks stand; a warning, which fails the build, else."""
    if docname != "book/rosetta":
        return
    from sphinx.util import logging

    folder = Path(app.srcdir) / "book" / "rosetta"
    for path in sorted(folder.glob("*.toml")):
        app.env.note_dependency(str(path))
    try:
        topics, better = read(folder), read_names(folder)
    except (RowError, KeyError, tomllib.TOMLDecodeError) as error:
        logging.getLogger(__name__).warning("rosetta: %s", error, location=docname)
        topics, better = [], {side: {} for side in SIDES}
    rows = [row for topic in topics for row in topic.rows]
    notebooks = Path(app.srcdir) / "notebooks"
    first = defaultdict(list)
    for names_of_side in better.values():
        for name, said in names_of_side.items():
            first[said.get("first")].append(name)
    pages = [topic_page(topic, notebooks, first) for topic in topics]
    source[0] = source[0].replace(ROWS, "\n\n".join(pages))
    indexes = "\n\n".join(index_page(rows, side, better[side]) for side in SIDES)
    source[0] = source[0].replace(NAMES, indexes)


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
