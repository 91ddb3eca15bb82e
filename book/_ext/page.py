"""What our templates ask for, where a table's links lead on the page, and the page at the root."""

import re
from pathlib import Path

from bs4 import BeautifulSoup

ROOT = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url={front}">
<title>{title}</title>
<h1>{title}</h1>
<p><a href="{front}">Open the book</a></p>
"""


def add_contents(app, pagename, templatename, context, doctree) -> None:
    """Give the page `book_contents`: parts and chapters, the open one with its sections."""
    contents = BeautifulSoup(
        context["toctree"](maxdepth=1, collapse=False, includehidden=True, titles_only=True),
        "html.parser",
    )
    here = contents.select_one("a.current")
    if here:
        here["aria-current"] = "page"
        here["href"] = "#"
        sections = BeautifulSoup(context.get("toc") or "", "html.parser").select_one("ul ul")
        if sections:
            for deeper in sections.select("ul"):
                deeper.decompose()
            sections["class"] = "sections"
            here.parent.append(sections)
    context["book_contents"] = str(contents)


def lead_to_pages(app, pagename, templatename, context, doctree) -> None:
    """Let a ledger's links, to notebooks as in Jupyter, lead to the chapters' pages.

    A link to a section names it as Markdown's links do, which isn't always its id on the page.
    """

    def page(link: re.Match) -> str:
        chapter, section = link[1], link[2] or ""
        slugs = app.env.metadata[f"notebooks/{chapter}"].get("myst_slugs", {}) if section else {}
        known = slugs.get(section)
        return f'<a href="{chapter}.html{"#" * bool(section)}{known[1] if known else section}"'

    body = context.get("body", "")
    if 'ledger">' in body:
        context["body"] = re.sub(r'<a href="(\d\d_\w+)\.ipynb(?:#([^"]+))?"', page, body)


def lead_in(app, error) -> None:
    """Write index.html, where the book's first page is not itself at the root."""
    root = app.config.root_doc
    if error is None and app.builder.name == "html" and root != "index":
        front = app.builder.get_target_uri(root)
        text = ROOT.format(front=front, title=app.config.html_title)
        (Path(app.outdir) / "index.html").write_text(text, encoding="utf8")


def setup(app) -> dict[str, bool]:
    app.connect("html-page-context", add_contents, priority=900)
    app.connect("html-page-context", lead_to_pages)
    app.connect("build-finished", lead_in, priority=900)  # after the stub that it replaces
    return {"parallel_read_safe": True, "parallel_write_safe": True}
