"""Open files in a process of its own, in their own folder, and tell what happened there."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


class SafetyError(Exception):
    """The other process could not answer; the message is a sentence for the reader."""


def show(*parts: Any) -> Any:
    """The source of functions and classes of this package, as a cell's output."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, parts)) + "```")


def open_anew(folder: str | Path, *expressions: str, timeout: float = 240) -> list[list[str]]:
    """Evaluate expressions such as `torch.load("a.pt")` in a new process that stands in `folder`.

    For each: the expression, "opened" or the name of the error, and what a surprise in the file
    wrote into note.txt ("" if nothing ran).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SafetyError(f"There is no folder {folder.name!r}: make it, and put the files there.")
    if not expressions:
        raise SafetyError("Give at least one expression to evaluate.")
    path = [str(HERE.parent.parent), str(HERE.parent), os.environ.get("PYTHONPATH")]
    ours = {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "KERAS_BACKEND": "torch",
        "OMP_NUM_THREADS": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | ours
    answer = folder / "found.json"
    answer.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "safety.child", *expressions],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise SafetyError(f"The process was not done after {timeout:g} s, and was ended.") from None
    if done.returncode or not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SafetyError(f"The process ended with code {done.returncode}: {last}")
    found = json.loads(answer.read_text())
    answer.unlink()
    (folder / "note.txt").unlink(missing_ok=True)
    return found
