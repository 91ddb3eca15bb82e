"""The debugging guide, from the symptoms in `book/symptoms/*.toml`; neither framework is imported.

A file is a branch of the tree at the top: `topic`, its `question`, `about`, and `[[symptom]]`
tables with a `title`, how it `looks`, and `[[symptom.cause]]` tables, the cheapest to check first.
A cause has a `cause`, a `why`, and the `chapter` that explains it; `see` leads to another symptom.
It may be run: `broken` code, a `check` whose last line is true where this is the cause, the code
to `mend` it with, and `seen`, an expression that is true of the broken and false of the mended.
These stand under `keras` and `torch`, or by themselves where both frameworks share them.
`tests/test_symptoms.py` runs all of it. In `book/debugging.md` the line `<!-- start -->` gives way
to the tree, `<!-- given -->` to what the codes take for granted, `<!-- symptoms -->` to the rest.
"""

import ast
import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

MARKS = ("<!-- start -->", "<!-- given -->", "<!-- symptoms -->")
SIDES = {"keras": "Keras", "torch": "PyTorch"}
PARTS = ("setup", "broken", "check", "mend", "seen")
KEYS = {
    "file": {"topic", "question", "about", "symptom"},
    "symptom": {"title", "looks", "also", "cause"},
    "cause": {"cause", "why", "chapter", "see", *PARTS, *SIDES},
    "side": set(PARTS),
}


class SymptomError(ValueError):
    """A symptom that can't be shown; the message names it."""


@dataclass(frozen=True)
class Case:
    """A cause in one framework, or in both at once: code that is run."""

    side: str  # "keras", "torch", or "both"
    setup: str
    broken: str
    check: str
    mend: str
    seen: str


@dataclass(frozen=True)
class Cause:
    """One cause of a symptom, with the code that shows it where there is any."""

    name: str
    why: str
    chapter: str = ""  # "08_convolution: Pooling"
    see: str = ""  # the title of another symptom
    cases: tuple[Case, ...] = ()


@dataclass(frozen=True)
class Symptom:
    """What a reader sees, and what it may come from."""

    title: str
    looks: str
    topic: str
    causes: tuple[Cause, ...]
    also: str = field(default="")  # words that somebody may look for, which stand nowhere in it

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return slug(self.title)


@dataclass(frozen=True)
class Topic:
    """The symptoms of one file."""

    name: str
    question: str
    about: str
    symptoms: tuple[Symptom, ...]


def slug(title: str) -> str:
    """The anchor that MyST gives to a heading: formulas don't count.

    >>> slug("The loss is `nan`, $y = x$")
    'the-loss-is-nan-'
    """
    words = re.sub(r"\$[^$]*\$", "", title).lower().replace(" ", "-")
    return re.sub(r"[^\w-]", "", words)


def _known(entry: dict, kind: str, needed: tuple[str, ...], where: str) -> None:
    wrong = set(needed) - set(entry) or set(entry) - KEYS[kind]
    if wrong:
        raise SymptomError(f"{where}: {sorted(wrong)}")


def read_cause(entry: dict, where: str) -> Cause:
    """One cause; SymptomError where it lacks something or has what nobody reads."""
    where = f"{where}: {entry.get('cause', 'a cause')}"
    _known(entry, "cause", ("cause", "why"), where)
    shared = {part: entry[part] for part in PARTS if part in entry}
    sides = {side: shared | entry[side] for side in SIDES if side in entry}
    cases = []
    for side, parts in (sides or ({"both": shared} if shared else {})).items():
        _known(parts, "side", PARTS[1:], where)
        case = Case(side, *(parts.get(part, "").strip("\n") for part in PARTS))
        for part in PARTS:
            try:
                tree = ast.parse(getattr(case, part))
            except SyntaxError as error:
                raise SymptomError(f"{where}: {side}: {part}: {error}") from error
            if part in ("check", "seen") and not isinstance(tree.body[-1], ast.Expr):
                raise SymptomError(f"{where}: {side}: {part} must end in an expression")
        cases.append(case)
    rest = {key: entry[key] for key in ("chapter", "see") if key in entry}
    if not rest:
        raise SymptomError(f"{where}: which chapter explains it, or which symptom?")
    return Cause(entry["cause"], entry["why"], **rest, cases=tuple(cases))


def read_topic(path: Path) -> Topic:
    """A file's topic."""
    data = tomllib.loads(path.read_text(encoding="utf8"))
    _known(data, "file", ("topic", "question", "about", "symptom"), path.name)
    symptoms = []
    for entry in data["symptom"]:
        where = f"{path.name}: {entry.get('title', 'a symptom')}"
        _known(entry, "symptom", ("title", "looks", "cause"), where)
        causes = tuple(read_cause(cause, where) for cause in entry["cause"])
        rest = {key: entry[key] for key in ("title", "looks", "also") if key in entry}
        symptoms.append(Symptom(**rest, topic=data["topic"], causes=causes))
    return Topic(data["topic"], data["question"], data["about"], tuple(symptoms))


def read(folder: Path) -> list[Topic]:
    """All topics, in the order of their files' names."""
    return [read_topic(path) for path in sorted(folder.glob("[0-9]*.toml"))]


# -------------------------------------------------------------------------------------- page


