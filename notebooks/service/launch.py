"""Start the service in a process of its own, ask it, and see that it ends."""

import contextlib
import http.client
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.limits import Limits

HERE = Path(__file__).resolve().parent


class ServiceError(Exception):
    """The service didn't start, or didn't end as it should; the message is a sentence."""


def show(*parts: Any) -> Any:
    """The source of functions and classes of this package, as a cell's output."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n".join(map(inspect.getsource, parts)) + "```")


@dataclass
class Answer:
    """What the service said: status, JSON, headers (names in lower case), milliseconds."""

    status: int
    json: Any
    headers: dict[str, str] = field(repr=False)
    ms: float = field(repr=False)


@dataclass
class Service:
    """A service that runs, or ran."""

    port: int
    process: subprocess.Popen = field(repr=False)
    file: Path = field(repr=False)
    limits: Limits = field(repr=False)
    lines: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> list[dict[str, Any]]:
        """Its log up to now (all of it, once it has ended): a dictionary a line."""
        return self.lines or _lines(self.file)

    def end(self, patience: float = 20) -> int:
        """Ask it to end (SIGTERM), wait, and give its exit status; kill it if it doesn't."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            words = f"The service had not ended {patience:g} s after SIGTERM."
            raise ServiceError(words) from None

    def memory(self) -> int | None:
        """Bytes of its memory that are in RAM now, where the system tells."""
        with contextlib.suppress(OSError):
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError, ValueError):  # macOS has no /proc
            words = ["ps", "-o", "rss=", "-p", str(self.process.pid)]
            return 1024 * int(subprocess.run(words, capture_output=True, text=True).stdout)
        return None

    def files(self) -> int | None:
        """How many files and connections it has open, where the system tells."""
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self.process.pid}/fd"))
        return None


@contextlib.contextmanager
def running(
    model: Path | str, fault: str | None = None, patience: float = 60, **limits: Any
) -> Iterator[Service]:
    """The service of a model file, on a free port, from when it is ready; ended at the end.

    `limits` are those of `service.limits.Limits`; a `fault` is one of `service.faults`. However the
    block is left, the process is gone after it. If it was left well, a service that has ended badly
    is a `ServiceError`.
    """
    chosen = Limits(**limits)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
    script = ["service.faults", fault] if fault else ["service"]
    words = [sys.executable, "-m", *script, str(model), "--port=0", "--tied", *options]
    path = [str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    with tempfile.TemporaryDirectory(prefix="service_") as folder:
        log, errors = Path(folder, "log"), Path(folder, "errors")
        with log.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,  # ends with this process, and so does the service
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,  # Ctrl-C is for this process, which then ends the other
            )
        web = Service(0, process, log, chosen)
        try:
            web.port = _port(web, errors, patience)
            yield web
            if status := web.end():
                raise ServiceError(f"The service ended with status {status}: {_last(errors, log)}")
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(20)
                process.kill()
                process.wait()
            process.stdin.close()
            web.lines = _lines(log)


def _port(web: Service, errors: Path, patience: float) -> int:
    """Wait until it listens."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        for line in _lines(web.file):
            if line.get("event") == "listening":
                return line["port"]
        if web.process.poll() is not None:
            raise ServiceError(_last(errors, web.file))
        time.sleep(0.02)
    raise ServiceError(f"The service wasn't ready after {patience:g} s.")


def _last(*files: Path) -> str:
    said = [line for file in files for line in file.read_text(errors="replace").splitlines()[-1:]]
    return said[0] if said else "It said nothing."


def _lines(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(errors="replace") if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]


def ask(
    web: Service,
    path: str = "/health",
    body: Any = None,
    kind: str | None = None,
    method: str | None = None,
    timeout: float = 30,
) -> Answer:
    """Send one request, on a connection of its own, and give the answer.

    A body of bytes goes as it is, any other as JSON; `kind` is the content type, if it isn't that.
    With a body the method is POST, without GET.
    """
    usual = "application/octet-stream" if isinstance(body, bytes) else "application/json"
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": kind or usual}
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=timeout)
    with contextlib.closing(connection):
        start = time.perf_counter()
        connection.request(method or ("GET" if body is None else "POST"), path, content, headers)
        answer = connection.getresponse()
        text = answer.read()
        took = 1000 * (time.perf_counter() - start)
    names = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, json.loads(text) if text else None, names, took)


def talk(web: Service, request: str, timeout: float = 30) -> str:
    """Send a request that was written by hand, and give all that comes back until the end."""
    with socket.create_connection(("127.0.0.1", web.port), timeout) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode())
        parts = iter(lambda: connection.recv(4096), b"")
        return b"".join(parts).decode().replace("\r\n", "\n")
