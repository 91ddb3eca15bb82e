"""Checkpoints that a crash can't spoil: written beside, then renamed; read only if complete."""

import hashlib
import io
import os
import signal
from pathlib import Path
from typing import Any

KEPT = 2  # checkpoints that stay: the newest, and the one before it


class CheckpointError(Exception):
    """A checkpoint that can't be used; the message is a sentence for the reader."""


def save(folder: Path, step: int, state: dict[str, Any], crash: bool = False) -> Path:
    """Store `state` as the checkpoint of `step`, completely or not at all.

    With `crash` this process kills itself half-way through: the tests ask for it.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state | {"step": step}, buffer)
    content = buffer.getvalue()
    content = hashlib.sha256(content).digest() + content
    path = folder / f"step{step:08}.ckpt"
    draft = path.with_suffix(".part")
    with draft.open("wb") as file:
        file.write(content[: len(content) // 2])
        if crash:
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write(content[len(content) // 2 :])
        file.flush()
        os.fsync(file.fileno())  # on the disk before it gets its name
    os.replace(draft, path)  # the name changes in one instant, or not
    if os.name == "posix":  # and the folder, in which the new name stands
        entry = os.open(folder, os.O_RDONLY)
        os.fsync(entry)
        os.close(entry)
    for old in sorted(folder.glob("step*.ckpt"))[:-KEPT]:
        old.unlink()
    return path


def load(path: Path) -> dict[str, Any]:
    """The state that a file holds, if it is exactly what `save` wrote."""
    import torch

    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        raise CheckpointError(f"{path.name} is damaged or incomplete: delete it.")
    return torch.load(io.BytesIO(content[32:]), weights_only=True)


def newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest checkpoint that is whole, or None where there is none."""
    for path in sorted(folder.glob("step*.ckpt"), reverse=True):
        try:
            return load(path)
        except CheckpointError:
            continue  # the one before it is as good, only older
    return None
