"""The index of names: what the chapters and Rosetta use of Keras, PyTorch and other libraries.

It is made from their code with `ast`, without importing anything, in the order of `_toc.yml`. In
`book/names.md` the line `<!-- names -->` gives way to a table with a row for each name, and
`<!-- invented -->` to the names that somebody wrote and nobody made. `book/names.toml` says what
`ast` can't know: of which class a method is (`[methods]`), which of a class's methods a chapter may
write anew (`[overridden]`), and which names are invented (`[invented]`). `tests/test_names.py`
looks up every name in the installed libraries.
"""

import ast
import json
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARK, INVENTED = "<!-- names -->", "<!-- invented -->"
TOPICS = {  # what a name begins with, and where it is filed; the first that fits
    "keras.layers": "Keras: layers",
    "keras.ops": "Keras: operations",
    "keras": "Keras: the rest",
    "torch.nn.functional": "PyTorch: functions",
    "torch.nn": "PyTorch: layers",
    "torch.optim": "PyTorch: optimisers",
    "torch.Tensor": "PyTorch: tensors",
    "torch": "PyTorch: the rest",
}
OTHERS = "Other libraries"
KNOWN = (  # libraries whose names are listed; Python's own and this book's aren't
    *("keras", "torch", "numpy", "scipy", "sklearn", "optuna", "matplotlib", "onnx"),
    *("onnxruntime", "openvino", "safetensors", "opacus", "fastapi", "h5py", "pydantic"),
)
GIVEN = """import keras, torch
import numpy as np
from keras import layers, ops
from torch import nn
from torch.nn import functional as F"""  # what Rosetta's rows take for granted
SHOWN = 4  # chapters whose sections are named; of more, the numbers stand alone


@dataclass
class Use:
    """Where a name stands: the sections of each chapter, and Rosetta's rows, in order."""

    sections: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rows: list[str] = field(default_factory=list)


def known(name: str) -> bool:
    """Whether the name is one of a library that the index lists."""
    return name.split(".")[0] in KNOWN and "." in name


class Names(ast.NodeVisitor):
    """The full names that code uses, in order, with the aliases that it makes on the way.

    `nn.Linear` after `from torch import nn` is `torch.nn.Linear`; `rules.StepLR` after
    `rules = torch.optim.lr_scheduler` has its whole name, too. A parameter or a variable of a
    function that is called like a module is none. What follows a dot after anything else is a
    method, `.fit`, unless the code shows that another library made the thing. `keras.Model:call` is
    a method of that class that the code writes anew.
    """

    def __init__(self, aliases: dict[str, str] | None = None) -> None:
        self.aliases = {} if aliases is None else aliases
        self.made: dict[str, str] = {}  # a variable, and what was called to make it
        self.found: list[str] = []
        self.hidden: list[set[str]] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.asname:
                self.aliases[alias.asname] = alias.name
            else:
                self.aliases[alias.name.split(".")[0]] = alias.name.split(".")[0]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def whole(self, node: ast.expr) -> str:
        """The full name of a dotted expression, or nothing where it begins with no module."""
        if isinstance(node, ast.Name):
            inner = any(node.id in names for names in self.hidden)
            return "" if inner else self.aliases.get(node.id, "")
        base = self.whole(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{base}.{node.attr}" if base else ""

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if name := self.whole(node):
            self.found.append(name)
            return
        self.visit(node.value)
        maker = self.maker(node.value)
        if not known(maker) or maker.split(".")[0] in ("keras", "torch"):
            self.found.append(f".{node.attr}")

    def maker(self, node: ast.expr) -> str:
        """What was called to make a value, as far as the code says it: `RandomForestClassifier`."""
        if isinstance(node, ast.Call):
            return self.whole(node.func)
        return self.made.get(node.id, "") if isinstance(node, ast.Name) else ""

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and (name := self.whole(node)):
            self.found.append(name)

    def visit_Assign(self, node: ast.Assign) -> None:
        name = self.whole(node.value)
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)
            if isinstance(target, ast.Name):
                self.made[target.id] = self.maker(node.value)
            if isinstance(target, ast.Name) and not self.hidden:
                if name:
                    self.aliases[target.id] = name
                else:
                    self.aliases.pop(target.id, None)

    def _function(self, node: ast.FunctionDef | ast.Lambda) -> None:
        args = [arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)]
        inside = {arg.arg for arg in args}
        if not isinstance(node, ast.Lambda):
            stored = (n for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name))
            inside |= {n.id for n in stored if isinstance(n.ctx, ast.Store)}
        told = [arg.annotation for arg in args] + [getattr(node, "returns", None)]
        for part in filter(None, (*node.args.defaults, *node.args.kw_defaults, *told)):
            self.visit(part)
        self.hidden.append(inside)
        for part in node.body if isinstance(node.body, list) else [node.body]:
            self.visit(part)
        self.hidden.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in node.decorator_list:
            self.visit(part)
        self._function(node)

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = _function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        bases = [base for part in node.bases if known(base := self.whole(part))]
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                self.found += [f"{base}:{item.name}" for base in bases]
        self.generic_visit(node)


