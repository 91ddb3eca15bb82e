"""Show a piece of a chapter on a page of prose, so that the page can't go stale.

    :::{from-chapter} notebooks/01_concepts.ipynb
    :twins: keras.Sequential
    :::

gives the chapter's first pair of twins whose Keras code holds those words, then the first parity
report that the chapter printed after it. Where there is no such pair or report, the build fails.
"""

import json
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective


def source(cell: dict) -> str:
    """The code of a cell, or its Markdown."""
    return "".join(cell["source"])


def tagged(cell: dict, name: str) -> bool:
    """True where the cell has that tag."""
    return name in cell["metadata"].get("tags", [])


def piece(cells: list[dict], words: str) -> tuple[str, str, str] | None:
    """The Keras code with those words, PyTorch's, and the HTML of the next parity report."""
    pair = None
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        twins = after and tagged(cell, "keras") and tagged(after, "torch")
        if pair is None and twins and words in source(cell):
            pair = source(cell), source(after)
        for output in cell.get("outputs", []) if pair else []:
            html = "".join(output.get("data", {}).get("text/html", ""))
            if 'class="parity"' in html:
                return *pair, html
    return None


class FromChapter(SphinxDirective):
    """The twins and the report of a chapter."""

    required_arguments = 1
    option_spec: ClassVar[dict] = {"twins": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        from twins import labelled, twins

        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        cells = json.loads(path.read_text(encoding="utf8"))["cells"]
        found = piece(cells, self.options.get("twins", ""))
        if found is None:
            raise self.error(f"{self.arguments[0]} has no such twins with a report after them.")
        *codes, report = found
        blocks = [nodes.literal_block(code, code, language="python") for code in codes]
        table = nodes.container("", nodes.raw("", report, format="html"), classes=["report"])
        return [twins("", labelled(blocks[0], "keras"), labelled(blocks[1], "torch")), table]


def setup(app) -> dict[str, bool]:
    app.add_directive("from-chapter", FromChapter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
