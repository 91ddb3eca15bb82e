"""The service with one fault, to see that the load finds it: `python -m service.faults leak ...`."""

import os
import sys
import time
from typing import Any

from service import server
from service.model import Model

answer, kept = Model.answer, []


def slow(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Right, but it takes a quarter of a second."""
    time.sleep(0.25)
    return answer(model, kind, body)


def leak(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Right, but 784 float32 of every request are never given back."""
    kept.append(b"\1" * (4 * 784))
    return answer(model, kind, body)


def swap(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Two requests get each other's answers, now and then."""
    mine = answer(model, kind, body)
    kept.append(mine)
    return kept[-2] if len(kept) % 50 == 0 else mine


def fail(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """It raises what nobody expected."""
    raise RuntimeError("a secret that only the log may have")


def crash(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """The process is gone, now and then, as after an error in C code."""
    kept.append(body)
    return answer(model, kind, body) if len(kept) < 50 else os._exit(139)


if __name__ == "__main__":
    faults = {fault.__name__: fault for fault in (slow, leak, swap, fail, crash)}
    Model.answer = faults[sys.argv[1]]  # type: ignore[method-assign]
    sys.exit(server.main(sys.argv[2:]))
