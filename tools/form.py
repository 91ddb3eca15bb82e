"""What a chapter must look like: its anatomy, its cells, its twins, its names, its outputs.

CONTRIBUTING.md says why. `problems` finds what isn't so, and says what to do.
"""

import ast
import builtins
import copy
import functools
import io
import re
import statistics
import symtable
import tokenize
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from tools.chapter import HOME, ROOT, ChapterError, clean, digest, dumps, load, tags, where

TAGS = {"setup", "keras", "torch", "solution", "parity", "uneven", "photo"} | {
    *("hide-cell", "hide-input", "raises-exception", "nbval-ignore-output")
}
CLOSING = ["## What we learned", "## Exercises", "## Next"]
BANNED = {  # dotted name: what to do instead
    **dict.fromkeys(["os.system", "os.popen", "subprocess", "get_ipython"], "use no shell"),
    **dict.fromkeys(["urllib", "requests", "http", "socket"], "get data from helpers.data"),
    **dict.fromkeys(["keras.datasets", "keras.utils.get_file"], "get data from helpers.data"),
    **dict.fromkeys(["torch.hub", "sklearn.datasets.fetch_openml"], "get data from helpers.data"),
    "input": "nobody is there to answer when the tests run it",
}
BAD_TEXT = {  # pattern in an output: what it is
    r" at 0x[0-9a-f]+": "a memory address: print what is the same in every run",
    r"/tmp/|/home/|/root/|/Users/|site-packages|ipykernel_\d": "a path of this machine: print none",
    r"[\x08\x1b]|\r(?!\n)": "control characters: print plain text (in Keras, verbose=0)",
}

Finding = tuple[int | None, str]  # the cell's index, or None for the whole notebook; a sentence


def problems(path: Path, root: Path = ROOT) -> list[str]:
    """All that isn't as it must be in a chapter, each in a sentence that says what to do."""
    try:
        nb = load(path)
    except ChapterError as error:
        return [str(error)]
    if nb.nbformat_minor != 5:
        return [f"{path.name}: its format is 4.{nb.nbformat_minor}, not 4.5: run `make notebooks`."]
    found = [f for check in (_form, _code, _pairs, _names, _outputs, _meta) for f in check(nb)]
    stamp = nb.metadata.get("stamp", {})
    if set(stamp) != {"digest", "versions", "device", "seconds", "cpu"}:
        found.append((None, "it has no complete stamp: run `make notebooks`"))
    elif stamp.digest != digest(nb, root):
        found.append((None, "its stamp is stale (code or helpers changed): run `make notebooks`"))
    if path.read_text("utf-8") != dumps(nb):
        found.append((None, "the file isn't written as Jupyter writes it: run `make notebooks`"))
    if path.stat().st_size >= 400_000:
        found.append((None, "it has 400 kB or more: draw fewer or smaller figures"))
    return [f"{where(path, nb, index)}: {what}." for index, what in found]


def _text(cell: NotebookNode) -> list[str]:
    """The non-blank lines of a markdown cell, without fenced blocks; none of any other cell."""
    if cell.cell_type != "markdown":
        return []
    text = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", "", cell.source)
    return [line for line in text.splitlines() if line.strip()]


@functools.cache
def _parse(source: str) -> ast.Module | None:
    try:
        symtable.symtable(source, "cell", "exec")  # it refuses what the parser lets pass
        return ast.parse(source)
    except SyntaxError:
        return None


def _code_cells(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    return [(i, cell) for i, cell in enumerate(nb.cells) if cell.cell_type == "code"]


def _asserts(cell: NotebookNode) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(_parse(cell.source) or ast.Pass()))


