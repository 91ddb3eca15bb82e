"""The references of the articles, checked: a table in the bibliography from `book/checked.toml`.

In `book/bibliography.md` the line `<!-- checked -->` gives way to the table, and `<!-- counts -->`
to what it comes to.
"""

import re
import tomllib
from collections import Counter
from html import escape
from pathlib import Path

VERDICTS = ("right", "wrong number", "wrong authors", "wrong title", "invented")
KNOWN = ("looked up", "by memory")
KEYS = {"numbers", "work", "says", "verdict", "known", "arxiv", "url", "note"}
ARXIV = re.compile(r"(\d\d)(0[1-9]|1[0-2])\.\d{4,5}")  # since April 2007
LENGTH = 54  # entries in the list


def read(path: Path) -> list[dict]:
    """The works of the list; ValueError where one says what nobody reads, or not enough."""
    works = tomllib.loads(path.read_text(encoding="utf8"))["work"]
    for work in works:
        name = f"checked.toml: {work.get('numbers', 'a work')}"
        if not {"numbers", "work", "verdict", "known"} <= set(work) <= KEYS:
            raise ValueError(f"{name}: {sorted(set(work) ^ KEYS)}")
        if work["verdict"] not in VERDICTS or work["known"] not in KNOWN:
            raise ValueError(f"{name}: {work['verdict']}, {work['known']}")
        if (work["verdict"] == "right") == bool(work.get("says")):
            raise ValueError(f"{name}: says something else exactly where it isn't right")
        if "arxiv" in work and not ARXIV.fullmatch(work["arxiv"]):
            raise ValueError(f"{name}: {work['arxiv']} is no number of arXiv's")
    listed = sorted(number for work in works for number in work["numbers"])
    if listed != list(range(1, LENGTH + 1)):
        raise ValueError(f"checked.toml: not each of {LENGTH} numbers once: {listed}")
    return works


def counts(works: list[dict]) -> str:
    """What it comes to, in a sentence."""
    found = Counter(work["verdict"] for work in works)
    wrong = len(works) - found["right"]
    sound = sum(len(work["numbers"]) for work in works if work["verdict"] == "right")
    kinds = ", ".join(f"{found[v]} *{v}*" for v in VERDICTS[1:])
    return (
        f"Of its {LENGTH} entries {LENGTH - len(works)} are repetitions. Of the {len(works)} that "
        f"remain {found['right']} are right and {wrong} aren't: {kinds}. "
        f"Counted with the repetitions, {sound} of {LENGTH} lead to the paper that they name."
    )


def row(work: dict) -> str:
    """A work as a row of the table."""
    links = {}
    if "arxiv" in work:
        links[f"https://arxiv.org/abs/{work['arxiv']}"] = f"arXiv {work['arxiv']}"
    if "url" in work:
        links[work["url"]] = "online"
    made = "".join(f'. <a href="{escape(u, quote=True)}">{t}</a>' for u, t in links.items())
    says = "; ".join(escape(work[key]) for key in ("says", "note") if work.get(key))
    cells = {
        "No.": ", ".join(map(str, work["numbers"])),
        "What": escape(work["work"]) + made,
        "The list says": says,
        "Verdict": work["verdict"] + (", by memory" if work["known"] == KNOWN[1] else ""),
    }
    inside = "".join(f'<td data-label="{name}">{cell}</td>' for name, cell in cells.items())
    return f'<tr data-topic="{work["verdict"]}">{inside}</tr>'


def table(works: list[dict]) -> str:
    """The table, as HTML in Markdown."""
    heads = "".join(f"<th>{h}</th>" for h in ("No.", "What", "The list says", "Verdict"))
    rows = "\n".join(row(work) for work in works)
    head = f"<thead><tr>{heads}</tr></thead>"
    html = f'<table class="findable ledger">{head}\n<tbody>\n{rows}\n</tbody></table>'
    return f"```{{raw}} html\n{html}\n```"


def fill(app, docname: str, source: list[str]) -> None:
    """Put table and counts where the marks stand; a warning, which fails the build, else."""
    if docname != "book/bibliography":
        return
    from sphinx.util import logging

    path = Path(app.srcdir) / "book" / "checked.toml"
    app.env.note_dependency(str(path))
    try:
        works = read(path)
    except (ValueError, KeyError) as error:
        logging.getLogger(__name__).warning("checked: %s", error, location=docname)
        return
    source[0] = source[0].replace("<!-- checked -->", table(works))
    source[0] = source[0].replace("<!-- counts -->", counts(works))


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
