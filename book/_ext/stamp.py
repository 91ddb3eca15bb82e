"""Say at the foot of each chapter what it last ran on, from the notebook's own metadata."""

import json
from pathlib import Path

NAMES = {"python": "Python", "keras": "Keras", "torch": "PyTorch", "numpy": "NumPy"}
DEVICES = {"cpu": "the CPU", "cuda": "an NVIDIA GPU", "mps": "an Apple GPU"}


def stamp_text(stamp: dict) -> str:
    """The stamp in words. KeyError, TypeError or ValueError where a part is missing or no number.

    >>> versions = {"python": "3.11.7", "keras": "3.15.1", "torch": "2.13.0", "numpy": "2.4.6"}
    >>> stamp_text({"digest": "1a2b3c4d5e", "versions": versions, "device": "cpu", "seconds": 12.3})
    'Last run with Python 3.11.7, Keras 3.15.1, PyTorch 2.13.0, NumPy 2.4.6 on the CPU in 12 s.'
    """
    versions = ", ".join(f"{NAMES[key]} {stamp['versions'][key].split('+')[0]}" for key in NAMES)
    device = DEVICES.get(stamp["device"], stamp["device"])
    seconds = float(stamp["seconds"])
    took = "less than a second" if seconds < 0.5 else f"{seconds:.0f} s"
    return f"Last run with {versions} on {device} in {took}."


def add_stamp(app, doctree) -> None:
    """Put the stamp at the end of a chapter; warn, which fails the build, where there is none."""
    from docutils import nodes
    from sphinx.util import logging

    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    stamp = json.loads(path.read_text(encoding="utf8"))["metadata"].get("stamp")
    try:
        text, digest = stamp_text(stamp), stamp["digest"][:8]
    except (KeyError, TypeError, ValueError, AttributeError):
        logging.getLogger(__name__).warning(
            "this chapter has no whole stamp: run `make notebooks`", location=app.env.docname
        )
        return
    line = nodes.paragraph("", text + " Digest ", nodes.literal("", digest), nodes.Text("."))
    foot = nodes.container("", line, classes=["stamp"])
    next(doctree.findall(nodes.section)).append(foot)


def setup(app) -> dict[str, bool]:
    app.connect("doctree-read", add_stamp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
