"""Run the chapters and check their form: how outputs are made, and what a chapter must look like.

    python -m tools.notebooks run [paths...]      execute in place, clean, stamp
    python -m tools.notebooks check [paths...]    print every problem

Without paths, both take all of `notebooks/`. Nothing here imports Keras or PyTorch.
"""

import argparse
import ast
import builtins
import copy
import functools
import hashlib
import io
import json
import os
import re
import statistics
import symtable
import sys
import time
import tokenize
from collections.abc import Iterator
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode, v4
from nbformat.validator import iter_validate

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 60.0  # seconds that a chapter may take on two CPU cores
TIMEOUT = 600  # seconds after which a cell is given up
HOME = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}
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
    r"/tmp/|/home/|/root/|/Users/|ipykernel_\d": "a path of this machine: print none",
    r"[\x08\x1b]|\r(?!\n)": "control characters: print plain text (in Keras, verbose=0)",
}
PROBE = """# What the chapter ran on: a last cell, which isn't stored.
import json
from helpers import device
print(json.dumps({"device": device.name(), "versions": device.versions()}))"""

Finding = tuple[int | None, str]  # the cell's index, or None for the whole notebook; a sentence


class ChapterError(Exception):
    """A chapter that can't be read or run; the message is a sentence for the reader."""


# ---- reading, cleaning, running ----


def load(path: Path) -> NotebookNode:
    """Read a notebook as it is in the file, or raise a `ChapterError` that says what is wrong."""
    if not path.is_file():
        raise ChapterError(f"{path}: there is no such file.")
    try:
        text = path.read_text(encoding="utf-8")
        kind = json.loads(text).get("nbformat")
        nb = v4.reads(text) if kind == 4 else NotebookNode()
        invalid = [error.message.split("\n")[0] for error in iter_validate(nb)] if nb else ["old"]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ChapterError(f"{path} is not a notebook ({error}).") from None
    invalid = [reason for reason in invalid if reason != "'id' is a required property"]
    if invalid:
        raise ChapterError(f"{path} is not a notebook of format 4 ({invalid[0]}).")
    return nb


def dumps(nb: NotebookNode) -> str:
    """The notebook as text, as Jupyter writes it."""
    return v4.writes(nb) + "\n"


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def clean(nb: NotebookNode) -> None:
    """Keep what a reader sees and what the tests need; drop the rest. In place, idempotent."""
    nb.nbformat, nb.nbformat_minor = 4, 5
    stamp = {"stamp": nb.metadata.stamp} if "stamp" in nb.metadata else {}
    nb.metadata = HOME | stamp
    _give_ids(nb.cells)
    for cell in nb.cells:
        old, labels = cell.metadata, list(tags(cell))
        if "solution" in labels:
            labels += ["hide-cell"] if "hide-cell" not in labels else []
            old.jupyter = {"source_hidden": True}
        kept = {"tags": labels} if labels else {}
        if old.get("mystnb"):
            kept["mystnb"] = old.mystnb
        if old.get("jupyter", {}).get("source_hidden"):
            kept["jupyter"] = {"source_hidden": True}
        cell.metadata = kept
        if cell.cell_type == "code":
            cell.outputs = _tidy(cell.outputs)