def was(broken: str, mend: str) -> str:
    """The mended code, with what it replaces in comments before it; `new` is what replaces nothing.

    >>> print(was("a = 1\\nf(a)", "a = 2\\nf(a)"))
    # was: a = 1
    a = 2
    f(a)
    """
    old, new = broken.splitlines(), mend.splitlines()
    out: list[str] = []
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for _, i, j, k, m in matcher.get_opcodes():
        if old[i:j] == new[k:m]:
            out += new[k:m]
            continue
        for mark, line in [("was: ", line) for line in old[i:j]] or [("new", new[k])]:
            bare = line.lstrip()
            indent = line[: len(line) - len(bare)]
            out.append(f"{indent}# {mark}{bare if mark != 'new' else ''}")
        out += new[k:m]
    return "\n".join(out)


def link(chapter: str, notebooks: Path) -> str:
    """Where a cause is explained, as a Markdown link; words where there is no such notebook."""
    name, _, heading = chapter.partition(": ")
    words = f"Chapter {int(name[:2])}" + (f": {heading}" if heading else "")
    path = notebooks / f"{name}.ipynb"
    anchor = f"#{slug(heading)}" if heading else ""
    return f"[{words}](../notebooks/{path.name}{anchor})" if path.exists() else words


def _code(text: str) -> str:
    return f"```python\n{text.strip()}\n```"


def _shown(cases: tuple[Case, ...], word: str, text) -> Iterator[str]:
    """One part of a cause: two columns, or one where both frameworks share it or one has none."""
    codes = {case.side: f"# {word}\n{text(case)}" for case in cases}
    if set(codes) == set(SIDES) and len(set(codes.values())) == 2:
        yield f":::{{twins}}\n{_code(codes['keras'])}\n\n{_code(codes['torch'])}\n:::"
        return
    side, code = next(iter(codes.items()))
    alone = side in SIDES and len(codes) == 1
    yield _code(f"# {SIDES[side]}: {code[2:]}" if alone else code)


def _fold(summary: str, text: str) -> str:
    code = f"<code>{escape(text.strip())}</code>"
    fold = f'<details class="check"><summary>{summary}</summary>{code}</details>'
    return f"```{{raw}} html\n{fold}\n```"


def what_runs(cause: Cause) -> str:
    """What the test runs of a cause, as far as the page doesn't show it."""
    parts = []
    for case in cause.cases:
        head = [f"# {SIDES[case.side]}"] if case.side in SIDES else []
        given = [case.setup] if case.setup else []
        seen = "# true of the broken, false of the mended"
        parts.append("\n".join([*head, *given, "# broken", case.broken, seen, case.seen]))
    return _fold("What the test runs", "\n\n".join(parts))


def cause_page(number: int, cause: Cause, notebooks: Path) -> str:
    """One cause as Markdown."""
    links = [link(cause.chapter, notebooks)] if cause.chapter else []
    links += [f"[{cause.see}](#{slug(cause.see)})"] if cause.see else []
    parts = [f"**{number}. {cause.name}** {cause.why} {'; '.join(links)}."]
    if cause.cases:
        parts += _shown(cause.cases, "check", lambda case: case.check)
        parts += _shown(cause.cases, "mend", lambda case: was(case.broken, case.mend))
        parts.append(what_runs(cause))
    return "\n\n".join(parts)


def symptom_page(symptom: Symptom, notebooks: Path) -> str:
    """One symptom as Markdown."""
    also = escape(symptom.also, quote=True)
    causes = [cause_page(i, cause, notebooks) for i, cause in enumerate(symptom.causes, 1)]
    head = [f"### {symptom.title}", f'<div class="names" data-also="{also}" hidden></div>']
    return "\n\n".join([*head, symptom.looks, *causes])


def topic_page(topic: Topic, notebooks: Path) -> str:
    """One topic as Markdown."""
    pages = [symptom_page(symptom, notebooks) for symptom in topic.symptoms]
    return "\n\n".join([f"## {topic.name}", topic.about, *pages])


def start_page(topics: list[Topic]) -> str:
    """The tree: one question after the other, each with the symptoms that a yes leads to."""
    lines = []
    for topic in topics:
        found = "\n".join(f"   - [{s.title}](#{s.anchor})" for s in topic.symptoms)
        lines.append(f"1. **{topic.question}**\n\n{found}\n")
    return ":::{container} start-here\n" + "\n".join(lines) + ":::"


def fill(app, docname: str, source: list[str]) -> None:
    """Put tree and symptoms where the marks stand; a warning, which fails the build, else."""
    if docname != "book/debugging":
        return
    from sphinx.util import logging

    folder = Path(app.srcdir) / "book" / "symptoms"
    for path in sorted(folder.iterdir()):
        if path.suffix in (".toml", ".py"):
            app.env.note_dependency(str(path))
    try:
        topics = read(folder)
    except (SymptomError, tomllib.TOMLDecodeError) as error:
        logging.getLogger(__name__).warning("symptoms: %s", error, location=docname)
        topics = []
    notebooks = Path(app.srcdir) / "notebooks"
    given = _fold("What is given", (folder / "given.py").read_text(encoding="utf8"))
    pages = "\n\n".join(topic_page(topic, notebooks) for topic in topics)
    for mark, text in zip(MARKS, (start_page(topics), given, pages), strict=True):
        source[0] = source[0].replace(mark, text)


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    app.add_css_file("symptoms.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