def _form(nb: NotebookNode) -> Iterator[Finding]:
    """Title, promise, setup, closing headings, exercises with solutions; known tags."""
    code = _code_cells(nb)
    first = code[0][0] if code else len(nb.cells)
    head = [line for cell in nb.cells[:first] for line in _text(cell)]
    if first == 0 or not nb.cells or not nb.cells[0].source.startswith("# "):
        yield 0, "the first cell must be text that starts with the title, '# ...'"
    elif len(head) < 2 or re.match(r"#|\*\*You|[-`$|:(]", head[1]):
        yield 0, "the promise, one sentence, must follow the title"
    for what in ("**You will build**", "**You will learn**", "**You need**"):
        if not any(line.startswith(what) for line in head):
            yield 0, f"a line before the first code must start with '{what}'"
    if [i for i, cell in enumerate(nb.cells) if "setup" in tags(cell)] != [first]:
        yield first, "the first code cell, and no other, must be tagged 'setup'"
    for i, cell in enumerate(nb.cells):
        if not cell.source.strip():
            yield i, "the cell is empty: delete it"
        if unknown := sorted(set(tags(cell)) - TAGS):
            yield i, f"its tags {unknown} are none of {sorted(TAGS)}"

    text = [(i, line) for i, cell in enumerate(nb.cells) for line in _text(cell)]
    heads = [(i, line.rstrip()) for i, line in text if re.match(r"#{1,3} ", line)]
    if [line for _, line in heads if line.startswith("## ")][-3:] != CLOSING:
        yield None, f"it must close with the headings {', '.join(CLOSING)}, in this order"
    numbers = [m[1] for _, line in heads if (m := re.match(r"### Exercise (\d+)\b", line))]
    if not numbers or numbers != [str(n + 1) for n in range(len(numbers))]:
        yield None, f"exercises must be headed '### Exercise N' from 1 on, not {numbers}"
    for (i, line), (end, _) in zip(heads, [*heads[1:], (len(nb.cells), "")], strict=False):
        solutions = [cell for cell in nb.cells[i:end] if "solution" in tags(cell)]
        if line.startswith("### Exercise") and not any(map(_asserts, solutions)):
            yield i, f"'{line[4:]}' needs a cell tagged 'solution' that asserts something"


def _code(nb: NotebookNode) -> Iterator[Finding]:
    """Short cells of plain, living Python."""
    sizes = []
    for i, cell in _code_cells(nb):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if not {"solution", "hide-input"} & set(tags(cell)):  # these are folded away
            sizes.append(len(lines))
        tree = _parse(cell.source)
        if tree is None:
            magic = any(re.match(r"\s*(\w+ *= *)?[!%]", line) for line in lines)
            yield i, "use no shell and no magics" if magic else "it doesn't parse as Python"
            continue
        limit = 40 if len(tree.body) == 1 and isinstance(tree.body[0], ast.ClassDef) else 25
        if len(lines) > limit:
            yield i, f"it has {len(lines)} lines, and may have {limit}: split it"
        for name in sorted(set(_dotted(tree))):
            for banned, advice in BANNED.items():
                if f"{name}.".startswith(f"{banned}."):
                    yield i, f"it uses {name}: {advice}"
        if any(isinstance(n, ast.ImportFrom) and n.names[0].name == "*" for n in ast.walk(tree)):
            yield i, "import names, not *"
        if any(isinstance(node, ast.Global) for node in ast.walk(tree)):
            yield i, "pass and return values instead of 'global'"
        for comment in _comments(cell.source):
            if _is_code(comment):
                yield i, f"delete the code that is commented out ('{comment}')"
            if comment.startswith(("NBVAL", "PYTEST")):
                yield i, f"'{comment}' excuses it from the tests: only a tag may"
    if sizes and (half := statistics.median(sizes)) > 6:
        yield None, f"its code cells have {half:g} lines in the median, and may have 6: split some"
    long = sum(size > 15 for size in sizes)
    if 5 * long > len(sizes):
        yield None, f"{long} of {len(sizes)} code cells have over 15 lines, more than a fifth"


def _dotted(tree: ast.Module) -> Iterator[str]:
    """What a cell imports, calls by name, or reaches by attribute, with its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id


def _comments(source: str) -> Iterator[str]:
    """The comments that have a line to themselves."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
            yield token.string.lstrip("# ")


def _is_code(comment: str) -> bool:
    """Whether a comment is surely code: an import, a call, a name set to a call or a constant."""
    tree = _parse(comment)
    for node in tree.body if tree else []:
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.AugAssign)):
            return True
        if isinstance(node, (ast.Expr, ast.Assign)) and isinstance(node.value, ast.Call):
            return True
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            return True
    return False


def _pairs(nb: NotebookNode) -> Iterator[Finding]:
    """Prose before code; `keras` and `torch` cells in twos, line by line."""
    for i, cell in _code_cells(nb):
        before = nb.cells[i - 1] if i else NotebookNode(cell_type="", metadata={})
        after = nb.cells[i + 1] if i + 1 < len(nb.cells) else before
        twin = "torch" in tags(cell) and "keras" in tags(before)
        if before.cell_type == "markdown":
            prose = " ".join(line for line in _text(before) if not line.startswith("#"))
            if len(prose.split()) < 5:
                yield i, "the text before it must say why, in a sentence"
        elif not twin and not ("solution" in tags(cell) and "solution" in tags(before)):
            yield i, "text that says why must stand before it"
        if "keras" in tags(cell) and "torch" not in tags(after):
            yield i, "its torch twin must follow it"
        if "torch" in tags(cell) and not twin:
            yield i, "its keras twin must stand before it"
        size, other = (len(c.source.splitlines()) for c in (cell, before if twin else cell))
        if size != other and not ("uneven" in tags(cell) and "uneven" in tags(before)):
            yield i, f"it has {size} lines and its twin {other}: even out, or tag both 'uneven'"
        wide = max(map(len, cell.source.splitlines()), default=0)
        if {"keras", "torch"} & set(tags(cell)) and wide > 60:
            yield i, f"a twin's lines have at most 60 characters, not {wide}"


