"""The page on the helpers, from their docstrings, without importing them.

The book builds where neither torch nor Keras nor NumPy is installed, so the source is read with
`ast`. In `book/helpers.md` the line `<!-- helpers -->` gives way to a section for each module: its
docstring, then each public name with its signature and docstring.
"""

import ast
import inspect
from pathlib import Path

MARK = "<!-- helpers -->"
WIDTH = 78
Function = ast.FunctionDef | ast.AsyncFunctionDef


class MissingDocstring(ValueError):
    """A public name, or a module, that says nothing about itself."""


def public_names(tree: ast.Module) -> list[str]:
    """The names in the module's `__all__`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        ):
            return list(ast.literal_eval(node.value))
    return []


def signature(node: Function, *, method: bool = False) -> str:
    """`name(arguments) -> result`, on one line where it fits, else an argument a line."""
    args = _arguments(node.args)
    if method and "staticmethod" not in map(_name, node.decorator_list):
        del args[0]  # self
    result = f" -> {_type(node.returns)}" if node.returns else ""
    line = f"{node.name}({', '.join(args)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{node.name}(", *(f"    {arg}," for arg in args), f"){result}"])


def _type(node: ast.expr) -> str:
    """An annotation as written, without the quotes that put off its evaluation."""
    return node.value if isinstance(node, ast.Constant) and node.value else ast.unparse(node)


def _arguments(args: ast.arguments) -> list[str]:
    """The arguments one by one, as they would be written."""

    def written(arg: ast.arg, default: ast.expr | None = None, stars: str = "") -> str:
        told = f": {_type(arg.annotation)}" if arg.annotation else ""
        gap = " = " if told else "="
        return stars + arg.arg + told + (gap + ast.unparse(default) if default else "")

    plain = args.posonlyargs + args.args
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    out = [written(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if args.posonlyargs:
        out.insert(len(args.posonlyargs), "/")
    if args.vararg:
        out.append(written(args.vararg, stars="*"))
    elif args.kwonlyargs:
        out.append("*")
    out += [written(a, d) for a, d in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    if args.kwarg:
        out.append(written(args.kwarg, stars="**"))
    return out


def _name(decorator: ast.expr) -> str:
    """The last part of a decorator's name."""
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


def docstring(node: ast.Module | ast.ClassDef | Function, where: str) -> str:
    """The docstring as Markdown: doctests and their output become code blocks."""
    text = ast.get_docstring(node, clean=False)
    if not text or not text.strip():
        raise MissingDocstring(f"{where} has no docstring")
    lines: list[str] = []
    inside = False
    for line in inspect.cleandoc(text).splitlines():
        if line.startswith(">>>") and not inside:
            inside = True
            lines += ["```pycon"]
        elif inside and not line.strip():
            inside = False
            lines += ["```"]
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)


def _code(text: str) -> str:
    return f"```python\n{text}\n```"


def _constants(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Each constant of the module, as written, with the string that follows it."""
    out = {}
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        target = node.targets[0] if isinstance(node, ast.Assign) else node.target
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = after.value.value if told and isinstance(after.value.value, str) else ""
        if isinstance(target, ast.Name):
            out[target.id] = (f"{target.id} = {ast.unparse(node.value)}", inspect.cleandoc(text))
    return out


def _of_class(node: ast.ClassDef, where: str) -> list[str]:
    """A class: its fields where it is a dataclass or a tuple, then its public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    fields = [
        f"{ast.unparse(item.target)}: {_type(item.annotation)}"
        + (f" = {ast.unparse(item.value)}" if item.value else "")
        for item in node.body
        if isinstance(item, ast.AnnAssign) and not ast.unparse(item.target).startswith("_")
    ]
    head = f"class {node.name}" + (f"({bases})" if bases else "")
    out = [_code("\n    ".join([head + (":" if fields else ""), *fields]))]
    out.append(docstring(node, where))
    for item in node.body:
        if not isinstance(item, Function) or item.name.startswith("_"):
            continue
        if any(_name(d) in ("property", "cached_property") for d in item.decorator_list):
            result = f": {_type(item.returns)}" if item.returns else ""
            shown = f"{node.name}.{item.name}{result}"
        else:
            shown = f"{node.name}.{signature(item, method=True)}"
        out += [_code(shown), docstring(item, f"{where}.{item.name}")]
    return out


def module_page(source: str, module: str) -> str:
    """One module as Markdown, from its source; MissingDocstring where a public name has none."""
    tree = ast.parse(source)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | Function)}
    constants = _constants(tree)
    borrowed = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == module.split(".")[0]
        for alias in node.names
    }
    out = [f"## `{module}`", docstring(tree, module)]
    for name in public_names(tree):
        where = f"{module}.{name}"
        out.append(f"### `{name}`")
        if name in constants:
            shown, text = constants[name]
            if not text:
                raise MissingDocstring(f"{where} has no docstring on the line after it")
            out += [_code(shown), text]
            continue
        if name in borrowed:
            out.append(f"The same as in `{borrowed[name]}`.")
            continue
        if name not in defined:
            raise MissingDocstring(f"{where} is in __all__ but the module does not define it")
        node = defined[name]
        if isinstance(node, ast.ClassDef):
            out += _of_class(node, where)
        else:
            out += [_code(signature(node)), docstring(node, where)]
    return "\n\n".join(out)


def package_page(folder: Path) -> str:
    """Every module of the package, in the order of the package's `__all__`, then by name."""
    order = public_names(ast.parse((folder / "__init__.py").read_text(encoding="utf8")))
    found = {path.stem: path for path in folder.glob("*.py") if not path.name.startswith("_")}
    names = [n for n in order if n in found] + sorted(set(found) - set(order))
    return "\n\n".join(
        module_page(found[name].read_text(encoding="utf8"), f"{folder.name}.{name}")
        for name in names
    )


def fill(app, docname: str, source: list[str]) -> None:
    """Put the package's page where the mark stands; a warning, which fails the build, else."""
    if docname != "book/helpers" or MARK not in source[0]:
        return
    from sphinx.util import logging

    folder = Path(app.srcdir) / "helpers"
    for path in sorted(folder.glob("*.py")):
        app.env.note_dependency(str(path))
    try:
        page = package_page(folder)
    except (MissingDocstring, SyntaxError) as error:
        logging.getLogger(__name__).warning("helpers: %s", error, location=docname)
        page = ""
    source[0] = source[0].replace(MARK, page)


def setup(app) -> dict[str, bool]:
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
