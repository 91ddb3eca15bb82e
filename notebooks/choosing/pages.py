"""The book's own pages as data: twins, what a cell printed, headings and their anchors."""

import json
import re
import tomllib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

__all__ = ["Twin", "anchors", "chapters", "heading", "printed", "slug", "tasks", "twins"]

HERE = Path(__file__).resolve().parents[1]
"""The folder of the chapters."""


@dataclass(frozen=True)
class Twin:
    """One step in both frameworks, as it stands in a chapter."""

    chapter: int
    keras: str
    torch: str
    uneven: bool  # lines can't answer each other, and the chapter says why


def chapters(last: int = 23, folder: Path = HERE) -> list[Path]:
    """The notebooks of chapters 1 to `last`; an error that names a missing one."""
    found = {int(path.name[:2]): path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if missing := sorted(set(range(1, last + 1)) - set(found)):
        raise FileNotFoundError(f"There is no notebook of chapter {missing[0]} in {folder.name}/.")
    return [found[number] for number in range(1, last + 1)]


@cache
def _cells(path: Path) -> list[dict]:
    return json.loads(path.read_text("utf-8"))["cells"]


def _tags(cell: dict) -> list[str]:
    return cell["metadata"].get("tags", [])


def twins(path: Path) -> list[Twin]:
    """The pairs of cells tagged `keras` and `torch` in a chapter."""
    cells, found = _cells(path), []
    for first, second in pairwise(cells):
        if "keras" in _tags(first) and "torch" in _tags(second):
            codes = ["".join(cell["source"]) for cell in (first, second)]
            found.append(Twin(int(path.name[:2]), *codes, "uneven" in _tags(first)))
    return found


def tasks(folder: Path = HERE.parent / "book" / "rosetta") -> dict[str, list[tuple[str, str]]]:
    """Rosetta's rows, by topic: the Keras code and the PyTorch code of each task."""
    found = {}
    for path in sorted(folder.glob("[0-9]*.toml")):
        topic = tomllib.loads(path.read_text("utf-8"))
        found[topic["topic"]] = [(row["keras"], row["torch"]) for row in topic["row"]]
    return found


def printed(chapter: int, pattern: str, folder: Path = HERE) -> re.Match:
    """Where `pattern` matches what a cell of the chapter printed when it last ran.

    Text outputs only, each by itself; the first match. An error says that there is none.
    """
    path = chapters(chapter, folder)[-1]
    for cell in _cells(path):
        for output in cell.get("outputs", []):
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            if match := re.search(pattern, "".join(text)):
                return match
    raise LookupError(f"{path.name} prints nothing like {pattern!r} any more: look there.")


def slug(title: str) -> str:
    """The anchor of a heading: formulas and signs don't count.

    >>> slug("What `fit` costs, and how to get it back")
    'what-fit-costs-and-how-to-get-it-back'
    """
    words = re.sub(r"\$[^$]*\$", "", title).lower().replace(" ", "-")
    return re.sub(r"[^\w-]", "", words)


def anchors(path: Path) -> list[str]:
    """The anchors of a page's headings, up to three levels: of a chapter, or of a `.md` file."""
    if path.suffix == ".ipynb":
        texts = ["".join(c["source"]) for c in _cells(path) if c["cell_type"] == "markdown"]
    else:
        texts = [path.read_text("utf-8")]
    text = re.sub(r"(?ms)^(`{3,}|~{3,}).*?^\1[`~]*\s*?$", "", "\n".join(texts))
    return [slug(title.strip()) for title in re.findall(r"(?m)^#{1,3} +(.+)$", text)]


def heading(target: str, folder: Path = HERE) -> str:
    """`14: Threads` as the address of that heading; an error where the chapter has none."""
    number, _, title = target.partition(": ")
    found = sorted(folder.glob(f"{int(number):02}_*.ipynb"))
    if not found or slug(title) not in anchors(found[0]):
        raise LookupError(f"Chapter {number} has no heading {title!r}.")
    return f"{found[0].name}#{slug(title)}"