def names(code: str, aliases: dict[str, str] | None = None) -> list[str]:
    """The names in a piece of code, in order; `aliases` is what earlier code has imported.

    >>> names("from torch import nn\\nnn.Linear(2, 3)(x).detach()")
    ['torch.nn.Linear', '.detach']
    """
    visitor = Names(aliases)
    visitor.visit(ast.parse(code))
    return visitor.found


# ------------------------------------------------------------------------------- where they stand


def anchors(cells: list[dict]) -> list[list[tuple[str, str]]]:
    """For each cell of a notebook its headings, each with its anchor in a link."""
    out, taken = [], set()
    for cell in cells:
        here = []
        if cell["cell_type"] == "markdown":
            for heading in headings("".join(cell["source"])):
                anchor = base = rosetta_slug(heading)
                count = 0
                while anchor in taken:
                    count += 1
                    anchor = f"{base}-{count}"
                taken.add(anchor)
                here.append((heading, anchor))
        out.append(here)
    return out


def sections(cells: list[dict]) -> list[tuple[str, str]]:
    """For each cell of a notebook the heading that it ends under, and its anchor."""
    out, here = [], ("", "")
    for found in anchors(cells):
        here = found[-1] if found else here
        out.append(here)
    return out


def rosetta_slug(heading: str) -> str:
    """The anchor that a heading gets in a link, as the page Rosetta has it."""
    from rosetta import slug

    return slug(heading)


def headings(text: str) -> list[str]:
    """The headings of a Markdown text, of the first three levels, as they are written."""
    text = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", "", text)
    return re.findall(r"^#{1,3} (.+?)\s*$", text, re.MULTILINE)


def in_chapter(cells: list[dict]) -> Iterator[tuple[str, str]]:
    """Each name that a chapter's code uses, with the place of its section in the chapter."""
    aliases: dict[str, str] = {}
    for cell, (heading, anchor) in zip(cells, sections(cells), strict=True):
        if cell["cell_type"] == "code":
            for name in names("".join(cell["source"]), aliases):
                yield name, f"{heading}#{anchor}"


def read(folder: Path) -> dict:
    """What `ast` can't know: names.toml, with the class of each method, the other way round."""
    data = tomllib.loads((folder / "names.toml").read_text(encoding="utf8"))
    methods = {m: owner for owner, listed in data["methods"].items() for m in listed}
    return {**data, "owner": methods}


def full(name: str, said: dict) -> str:
    """The name with its class where it is a method, or nothing where nobody says whose it is."""
    if name.startswith("."):
        owner = said["owner"].get(name[1:])
        return f"{owner}{name}" if owner else ""
    base, _, method = name.partition(":")
    if method:
        return f"{base}.{method}" if method in said["overridden"].get(base, ()) else ""
    if any(f"{name}.".startswith(f"{never}.") for never in said["invented"]):
        return ""
    return name if known(name) else ""


def chapters(root: Path) -> list[str]:
    """The chapters in the order of the table of contents."""
    text = (root / "book" / "_toc.yml").read_text(encoding="utf8")
    return re.findall(r"file: notebooks/(\w+)", text)


def index(root: Path) -> dict[str, Use]:
    """Every name, sorted as one looks it up, with its uses."""
    said = read(root / "book")
    uses: dict[str, Use] = defaultdict(Use)
    for chapter in chapters(root):
        text = (root / "notebooks" / f"{chapter}.ipynb").read_text(encoding="utf8")
        for found, place in in_chapter(json.loads(text)["cells"]):
            name = full(found, said)
            if name and place not in (places := uses[name].sections[chapter]):
                places.append(place)
    for name, rows in in_rosetta(root, said).items():
        uses[name].rows = rows
    return {name: uses[name] for name in sorted(uses, key=sort_key)}


def in_rosetta(root: Path, said: dict) -> dict[str, list[str]]:
    """For each framework's name the rows of Rosetta that use it, the plainest first."""
    import rosetta

    out: dict[str, list[tuple[int, str]]] = defaultdict(list)
    given: dict[str, str] = {}
    names(GIVEN, given)
    for topic in rosetta.read(root / "book" / "rosetta"):
        for row, side in ((row, side) for row in topic.rows for side in rosetta.SIDES):
            found = {full(name, said) for name in names(getattr(row, side), dict(given))} - {""}
            for name in found:
                if name.split(".")[0] in rosetta.SIDES:
                    out[name].append((len(found), row.task))
    return {n: list(dict.fromkeys(task for _, task in sorted(rows))) for n, rows in out.items()}


