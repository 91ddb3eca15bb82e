"""From figures to decisions: a rule that was written down before it was used, and a table."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .pages import heading

__all__ = ["VERDICTS", "Row", "Table", "rule", "weigh"]

VERDICTS = ("Keras", "PyTorch", "either", "neither")
HEAD = ("What", "Keras", "PyTorch", "Verdict", "Shown in")
MARGIN = 1.25
"""A quarter more or less decides; below that, how the code is written matters more than in what."""


@dataclass(frozen=True)
class Row:
    """One question, what each framework was found to give, the verdict, and where that is shown."""

    key: str  # a word to weigh it by: "step"
    question: str
    keras: str
    torch: str
    verdict: str
    where: str  # a chapter and a heading: "14: Threads"

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"{self.verdict!r} is no verdict: say one of {', '.join(VERDICTS)}.")
        heading(self.where)


def rule(keras: float, torch: float, margin: float = MARGIN) -> str:
    """Who costs less by more than `margin`: `Keras`, `PyTorch`, or `either`. Costs are above 0."""
    if not (keras > 0 and torch > 0 and margin >= 1):
        raise ValueError(f"Costs {keras} and {torch}, margin {margin}: give positive numbers.")
    if keras * margin < torch:
        return "Keras"
    return "PyTorch" if torch * margin < keras else "either"


@dataclass
class Table:
    """Rows, ready to be looked at: text in a terminal, a table with links on the page."""

    rows: list[Row] = field(default_factory=list)

    def enter(
        self, key: str, question: str, costs: Iterable[float], where: str, form: str = "{:.0f}"
    ) -> None:
        """A row from what each of the two costs, Keras first: the rule decides."""
        keras, torch = costs
        verdict = rule(keras, torch)
        self.rows.append(Row(key, question, form.format(keras), form.format(torch), verdict, where))

    def __repr__(self) -> str:
        wide = [
            max(len(getattr(r, key)) for r in self.rows) for key in ("question", "keras", "torch")
        ]
        lines = []
        for r in self.rows:
            cells = (r.question, r.keras, r.torch)
            shown = "  ".join(f"{cell:{w}}" for cell, w in zip(cells, wide, strict=True))
            lines.append(f"{shown}  {r.verdict:8} chapter {r.where.split(':')[0]}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = ""
        for r in self.rows:
            chapter, _, title = r.where.partition(": ")
            words = html.escape(f"{chapter}, {title.replace('`', '')}")
            link = f'<a href="{heading(r.where)}">{words}</a>'
            cells = [html.escape(c) for c in (r.question, r.keras, r.torch, r.verdict)]
            tds = (
                f'<td data-label="{label}">{cell}</td>'
                for label, cell in zip(HEAD, [*cells, link], strict=True)
            )
            body += f"<tr>{''.join(tds)}</tr>\n"
        still = "position: static"  # a ledger's head sticks below its search box; here is none
        head = "".join(f'<th style="{still}">{title}</th>' for title in HEAD)
        return (
            f'<table class="ledger"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'
        )


def weigh(rows: Sequence[Row], weights: Mapping[str, float]) -> dict[str, float]:
    """What each verdict has collected: the weights of its rows, as shares of all."""
    if unknown := sorted(set(weights) - {row.key for row in rows}):
        raise ValueError(f"No row is called {unknown[0]!r}: the rows are {[r.key for r in rows]}.")
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise ValueError("Give each need a weight of 0 or more, and at least one above 0.")
    collected = dict.fromkeys(VERDICTS, 0.0)
    for row in rows:
        collected[row.verdict] += weights.get(row.key, 0) / total
    return collected
