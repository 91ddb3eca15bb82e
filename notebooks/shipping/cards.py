"""Model cards: what a file is, what it was made from, and its digest."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from shipping.needs import ShippingError


def digest(content: bytes | str | Any) -> str:
    """SHA-256 of bytes, of text, or of an array's numbers (without its shape and type)."""
    if isinstance(content, str):
        content = content.encode()
    elif hasattr(content, "tobytes"):
        content = content.tobytes()
    return hashlib.sha256(content).hexdigest()


def card(file: str | Path, *, name: str, version: str, **facts: Any) -> dict[str, Any]:
    """Write the card of a model file beside it, as .json, and return it.

    `facts` are what else is worth knowing, in what JSON knows: text, numbers, lists, dictionaries.
    The digest and the size are the file's own. The card is written as a whole or not at all.
    """
    file = Path(file)
    for key, value in (("name", name), ("version", version)):
        if not isinstance(value, str) or not value.strip():
            raise ShippingError(f"A card needs a {key}, as text, not {value!r}.")
    if taken := sorted({"file", "bytes", "sha256"} & set(facts)):
        raise ShippingError(f"{taken[0]!r} is taken from the file itself: leave it out.")
    content = _read(file)
    found = {"name": name, "version": version, **facts}
    found |= {"file": file.name, "bytes": len(content), "sha256": digest(content)}
    try:
        text = json.dumps(found, indent=1, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ShippingError(f"A card holds what JSON knows: {error}.") from None
    draft = _beside(file).with_suffix(".json.part")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        os.replace(draft, _beside(file))
    finally:
        draft.unlink(missing_ok=True)
    return json.loads(text)


def check(file: str | Path) -> dict[str, Any]:
    """The card of a model file, if the file is the one that it tells of; or a `ShippingError`."""
    file = Path(file)
    path = _beside(file)
    try:
        found = json.loads(_read(path))
        told = found["sha256"]
        assert isinstance(told, str)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise ShippingError(f"{path.name} is no model card: it needs a sha256.") from None
    real = digest(_read(file))
    if real != told:
        raise ShippingError(
            f"{file.name} has the digest {real[:12]}…, but its card says {told[:12]}…: "
            "it isn't the file that was described."
        )
    return found


def _beside(file: Path) -> Path:
    """Where the card of a file lies."""
    if file.suffix == ".json":
        raise ShippingError(f"{file.name} would be its own card: give the model's file.")
    return file.with_suffix(".json")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ShippingError(f"{path.name} can't be read: {error.strerror}.") from None