def sort_key(name: str) -> tuple[str, str]:
    """By the last part, as one looks it up: `keras.layers.Dense` under D."""
    return name.split(".")[-1].lower().strip("_"), name


def letter(name: str) -> str:
    """The letter under which a name is looked up."""
    first = sort_key(name)[0][:1].upper()
    return first if first.isalpha() else "0"


def topic_of(name: str) -> str:
    """Where a name is filed."""
    fits = (topic for start, topic in TOPICS.items() if f"{name}.".startswith(f"{start}."))
    return next(fits, OTHERS)


# -------------------------------------------------------------------------------------- the page


def _link(chapter: str, place: str, words: str = "") -> str:
    """To a section, by its heading; or by words, and then the heading is the link's title."""
    heading, _, anchor = place.replace("|", "\\|").rpartition("#")
    plain = re.sub(r'[`$\\"]', "", heading)
    title = f' "{plain}"' if words else ""
    number = int(chapter[:2])
    return f"[{words or f'{number}: {heading}'}](../notebooks/{chapter}.ipynb#{anchor}{title})"


def where(use: Use) -> str:
    """The chapters that use a name, each with its first section, and Rosetta's rows, as links."""
    few = len(use.sections) <= SHOWN
    out = []
    for chapter, places in use.sections.items():
        more = f" and {len(places) - 1} more" if few and len(places) > 1 else ""
        out.append(_link(chapter, places[0], "" if few else f"{int(chapter[:2])}") + more)
    text = ("; " if few else ", ").join(out)
    rows = "; ".join(f"[{row}](rosetta.md#{rosetta_slug(row)})" for row in use.rows[:2])
    more = f" and {len(use.rows) - 2} more" if len(use.rows) > 2 else ""
    return ". ".join([part for part in (text, f"Rosetta: {rows}{more}" if rows else "") if part])


def table(found: dict[str, Use]) -> str:
    """The index as a Markdown table."""
    lines = ["| Name | Where |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {where(use)} |" for name, use in found.items())])


def fill(app, docname: str, source: list[str]) -> None:
    """Put the table where the mark stands; a warning, which fails the build, where it can't."""
    if docname != "book/names":
        return
    from sphinx.util import logging

    root = Path(app.srcdir)
    for path in (root / "book" / "names.toml", *(root / "book" / "rosetta").glob("*.toml")):
        app.env.note_dependency(str(path))
    for chapter in chapters(root):
        app.env.note_dependency(str(root / "notebooks" / f"{chapter}.ipynb"))
    try:
        page, invented = table(index(root)), read(root / "book")["invented"]
    except (KeyError, SyntaxError, tomllib.TOMLDecodeError) as error:
        logging.getLogger(__name__).warning("names: %s", error, location=docname)
        page, invented = "", {}
    listed = "\n".join(f"- `{name}`: {says}" for name, says in sorted(invented.items()))
    source[0] = source[0].replace(MARK, page).replace(INVENTED, listed)


def mark_up(app, pagename, templatename, context, doctree) -> None:
    """Give the table what find.js and the narrow screen want: topics, labels; and letters."""
    if pagename != "book/names" or "body" not in context:
        return
    from bs4 import BeautifulSoup

    body = BeautifulSoup(context["body"], "html.parser")
    grid = body.find("table")
    if grid is None:
        return
    grid["class"] = "findable names-index"
    grid["data-noun"] = "names"
    grid["data-topics"] = "|".join([*TOPICS.values(), OTHERS])
    heads = [head.get_text() for head in grid.thead.find_all("th")]
    letters: list[str] = []
    for row in grid.tbody.find_all("tr"):
        code = row.find("code")
        name = code.get_text()
        first, dot, last = name.rpartition(".")
        code.clear()
        code.append(first + dot)
        strong = body.new_tag("b")
        strong.string = last
        code.append(strong)
        row["data-topic"] = topic_of(name)
        if letter(name) not in letters:
            letters.append(letter(name))
            row["id"] = f"letter-{letters[-1].lower()}"
        for cell, head in zip(row.find_all("td"), heads, strict=True):
            cell["data-label"] = head
    bar = body.new_tag("nav", attrs={"class": "letters", "aria-label": "Letters"})
    for one in letters:
        link = body.new_tag("a", href=f"#letter-{one.lower()}")
        link.string = one
        bar.append(link)
    if grid.parent.name == "div":
        grid.parent.unwrap()  # the theme's, which scrolls sideways: the box above would not stick
    grid.insert_before(bar)
    context["body"] = str(body)


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    app.connect("html-page-context", mark_up)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
