"""A chapter's file: read it, keep in it what belongs there, and say where in it something is."""

import hashlib
import json
import re
from pathlib import Path

from nbformat import NotebookNode, v4
from nbformat.validator import iter_validate

ROOT = Path(__file__).resolve().parent.parent
HOME = {
    "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
    "language_info": {"name": "python"},
}


class ChapterError(Exception):
    """A chapter that can't be read or run; the message is a sentence for the reader."""


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
    """SHA-256 of all that outputs follow from.

    That is the code cells, their tags, `helpers/*.py`, and the packages beside the chapters that
    the cells import: their modules (`notebooks/ledger/*.py`, `*.cpp`), and those of their stored
    results that the cells name (`notebooks/measured/*.json`).
    """
    cells = [[cell.source, tags(cell)] for cell in nb.cells if cell.cell_type == "code"]
    parts, code = [cells, _modules(root / "helpers")], "\n".join(source for source, _ in cells)
    for package in sorted((root / "notebooks").glob("*/__init__.py")):
        name = package.parent.name
        imports = rf"(?m)^\s*(import|from) ([\w., ]+, *)?{name}\b"
        if re.search(imports, code):
            stored = _modules(package.parent, "json")
            named = {file: text for file, text in stored.items() if f'"{file[:-5]}"' in code}
            compiled = _modules(package.parent, "cpp")
            parts.append({name: _modules(package.parent) | compiled | named})
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _modules(package: Path, kind: str = "py") -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(package.glob(f"*.{kind}"))}


def where(path: Path, nb: NotebookNode, index: int | None) -> str:
    if index is None or index >= len(nb.cells):
        return path.name
    first = next(iter(nb.cells[index].source.strip().splitlines()), "")
    return f"{path.name}, cell {index + 1} ({first[:50]!r})"