def _reads(table: symtable.SymbolTable) -> set[str]:
    """The notebook's names that an inner scope, and those inside it, read."""
    names = {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
    return names.union(*map(_reads, table.get_children()))


def _names(nb: NotebookNode) -> Iterator[Finding]:
    """What is defined is used, in its own cell or a later one, and nothing is used before that."""
    defined, known = [], {*dir(builtins), "display"}
    for i, cell in _code_cells(nb):
        tree = _parse(cell.source)
        if tree is None:
            continue
        table = symtable.symtable(cell.source, "cell", "exec")
        sets = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
        reads = {s.get_name() for s in table.get_symbols() if s.is_referenced()}
        for child in table.get_children():
            reads |= _reads(child) - {child.get_name()}  # to call itself is no use
        names = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
        reads |= {node.id for node in names if isinstance(node.ctx, ast.Del)}
        known |= sets
        for name in sorted(reads - known):
            yield i, f"'{name}' is used before it is defined"
        defined.append((i, sets, reads))
    for position, (i, sets, _) in enumerate(defined):
        used = set().union(*(reads for _, _, reads in defined[position:]))
        for name in sorted(sets - used):
            if not name.startswith("_"):
                yield i, f"'{name}' is defined and never used: delete it, or call it '_'"


def _bundle_prints(output: NotebookNode) -> bool:
    """Whether an output is text, and not the caption that comes with a picture."""
    data = output.get("data", {})
    return output.output_type == "stream" or (bool(data) and "image/" not in " ".join(data))


def _outputs(nb: NotebookNode) -> Iterator[Finding]:
    """Every cell ran, in order; its output is clean, described, and compared where it can be."""
    printing = excused = 0
    for count, (i, cell) in enumerate(_code_cells(nb), start=1):
        kinds = [output.output_type for output in cell.outputs]
        if cell.execution_count != count:
            yield i, f"its number is {cell.execution_count}, not {count}: run `make notebooks`"
        if ("error" in kinds) != ("raises-exception" in tags(cell)):
            yield i, "it must raise if it is tagged 'raises-exception', and only then"
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield i, "it writes to stderr: mend what it warns of"
        shown = "\n".join(text for output in cell.outputs for text in _shown(output))
        for pattern, what in BAD_TEXT.items():
            if match := re.search(pattern, shown):
                yield i, f"its output has {what} ({match[0]!r})"
        mimes = " ".join(mime for output in cell.outputs for mime in output.get("data", {}))
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if "image/" in mimes and len(alt.strip()) < 20:
            yield i, "its picture needs alt text in mystnb.image.alt, 20 characters or more"
        if "widget-view" in mimes:
            yield i, "it shows a widget, which a page can't: print text"
        if any(map(_bundle_prints, cell.outputs)):
            printing += 1
            if "nbval-ignore-output" in tags(cell):
                excused += 1
                if not _asserts(cell):
                    yield i, "its output isn't compared, so it must assert what matters"
    if 3 * excused > printing:
        yield None, f"{excused} of {printing} cells that print aren't compared, more than a third"


def _shown(output: NotebookNode) -> Iterator[str]:
    """An output's text; without its colours, where it stands in for HTML (Keras' summaries)."""
    yield output.get("text", "")
    yield "\n".join(output.get("traceback", []))
    data = output.get("data", {})
    for value in (value for kind, value in data.items() if kind.startswith("text/")):
        yield re.sub(r"\x1b\[[\d;]*m", "", value) if "text/html" in data else value


def _meta(nb: NotebookNode) -> Iterator[Finding]:
    """Ids, metadata and outputs are as `clean` leaves them."""
    tidy = copy.deepcopy(nb)
    clean(tidy)
    if nb.metadata != tidy.metadata:
        yield None, f"its metadata must be {sorted(HOME)} and stamp: run `make notebooks`"
    for i, (cell, other) in enumerate(zip(nb.cells, tidy.cells, strict=True)):
        for key in ("id", "metadata", "outputs"):
            if cell.get(key) != other.get(key):
                yield i, f"its {key} isn't clean: run `make notebooks`"
