"""The model: its file and card, checked before anything is served, and what it says of a body."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

SIDE, MOST = 28, 8  # pixels of a side; pictures in one request
JSON, RAW = "application/json", "application/octet-stream"

Ink = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Row = Annotated[list[Ink], Field(min_length=SIDE, max_length=SIDE)]
Picture = Annotated[list[Row], Field(min_length=SIDE, max_length=SIDE)]


class Pictures(BaseModel):
    """What a JSON body must be: nothing is converted, nothing else may stand in it."""

    model_config = ConfigDict(strict=True, extra="forbid")
    pictures: Annotated[list[Picture], Field(min_length=1, max_length=MOST)]


class StartError(Exception):
    """The service must not start; the message is a sentence for who started it."""


class Refusal(Exception):
    """A request that gets no prediction: the status, and words for who sent it."""

    def __init__(self, status: int, words: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(words)
        self.status, self.words, self.headers = status, words, headers or {}


def from_json(body: bytes) -> np.ndarray:
    """(batch, 1, 28, 28) float32 from {"pictures": [...]}, numbers from 0 to 1, or a `Refusal`."""
    try:
        pictures = Pictures.model_validate_json(body).pictures
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            raise Refusal(400, f"The body is no JSON. {first['msg'].partition(': ')[2]}.") from None
        place = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
        more = error.error_count() - 1
        words = f"{place[:40] or 'The body'}: {first['msg']}{f', and {more} more' if more else ''}."
        raise Refusal(422, words) from None
    return np.array(pictures, "float32")[:, None]


def from_bytes(body: bytes) -> np.ndarray:
    """The same from 784 bytes a picture, row by row, 0 for paper and 255 for ink."""
    count, rest = divmod(len(body), SIDE * SIDE)
    if rest or not 0 < count <= MOST:
        size = f"{len(body):,} bytes"
        raise Refusal(422, f"A picture has 784 bytes, a request 1 to {MOST} pictures: not {size}.")
    pixels = np.frombuffer(body, "uint8").reshape(count, 1, SIDE, SIDE)
    return pixels.astype("float32") / np.float32(255)


class Model:
    """A network in an ONNX file that is what its card says."""

    def __init__(self, path: Path) -> None:
        """Read file and card, compare their digests, and try the network once; or `StartError`."""
        import onnxruntime

        content, self.card = _read(path), _card(path.with_suffix(".json"))
        found = hashlib.sha256(content).hexdigest()
        if found != self.card["sha256"]:
            both = f"the digest {found[:12]}…, its card says {self.card['sha256'][:12]}…"
            raise StartError(f"{path.name} has {both}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is raised; our own log has lines of JSON
        try:  # from the bytes that were hashed, not from a file that may have changed since
            cpu = ["CPUExecutionProvider"]
            self.session = onnxruntime.InferenceSession(content, options, providers=cpu)
            logits = self(np.zeros((2, 1, SIDE, SIDE), "float32"))
            if logits.shape != (2, 10) or not np.isfinite(logits).all():
                raise ValueError(f"blank paper gives {logits.shape}, or what is not finite")
        except Exception as error:
            first = str(error).split("\n")[0][:200]
            needs = "'pictures' (batch, 1, 28, 28) and 'logits' (batch, 10), float32"
            raise StartError(f"{path.name} is no network with {needs}: {first}") from None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Logits (batch, 10) of pictures (batch, 1, 28, 28)."""
        return self.session.run(["logits"], {"pictures": x})[0]

    def answer(self, kind: str, body: bytes) -> dict[str, Any]:
        """What a body of this kind shows, for the JSON of the answer, or a `Refusal`."""
        logits = self(from_json(body) if kind == JSON else from_bytes(body))
        return {"digits": logits.argmax(1).tolist(), "logits": logits.tolist()}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StartError(f"{path.name} can't be read: {error.strerror}.") from None


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(_read(path))
        if all(isinstance(card[key], str) for key in ("name", "version", "sha256")):
            return card
    except (ValueError, KeyError, TypeError):
        pass
    raise StartError(f"{path.name} is no model card: it needs name, version and sha256, as text.")
