"""Stand the two versions of a step side by side, and fold the solutions.

A code cell tagged `keras` with a cell tagged `torch` right after it becomes

    <div class="twins">
      <div class="twin twin-keras"><p class="twin-label">Keras</p> the cell </div>
      <div class="twin twin-torch"><p class="twin-label">PyTorch</p> the cell </div>
    </div>

The columns are CSS, the switch is `_static/twins.js`; with neither, the two stand one under the
other. Cells tagged `solution` and `hide-cell` that follow one another fold into one `<details>`;
the code of a cell tagged `hide-input` folds into one of its own, above its output.
In a Markdown page, `:::{twins}` around two code blocks gives the same pair.
"""

from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

LABELS = {"keras": "Keras", "torch": "PyTorch"}


class twins(nodes.General, nodes.Element):
    """Both versions of one step."""


class twin(nodes.General, nodes.Element):
    """One of the two; `framework` says which."""


class solution(nodes.General, nodes.Element):
    """The folded cells of one solution."""


class folded(nodes.General, nodes.Element):
    """The folded code of a cell whose output is shown."""


def tags(node: nodes.Node) -> list[str]:
    """The tags of a code cell; none for any other node."""
    if not isinstance(node, nodes.container) or node.get("nb_element") != "cell_code":
        return []
    return list(node["cell_metadata"].get("tags", []))


def is_solution(node: nodes.Node) -> bool:
    """True for a cell that is to be folded as a solution."""
    return {"solution", "hide-cell"} <= set(tags(node))


def framework(node: nodes.Node) -> str | None:
    """`keras` or `torch` for a cell that is one of a pair or has no twin, else None."""
    return next((name for name in LABELS if name in tags(node)), None)


def labelled(node: nodes.Node, name: str) -> twin:
    """The node under its framework's name."""
    return twin("", nodes.paragraph("", LABELS[name], classes=["twin-label"]), node, framework=name)


def pair(cells: list[nodes.Node]) -> Iterator[nodes.Node]:
    """The same nodes in the same order, with each Keras and PyTorch neighbour in one `twins`."""
    rest = list(cells)
    while rest:
        node = rest.pop(0)
        name = framework(node)
        if name == "keras" and rest and framework(rest[0]) == "torch":
            yield twins("", labelled(node, "keras"), labelled(rest.pop(0), "torch"))
        elif name:
            yield labelled(node, name)  # no counterpart: it keeps its name, and never hides
        else:
            yield node


def fold(cells: list[nodes.Node]) -> Iterator[nodes.Node]:
    """The same nodes in the same order, with each run of solution cells in one `solution`."""
    run: list[nodes.Node] = []
    for node in [*cells, None]:
        if node is not None and is_solution(node):
            node.attributes.pop("hide_mode", None)  # MyST-NB would fold each by itself
            run.append(node)
            continue
        if run:
            yield solution("", *pair(run))
            run = []
        if node is not None:
            yield node


def fold_input(node: nodes.Node) -> None:
    """Fold the code of a cell tagged `hide-input`, and not its output."""
    if "hide-input" in tags(node):
        node.attributes.pop("hide_mode", None)
        source = next(c for c in node.children if c.get("nb_element") == "cell_code_source")
        node.replace(source, folded("", source.deepcopy()))


class ArrangeCells(SphinxPostTransform):
    """Fold the solutions, then pair the twins, wherever code cells stand."""

    default_priority = 150  # before MyST-NB folds hidden cells (199)
    formats = ("html",)

    def run(self, **kwargs) -> None:
        parents = {id(node.parent): node.parent for node in self.document.findall(tags)}
        for node in list(self.document.findall(tags)):
            fold_input(node)
        for parent in parents.values():
            arranged = list(pair(list(fold(parent.children))))
            parent.clear()
            parent.extend(arranged)


class TwinsDirective(SphinxDirective):
    """Two code blocks, Keras first, as a pair."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        box = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, box)
        blocks = list(box.children)
        if len(blocks) != 2 or not all(isinstance(b, nodes.literal_block) for b in blocks):
            raise self.error("twins holds two code blocks, Keras then PyTorch, and nothing else.")
        return [twins("", labelled(blocks[0], "keras"), labelled(blocks[1], "torch"))]


def skip(translator, node: nodes.Element) -> None:
    """Other builders show what is inside, one under the other."""


def open_twins(translator, node: nodes.Element) -> None:
    translator.body.append('<div class="twins">\n')


def open_twin(translator, node: nodes.Element) -> None:
    translator.body.append(f'<div class="twin twin-{node["framework"]}">\n')


def open_fold(kind: str, what: str):
    """A visitor that opens a `<details>` of that class, to show and to hide what it names."""

    def visit(translator, node: nodes.Element) -> None:
        translator.body.append(
            f'<details class="{kind}"><summary><span class="when-closed">Show the {what}</span>'
            f'<span class="when-open">Hide the {what}</span></summary>\n'
        )

    return visit


def close_div(translator, node: nodes.Element) -> None:
    translator.body.append("</div>\n")


def close_fold(translator, node: nodes.Element) -> None:
    translator.body.append("</details>\n")


def setup(app: Sphinx) -> dict[str, bool]:
    for node, enter, leave in [
        (twins, open_twins, close_div),
        (twin, open_twin, close_div),
        (solution, open_fold("solution", "solution"), close_fold),
        (folded, open_fold("folded", "code"), close_fold),
    ]:
        others = dict.fromkeys(("latex", "text", "man", "texinfo"), (skip, skip))
        app.add_node(node, html=(enter, leave), **others)
    app.add_post_transform(ArrangeCells)
    app.add_directive("twins", TwinsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
