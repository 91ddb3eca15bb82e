"""A search that survives being killed: its study lies in a file, and goes on from there.

`study` opens that file, marks what was cut short, and goes on; `child` runs a search in a process
of its own, which can be killed in the middle of a trial; `worker` is what runs there.
"""

import inspect
from typing import Any

from searches.child import kill_at, prepare
from searches.study import (
    SearchError,
    done,
    go_on,
    halved,
    objective,
    open_study,
    owned,
    paid,
    recover,
    repair,
    sampler,
    setting_of,
    suggest,
)

__all__ = [
    "SearchError",
    "done",
    "go_on",
    "halved",
    "kill_at",
    "objective",
    "open_study",
    "owned",
    "paid",
    "prepare",
    "recover",
    "repair",
    "sampler",
    "setting_of",
    "show",
    "suggest",
]


def show(*parts: Any) -> Any:
    """The source of functions of this package, as a cell's output."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, parts)) + "```")