def _give_ids(cells: list[NotebookNode]) -> None:
    """Keep ids that are valid, unique and readable; make the others from the cell's first words."""
    taken: set[str] = set()
    for cell in cells:
        name = cell.get("id", "")
        random = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]{27})?", name)
        if random or name in taken or not re.fullmatch(r"[\w-]{1,64}", name, re.ASCII):
            cell.id = ""
        else:
            taken.add(name)
    for cell in cells:
        if not cell.id:
            words = "-".join(re.findall(r"[a-z0-9]+", cell.source.lower())[:6])
            name = base = words[:40].strip("-") or "cell"
            for count in range(2, len(cells) + 2):
                if name not in taken:
                    break
                name = f"{base}-{count}"
            cell.id = name
            taken.add(name)


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join the pieces of a stream; shorten a traceback, which names paths, to its last line."""
    tidy: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "error":
            output.traceback = [f"{output.ename}: {output.evalue}"]
        last = tidy[-1] if tidy else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            tidy.append(output)
    return tidy


def digest(nb: NotebookNode, root: Path = ROOT) -> str:
    """SHA-256 of all that outputs follow from: the code cells, their tags, and `helpers/*.py`."""
    cells = [[cell.source, tags(cell)] for cell in nb.cells if cell.cell_type == "code"]
    helpers = {p.name: p.read_text("utf-8") for p in sorted((root / "helpers").glob("*.py"))}
    return hashlib.sha256(json.dumps([cells, helpers]).encode()).hexdigest()


def run(path: Path, root: Path = ROOT) -> dict:
    """Execute a chapter in a fresh kernel, clean and stamp it, replace the file; return the stamp.

    The kernel is this interpreter's own, whatever kernels the user has registered. If a cell
    raises, `ChapterError` says which, and the file stays as it was.
    """
    nb = load(path)
    clean(nb)
    nb.cells.append(v4.new_code_cell(PROBE))
    starts: list[float] = []  # when each cell started
    client = NotebookClient(
        nb,
        km=AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[])),
        timeout=TIMEOUT,
        record_timing=False,
        store_widget_state=False,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # what a kernel says of itself
        on_cell_start=lambda cell, cell_index: starts.append(time.perf_counter()),
    )
    search = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": search}
    env.pop("MPLBACKEND", None)  # figures go into the page
    try:
        client.execute(cleanup_kc=True, env=env, cwd=str(path.resolve().parent))
    except CellExecutionError as error:
        reason = f"raised {error.ename}: {error.evalue}".split("\n")[0]
    except CellTimeoutError:
        reason = f"took more than {TIMEOUT} s"
    except DeadKernelError:
        reason = "killed the kernel"
    else:
        reason = ""
    if reason:
        where = _where(path, nb, len(starts) - 1 if starts else None)
        raise ChapterError(f"{where} {reason}. The file is unchanged.")
    stamp = json.loads(next(o.text for o in nb.cells.pop().outputs if o.get("name") == "stdout"))
    stamp |= {"digest": digest(nb, root), "seconds": round(starts[-1] - starts[0], 1)}
    nb.metadata.stamp = stamp
    clean(nb)
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(dumps(nb), encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return stamp


# ---- checking ----


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
    if set(stamp) != {"digest", "versions", "device", "seconds"}:
        found.append((None, "it has no complete stamp: run `make notebooks`"))
    elif stamp.digest != digest(nb, root):
        found.append((None, "its stamp is stale (code or helpers changed): run `make notebooks`"))
    if path.read_text("utf-8") != dumps(nb):
        found.append((None, "the file isn't written as Jupyter writes it: run `make notebooks`"))
    if path.stat().st_size >= 400_000:
        found.append((None, "it has 400 kB or more: draw fewer or smaller figures"))
    return [f"{_where(path, nb, where)}: {what}." for where, what in found]


def _where(path: Path, nb: NotebookNode, index: int | None) -> str:
    if index is None or index >= len(nb.cells):
        return path.name
    first = next(iter(nb.cells[index].source.strip().splitlines()), "")
    return f"{path.name}, cell {index + 1} ({first[:50]!r})"


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
        if "solution" not in tags(cell):  # a solution is a whole program, and folded away
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
        reads |= {n.id for n in ast.walk(tree) if type(getattr(n, "ctx", 0)) is ast.Del}
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


# ---- the command line ----


def chapters(paths: list[Path]) -> list[Path]:
    """The notebooks that the paths name; a folder stands for those in it."""
    found = []
    for path in paths:
        inside = sorted(path.glob("*.ipynb")) if path.is_dir() else [path]
        if not inside:
            raise ChapterError(f"{path}: there are no notebooks in this folder.")
        found += inside
    return found


def main(argv: list[str] | None = None) -> int:
    """Run or check the named chapters; 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    parser.add_argument("action", choices=["run", "check"])
    parser.add_argument("paths", nargs="*", type=Path, default=[ROOT / "notebooks"])
    args = parser.parse_args(argv)
    failed = False
    try:
        paths = chapters(args.paths)
    except ChapterError as error:
        print(error, file=sys.stderr)
        return 1
    for path in paths:
        if args.action == "check":
            found = problems(path)
            print(*found, sep="\n", end="\n" if found else "")
            failed |= bool(found)
            continue
        try:
            stamp = run(path)
        except ChapterError as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        print(f"{path.name}: {stamp['seconds']} s on {stamp['device']}", flush=True)
        if stamp["seconds"] > LONGEST:
            # Written all the same: the outputs are true, and the tests hold the stamp to the limit.
            print(f"{path.name} took {stamp['seconds']} s, and may take {LONGEST:g}: shorten it.")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
