"""What `make bench` measured, for experiments that take longer than a chapter may.

Each file beside this one holds the results of one benchmark, the machine that it ran on, and a
digest of the code that made it: a test fails where that code has changed since.
"""

import json
from pathlib import Path

__all__ = ["load"]


def load(name: str) -> dict:
    """The record of one benchmark: its `results`, and the `machine` that they come from."""
    path = Path(__file__).with_name(f"{name}.json")
    if not path.is_file():
        raise FileNotFoundError(f"{name} isn't measured yet: run `make bench BENCH={name}`.")
    return json.loads(path.read_text("utf-8"))
