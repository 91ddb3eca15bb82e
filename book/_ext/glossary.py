"""The glossary: marks its terms for the search box, and lets links to them say what they mean.

`book/glossary.md` is plain Markdown, so that links from the notebooks lead somewhere in Jupyter,
too. A letter is a heading `##`, a term a heading `###`. Then comes a sentence or two; a line that
begins with `*Keras*` where the frameworks have names of their own; and a link to the section that
teaches it. A comment `<!-- also: ... -->` has other words that somebody may look for. A link to a
term gets the sentences as its title, which `words.js` shows in a card.
"""

import re
from dataclasses import dataclass
from html import escape
from pathlib import Path

PAGE = "book/glossary"
ALSO = re.compile(r"^<!-- also: (.+) -->$", re.MULTILINE)
TAUGHT = re.compile(r"^\[Chapter (\d+): (.+)\]\(\.\./notebooks/(\w+)\.ipynb#([\w-]+)\)$")
SIGNS = {  # TeX in the glossary's sentences, for a title, which is plain text
    r"\infty": "∞", r"\max": "max", r"\log": "log", r"\Phi": "Φ", r"\sigma": "σ",
    r"\varepsilon": "ε", r"\delta": "δ", r"\,": " ", r"\mathrm": "", "^{-53}": "⁻⁵³",
    "^{-24}": "⁻²⁴", "^{-z}": "⁻ᶻ", r"e^ε": "e to the ε", "_{in}": " in", "_{out}": " out",
}  # fmt: skip


@dataclass(frozen=True)
class Term:
    """One entry of the glossary."""

    name: str
    letter: str
    says: str  # Markdown
    names: str  # what the frameworks call it, Markdown, or nothing
    also: str
    chapter: str  # the notebook's name, `02_activations`
    heading: str  # as the link has it
    anchor: str

    @property
    def slug(self) -> str:
        """Its anchor in a link, as MyST makes it."""
        return re.sub(r"[^\w-]", "", self.name.lower().replace(" ", "-"))


def read(text: str) -> list[Term]:
    """The terms of the page, in its order; ValueError where one lacks something."""
    terms = []
    for part in re.split(r"(?m)^## ", text)[1:]:
        letter, _, rest = part.partition("\n")
        for entry in re.split(r"(?m)^### ", rest)[1:]:
            name, _, body = entry.partition("\n")
            also = ALSO.search(body)
            lines = [" ".join(p.split()) for p in ALSO.sub("", body).split("\n\n") if p.strip()]
            link = TAUGHT.match(lines[-1]) if lines else None
            if link is None or len(lines) not in (2, 3):
                raise ValueError(f"{name}: a sentence, perhaps names, and where it is taught")
            if int(link[1]) != int(link[3][:2]):
                raise ValueError(f"{name}: chapter {link[1]} isn't {link[3]}")
            names = lines[1] if len(lines) == 3 else ""
            rest_of = (also[1] if also else "", link[3], link[2], link[4])
            terms.append(Term(name.strip(), letter.strip(), lines[0], names, *rest_of))
    return terms


def plain(says: str) -> str:
    """The sentences as plain text.

    >>> plain("The [activation](#activation) $\\\\max(0, a)$, or `relu`.")
    'The activation max(0, a), or relu.'
    """
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", says)
    for sign, word in SIGNS.items():
        text = text.replace(sign, word)
    return re.sub(r"[`*$]|(?<=[ (])_(?=\w)", "", text.replace("{", "").replace("}", ""))


def mark(text: str) -> str:
    """The page with a mark under each term, for the search box: it has other words for it."""

    def marked(match: re.Match) -> str:
        also = ALSO.search(match[2])
        words = f' data-also="{escape(also[1], quote=True)}"' if also else ""
        div = f'<div class="names term"{words} hidden></div>'
        return f"{match[1]}\n\n{div}\n{ALSO.sub('', match[2])}"

    return re.sub(r"(?ms)^(### [^\n]+)\n(.*?)(?=^##|\Z)", marked, text)


def terms_of(app) -> list[Term]:
    """The book's terms; a warning, which fails the build, where the page has a fault."""
    from sphinx.util import logging

    try:
        return read((Path(app.srcdir) / f"{PAGE}.md").read_text(encoding="utf8"))
    except ValueError as error:
        logging.getLogger(__name__).warning("glossary: %s", error, location=PAGE)
        return []


def fill(app, docname: str, source: list[str]) -> None:
    """Mark the terms on their page."""
    if docname == PAGE:
        source[0] = mark(source[0])


def explain(app, doctree, docname: str) -> None:
    """Give each link to a term its sentences as a title."""
    from docutils import nodes

    known = {nodes.make_id(term.name): term for term in terms_of(app)}
    for link in doctree.findall(nodes.reference):
        page, _, anchor = link.get("refuri", "").partition("#")
        inside = docname == PAGE and not page
        if anchor in known and (inside or page.endswith("glossary.html")):
            link["reftitle"] = plain(known[anchor].says)
            link["classes"].append("to-term")


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    app.connect("doctree-resolved", explain)
    app.add_css_file("words.css")
    app.add_js_file("words.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
