"""Evaluates each expression that it is given, and notes what became of it. Nobody imports it."""

import json
import sys
from pathlib import Path


def tell(expressions: list[str]) -> list[list[str]]:
    """For each: the expression, "opened" or the error's name, and what the surprise wrote."""
    scope, found, note = {}, [], Path("note.txt")
    for name in ("pickle", "torch", "keras"):
        if any(f"{name}." in expression for expression in expressions):
            scope[name] = __import__(name)
    if any("parcels" in expression for expression in expressions):
        scope["parcels"] = __import__("safety.parcels").parcels
    for expression in expressions:
        note.unlink(missing_ok=True)
        try:
            eval(expression, scope)
            happened = "opened"
        except Exception as error:
            happened = type(error).__name__
        found.append([expression, happened, note.read_text() if note.exists() else ""])
    return found


if __name__ == "__main__":
    Path("found.json").write_text(json.dumps(tell(sys.argv[1:])))
