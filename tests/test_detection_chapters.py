"""Chapters 20 to 22 show the code of the package: what they define under its names is the same.

In a chapter all stands in one room, so a Keras or PyTorch version has its library before its name,
and what the package takes from a module of its own (`parts.BINS`) has none (`BINS`).
"""

import ast
import copy
import inspect

import pytest
from detection import keras_net, keras_parts, metric, parts, plan, scenes, torch_net, torch_parts

from tools.chapter import ROOT, load, tags

CHAPTERS = "20_boxes", "21_regions", "22_detection"
NUMPY = parts, scenes, metric, plan
HOMES = {"": NUMPY, "keras": (keras_parts, keras_net), "torch": (torch_parts, torch_net)}
ROOMS = {module.__name__.rpartition(".")[2] for modules in HOMES.values() for module in modules}


class Plain(ast.NodeTransformer):
    """Without docstrings, and without what tells a name in a chapter from one in the package."""

    def __init__(self, library, rooms=frozenset(ROOMS)):
        self.library, self.rooms = library, rooms

    def name(self, name):
        for prefix in (f"{self.library}_", self.library.title()) if self.library else ():
            name = name.removeprefix(prefix)
        return name

    def visit_Name(self, node):
        return ast.Name(self.name(node.id))

    def visit_Attribute(self, node):
        if isinstance(node.value, ast.Name) and node.value.id in self.rooms:
            return ast.Name(node.attr)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        node.name = self.name(node.name)
        return self.generic_visit(node)

    visit_ClassDef = visit_FunctionDef


def defined(source):
    """The names that a source defines outside of functions, and what it says they are."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            for left in node.targets:
                pairs = [(left, node.value)]
                if isinstance(left, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = zip(left.elts, node.value.elts, strict=False)
                found |= {name.id: value for name, value in pairs if isinstance(name, ast.Name)}
    return found


def plain(library, name, node, **how):
    there = Plain(library, **how)
    return there.name(name), ast.unparse(there.visit(node))


def rooms(sources):
    """By which names a chapter knows the modules of the package."""
    nodes = (node for source in sources for node in ast.walk(ast.parse(source)))
    imports = (n for n in nodes if isinstance(n, ast.ImportFrom) and n.module == "detection")
    return ROOMS | {each.asname for node in imports for each in node.names if each.asname}


PACKAGE = {
    library: dict(
        plain(library, name, node)
        for module in modules
        for name, node in defined(inspect.getsource(module)).items()
        if name != "__all__"
    )
    for library, modules in HOMES.items()
}


def shown(cells):
    """What cells define under a name of the package: (library, name, text)."""
    found, cells = [], [cell for cell in cells if cell.cell_type == "code"]
    here = rooms(cell.source for cell in cells)
    for cell in cells:
        for name, node in defined(cell.source).items():
            named = [k for k in ("keras", "torch") if name.startswith((f"{k}_", k.title()))]
            tagged = [k for k in ("keras", "torch") if k in tags(cell)]
            for library in named or tagged or HOMES:
                known, text = plain(library, name, copy.deepcopy(node), rooms=here)
                code = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
                if known in PACKAGE[library] and (code or known not in CODE[library]):
                    found.append((library, known, text))
                    break
    return found


CODE = {
    library: {n for m in modules for n, x in vars(m).items() if inspect.isroutine(x)}
    for library, modules in HOMES.items()
}
"""A variable may have a function's name, where the chapter doesn't use that function."""


def test_nothing_in_the_package_has_two_meanings():
    for modules in HOMES.values():
        names = [n for m in modules for n in defined(inspect.getsource(m)) if n != "__all__"]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_a_chapter_shows_is_what_the_package_does(chapter):
    found = shown(load(ROOT / "notebooks" / f"{chapter}.ipynb").cells)
    assert len(found) > 5
    for library, name, text in found:
        assert text == PACKAGE[library][name], f"{chapter}, {library} {name}"


def test_every_function_of_the_package_is_shown():
    """All but those that make batches and rates, which chapter 22 tells in words."""
    cells = [c for name in CHAPTERS for c in load(ROOT / "notebooks" / f"{name}.ipynb").cells]
    seen = {(library, name) for library, name, _ in shown(cells)}
    public = {
        (library, name)
        for library, modules in HOMES.items()
        for module in modules
        for name in module.__all__
        if inspect.isroutine(getattr(module, name)) or inspect.isclass(getattr(module, name))
    }
    assert public - seen <= {("", name) for name in ("batch", "batches", "epsilon", "rate")}


def cell(source, *labels):
    from nbformat import v4

    return v4.new_code_cell(source, metadata={"tags": list(labels)})


def test_a_difference_is_found():
    """In each kind of cell: the code as it is, and with one word changed."""
    cases = [
        ("", parts.nms, "first", "left", []),
        ("", metric.precision_recall, "right", "wrong", []),
        ("keras", keras_parts.clip, "maximum", "minimum", ["keras"]),
        ("torch", torch_parts.clip, "maximum", "minimum", ["torch"]),
        ("torch", torch_net.Detector, "stride=2", "stride=1", ["torch"]),
        ("torch", torch_parts.clip, "maximum", "minimum", []),
        ("keras", keras_net.Lesson, "note", "tell", []),
    ]
    for library, thing, old, new, labels in cases:
        source = inspect.getsource(thing)
        if library:
            source = source.replace("def clip", f"def {library}_clip").replace("parts.", "")
        same = shown([cell(source, *labels)])
        other = shown([cell(source.replace(old, new), *labels)])
        assert (
            [row[:2] for row in same] == [row[:2] for row in other] == [(library, thing.__name__)]
        )
        assert same[0][2] == PACKAGE[library][thing.__name__] != other[0][2], thing
    assert shown([cell("SIDE, STRIDE = 96, 4")]) == [("", "SIDE", "96"), ("", "STRIDE", "4")]
    assert PACKAGE[""]["SIDE"] == "96" and PACKAGE[""]["STRIDE"] == "4"
