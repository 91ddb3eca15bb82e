"""The ledger as a table: as text in a terminal, as HTML in Jupyter and on the page."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from . import Measured, Value

__all__ = ["Table", "find", "show"]

FEW = 25  # so many rows, and the text says what each framework does
HEAD = ("What", "Keras default", "PyTorch default", "Apart", "Of what", "Reconciled by", "Then")


def _apart(value: Value, row: Measured) -> str:
    """A difference as text that another processor prints alike: two digits, one in float32."""
    if isinstance(value, str):
        return value
    digits = 1 if row.entry.float32 or value < 1e-6 else 2
    return f"{float(f'{value:.{digits}g}'):g}"


def _left(row: Measured) -> str:
    """What is left when reconciled: a bound, never the rounding itself."""
    if row.after is None:
        return "stays apart"
    if isinstance(row.after, str):
        return row.after
    return f"≤ {row.entry.bound:.0e}" if row.entry.bound else "0"


def _sort(row: Measured) -> str:
    """What find.js sorts the last difference by: nothing comes last."""
    return f"{row.entry.bound:g}" if isinstance(row.after, float) else ""


def cells(row: Measured) -> tuple[str, ...]:
    """One row of the table, in the order of `HEAD`."""
    e = row.entry
    before = _apart(row.before, row) if row.differs else "the same"
    return e.name, e.keras, e.torch, before, e.unit, e.mend, _left(row)


def find(measured: Iterable[Measured], text: str) -> list[Measured]:
    """The rows that contain every word of `text`, in capitals or not, anywhere in the row."""
    words = text.casefold().split()

    def said(row: Measured) -> str:
        return " ".join([row.entry.topic, row.entry.chapter, *cells(row)]).casefold()

    return [row for row in measured if all(word in said(row) for word in words)]


def _breakable(text: str) -> str:
    """Text for a narrow column: long code may go on in the next line after a dot or the like."""
    parts = [
        re.sub(r"(?<=[.,(=_/])(?=\w)", "\0", word) if len(word) > 16 else word
        for word in text.split(" ")
    ]
    return html.escape(" ".join(parts)).replace("\0", "<wbr>")


@dataclass(frozen=True)
class Table:
    """Measured rows, ready to be looked at."""

    rows: list[Measured]

    def __str__(self) -> str:
        if not self.rows:
            return "No row of the ledger says that."
        width = max(len(row.entry.name) for row in self.rows)
        lines, topic = [], ""
        for row in self.rows:
            name, ours, theirs, before, unit, mend, after = cells(row)
            if row.entry.topic != topic:
                topic = row.entry.topic
                lines.append(f"{topic}:")
            lines.append(f"  {name:<{width}}  {before:>18}  {after:>11}  {mend}")
            if len(self.rows) < FEW:
                lines.append(f"      Keras: {ours}; PyTorch: {theirs}; of {unit}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self.rows:
            return f"<p>{self}</p>"
        head = "".join(f"<th>{title}</th>" for title in (*HEAD, "Chapter"))
        body = ""
        for row in self.rows:
            chapter = row.entry.chapter
            link = f'<a href="{chapter}.ipynb">{int(chapter.split("_")[0])}</a>'
            tds = [_breakable(cell) for cell in cells(row)] + [link]
            value = f' data-value="{_sort(row)}"'
            line = "".join(
                f'<td data-label="{label}"{value if label == "Then" else ""}>{td}</td>'
                for label, td in zip((*HEAD, "Chapter"), tds, strict=True)
            )
            body += f'<tr data-topic="{html.escape(row.entry.topic)}">{line}</tr>\n'
        return (
            f'<table class="findable ledger"><thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}</tbody></table>"
        )


def show(measured: Iterable[Measured], text: str = "") -> Table:
    """A table of the rows; with a text, of those that `find` finds."""
    return Table(find(measured, text))
