"""The service with one fault, so that the load has something to find.

`python -m service.faults leak model.onnx`, and so on; or `running(model, fault="leak")`.
"""

import itertools
import os
import sys
import time
from typing import Any

from service import server
from service.model import Model

answer, kept, count = Model.answer, [], itertools.count(1)


def slow(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Right, but it takes half a second."""
    time.sleep(0.5)
    return answer(model, kind, body)


def slower(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Right, but it takes two seconds."""
    time.sleep(2)
    return answer(model, kind, body)


def leak(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Right, but the room of 784 float32 is never given back."""
    kept.append(os.urandom(4 * 784))
    return answer(model, kind, body)


def swap(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """Every fiftieth request gets the answer of the one before it."""
    kept[:] = [*kept[-1:], answer(model, kind, body)]
    return kept[0 if next(count) % 50 == 0 else -1]


def fail(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """It raises what nobody expected."""
    raise RuntimeError("a secret that only the log may have")


def crash(model: Model, kind: str, body: bytes) -> dict[str, Any]:
    """The process is gone at the fiftieth request, as after an error in C code."""
    return os._exit(139) if next(count) == 50 else answer(model, kind, body)


if __name__ == "__main__":
    faults = {fault.__name__: fault for fault in (slow, slower, leak, swap, fail, crash)}
    Model.answer = faults[sys.argv[1]]  # type: ignore[method-assign]
    sys.exit(server.main(sys.argv[2:]))
