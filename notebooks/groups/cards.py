"""A model card as a page: every number in it comes from the card's file, none is typed."""

import os
from pathlib import Path
from typing import Any

import shipping

from groups.needs import GroupsError

WANTED = ("name", "version", "purpose", "not_for", "data", "groups", "effort", "sha256")


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def page(card: dict[str, Any]) -> str:
    """The Markdown of a card. `groups` maps a name to `n`, `wrong`, `low` and `high`.

    `data` and `effort` map a name to text or a number. A card without groups is refused: whose
    error the score is must be said.
    """
    for key in WANTED:
        if not card.get(key):
            raise GroupsError(f"A card needs {key!r}: whoever reads it will ask.")
    groups = card["groups"]
    if len(groups) < 2:
        raise GroupsError("One group is the average once more: a card needs two groups or more.")
    rows = []
    for name, found in groups.items():
        n, wrong, low, high = (found[key] for key in ("n", "wrong", "low", "high"))
        if not 0 <= wrong <= n or n < 1:
            raise GroupsError(f"{name}: {wrong} of {n} can't be wrong.")
        if not 0 <= low <= wrong / n <= high <= 1:
            raise GroupsError(f"{name}: its interval doesn't hold its own error.")
        rows.append((name, f"{n:,}", _percent(wrong / n), f"{_percent(low)} to {_percent(high)}"))
    worst = max(groups, key=lambda name: groups[name]["wrong"] / groups[name]["n"])
    lines = [
        f"**{card['name']}, version {card['version']}**",
        "",
        f"For: {card['purpose']}.",
        f"Not for: {card['not_for']}.",
        "",
        "| whose pictures | how many | wrong | interval |",
        "| --- | --- | --- | --- |",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        f"Worst off: {worst}.",
        "",
        *(f"- {key}: {value}" for part in ("data", "effort") for key, value in card[part].items()),
        f"- digest of the file: {card['sha256']}",
    ]
    return "\n".join(lines) + "\n"


def publish(file: str | Path) -> Path:
    """Write the page of a model file's card beside it, as a whole or not at all; return its path.

    The file must be the one that its card tells of.
    """
    path = Path(file).with_suffix(".md")
    draft = path.with_suffix(".md.part")
    text = page(shipping.check(file))
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def verify(file: str | Path) -> str:
    """The page beside a model file, if it is what its card says, number by number."""
    path = Path(file).with_suffix(".md")
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise GroupsError(f"{path.name} can't be read: {error.strerror}.") from None
    if text != page(shipping.check(file)):
        raise GroupsError(f"{path.name} doesn't say what its card says: somebody edited it.")
    return text
