"""A bounded load of good and bad requests, in a seeded order, that checks every answer."""

import asyncio
import collections
import contextlib
import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.launch import Answer, Service, ServiceError, ask
from service.limits import Limits

JSON, RAW = "application/json", "application/octet-stream"
PICTURE = 784 * 4  # bytes of one picture in float32: what the smallest leak keeps of a request


@dataclass(frozen=True)
class Case:
    """One kind of request: what is sent, piece by piece, and what must come back."""

    pieces: tuple[bytes, ...]
    status: int | None = None  # None: the client doesn't wait for an answer
    words: str = ""  # that stand in the error
    pause: float = 0.0  # seconds before each piece but the first
    rows: tuple[int, ...] = ()  # the pictures in it, where the answer is a prediction
    ends: bool = False  # the connection can't be used again


def request(
    body: bytes = b"",
    kind: str = JSON,
    path: str = "/predict",
    method: str = "POST",
    length: int | None = None,
    chunked: bool = False,
    more: str = "",
) -> bytes:
    """A request as it goes over the wire; `length` says another length than the true one."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{more}"
    if not chunked:
        size = len(body) if length is None else length
        return f"{head}Content-Length: {size}\r\n\r\n".encode() + body
    parts = [body[i : i + 8192] for i in range(0, len(body), 8192)] + [b""]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + coded


def bodies(picture: np.ndarray) -> dict[str, tuple[bytes, str, int, str]]:
    """Malformed bodies by name: body, content type, status, words."""
    rows = (picture / 255).round(3).tolist()

    def spoiled(value: Any) -> bytes:
        wrong = [[list(row) for row in rows]]
        wrong[0][9][9] = value
        return json.dumps({"pictures": wrong}).encode()

    good = json.dumps({"pictures": [rows]}).encode()
    return {
        "empty body": (b"", JSON, 400, "no JSON"),
        "broken JSON": (good[:-2], JSON, 400, "no JSON"),
        "not UTF-8": (b'{"pictures": "\xff"}', JSON, 400, "no JSON"),
        "nested too deep": (b"[" * 100_000, JSON, 400, "recursion"),
        "another key": (good.replace(b"pictures", b"images"), JSON, 422, "Field required"),
        "a key too many": (good[:-1] + b', "top": 3}', JSON, 422, "top: Extra inputs"),
        "a list": (b"[1, 2]", JSON, 422, "The body"),
        "no picture": (b'{"pictures": []}', JSON, 422, "at least 1"),
        "27 rows": (json.dumps({"pictures": [rows[1:]]}).encode(), JSON, 422, "at least 28"),
        "nine pictures": (json.dumps({"pictures": [[[0] * 28] * 28] * 9}).encode(), JSON, 422, "8"),
        "NaN": (spoiled(float("nan")), JSON, 422, "[0][9][9]: Input should be a finite"),
        "Infinity": (spoiled(float("inf")), JSON, 422, "finite"),
        "text for a number": (spoiled("0.5"), JSON, 422, "valid number"),
        "null": (spoiled(None), JSON, 422, "valid number"),
        "true": (spoiled(True), JSON, 422, "valid number"),
        "0 to 255": (spoiled(254), JSON, 422, "less than or equal to 1"),
        "below 0": (spoiled(-0.1), JSON, 422, "greater than or equal to 0"),
        "783 bytes": (bytes(783), RAW, 422, "not 783 bytes"),
        "no byte": (b"", RAW, 422, "not 0 bytes"),
        "nine, raw": (bytes(9 * 784), RAW, 422, "1 to 8"),
        "a form": (b"digit=7", "application/x-www-form-urlencoded", 415, "Send application/json"),
        "no type": (good, "", 415, "Send application/json"),
    }


def good(pictures: np.ndarray, start: int) -> dict[str, Case]:
    """The kinds of request that get a prediction, with pictures from number `start` on."""
    rows = tuple((start + i) % len(pictures) for i in range(8))
    ink = pictures[list(rows)].astype("float32") / np.float32(255)
    raw = pictures[list(rows)].tobytes()
    one, three = (json.dumps({"pictures": ink[:n].tolist()}).encode() for n in (1, 3))
    return {
        "one, JSON": Case((request(one),), 200, rows=rows[:1]),
        "three, JSON": Case((request(three),), 200, rows=rows[:3]),
        "one, chunked": Case((request(one, chunked=True),), 200, rows=rows[:1]),
        "one, raw": Case((request(raw[:784], RAW),), 200, rows=rows[:1]),
        "eight, raw": Case((request(raw, RAW),), 200, rows=rows),
    }


def bad(picture: np.ndarray, limits: Limits) -> dict[str, Case]:
    """All other kinds, by name."""
    found = {
        name: Case((request(body, kind),), status, words)
        for name, (body, kind, status, words) in bodies(picture).items()
    }
    whole, large = request(picture.tobytes(), RAW), b" " * (limits.body_bytes + 40_000)
    most, slow = f"{limits.body_bytes:,}", limits.body_seconds / 4
    drops = tuple(whole[i : i + 10] for i in range(len(whole) - 200, len(whole) - 100, 10))
    return found | {
        "compressed": Case((request(more="Content-Encoding: gzip\r\n"),), 415, "don't compress"),
        "unknown path": Case((request(path="/predictt"),), 404, "only /predict"),
        "wrong method": Case((request(method="PUT"),), 405, "method"),
        "no HTTP": Case((b"\x16\x03\x01 hello\r\n\r\n",), 400, "no HTTP", ends=True),
        "longer than it says": Case((request(b"{" * 99, length=9),), 400, "no JSON", ends=True),
        "too large": Case((request(large),), 413, most),
        "too large, chunked": Case((request(large, chunked=True),), 413, most),
        "announced only": Case((request(length=10**12),), 413, most, ends=True),
        "a long head": Case((b"GET /" + b"a" * 90_000,), 400, "too long", ends=True),
        "shorter than it says": Case((request(b"{", length=9),), 408, "not complete", ends=True),
        "drop by drop": Case((whole[:-200], *drops), 408, "not complete", slow, ends=True),
        "head, drop by drop": Case(
            tuple(whole[i : i + 4] for i in range(0, 40, 4)),
            408,
            "head was not complete",
            limits.head_seconds / 4,
            ends=True,
        ),
        "gone in mid-body": Case((whole[:-300],), ends=True),
        "gone after sending": Case((whole,), ends=True),
    }


# What a load is made of, in parts of a hundred. What belongs to no other group is malformed.
SHARES = {"valid": 70, "malformed": 20, "oversized": 4, "slow": 1, "interrupted": 5}
OVERSIZED = {"too large", "too large, chunked", "announced only", "a long head"}
SLOW = {"shorter than it says", "drop by drop", "head, drop by drop"}


def group(name: str, case: Case) -> str:
    """The group that a kind of request belongs to."""
    if case.status in (None, 200):
        return "valid" if case.status else "interrupted"
    return "oversized" if name in OVERSIZED else "slow" if name in SLOW else "malformed"


def kinds(groups: str | None = None) -> list[str]:
    """The names of all kinds of request, or of a group's."""
    picture = np.zeros((1, 28, 28), "uint8")
    cases = good(picture, 0) | bad(picture[0], Limits())
    return [name for name, case in cases.items() if groups in (None, group(name, case))]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives, in an event loop of its own: a notebook's cells run within another."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer on a connection."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def exchange(port: int, case: Case, link: Link | None) -> tuple[Answer | None, Link | None]:
    """Send one request, by an open connection or a new one; what came, if one waits for it."""
    reader, writer = link or await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.create_task(answer_of(reader))
    try:
        start = time.perf_counter()
        for i, piece in enumerate(case.pieces):
            if i and (await asyncio.wait([reading], timeout=case.pause))[0]:
                break  # it has answered already
            writer.write(piece)
        if case.status is None:
            await writer.drain()
            return None, None
        status, headers, text = await asyncio.wait_for(reading, 30)
        answer = Answer(status, json.loads(text), headers, 1000 * (time.perf_counter() - start))
        keep = not case.ends and headers.get("connection") != "close"
        return answer, (reader, writer) if keep else None
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError, EOFError):
            await reading
        if not reading.done() or reading.cancelled() or case.ends or reading.exception():
            writer.close()


def provoke(web: Service, name: str, picture: np.ndarray | None = None) -> Answer | None:
    """Send one request of a kind, by its name; the answer, or None where nobody waits for one."""
    picture = np.zeros((28, 28), "uint8") if picture is None else picture
    case = (good(picture[None], 0) | bad(picture, web.limits))[name]

    async def alone() -> Answer | None:
        answer, link = await exchange(web.port, case, None)
        if link:
            link[1].close()
        return answer

    return run(alone())


def burst(web: Service, picture: np.ndarray, requests: int) -> list[Answer]:
    """Send the same picture so many times at once; the answers, in the order in which they came."""
    case = good(picture[None], 0)["one, raw"]

    async def together() -> list[Answer]:
        links = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(requests)]
        found = await asyncio.gather(*(exchange(web.port, case, link) for link in links))
        for _, writer in links:
            writer.close()
        return sorted((answer for answer, _ in found if answer), key=lambda answer: answer.ms)

    return run(together())


@dataclass
class Figures:
    """What a load found."""

    counts: collections.Counter[tuple[str, int | None]]  # (group, status): how many
    wrong: list[str]  # a sentence for each answer that wasn't as it must be
    ms: list[float]  # how long each valid request took
    memory: list[int | None]  # bytes of the service after each of the six parts
    files: list[int | None]  # what it had open then
    seconds: float

    def percentile(self, percent: int) -> float:
        """Milliseconds that so many of a hundred valid requests stayed below."""
        return statistics.quantiles(self.ms, n=100)[percent - 1] if len(self.ms) > 1 else math.nan

    @property
    def growth(self) -> float | None:
        """Bytes that the service grew by for each valid request, after the first third of the load.

        A leak grows in every part. A process that still warms up does so in one or two: so it is
        the low median of the last four parts.
        """
        if None in self.memory:
            return None
        parts = [after - before for before, after in itertools.pairwise(self.memory[1:])]
        valid = sum(count for (name, _), count in self.counts.items() if name == "valid")
        return statistics.median_low(parts) / (valid / 6)

    def table(self) -> str:
        """How many answers had which status: the same in every run."""
        lines = []
        for name in SHARES:
            by = {str(s or "none"): n for (g, s), n in self.counts.items() if g == name}
            lines.append(f"{name:12}" + "  ".join(f"{s}: {by[s]}" for s in sorted(by)))
        return "\n".join([*lines, f"wrong answers: {len(self.wrong)}"])

    def __str__(self) -> str:
        p50, p99 = self.percentile(50), self.percentile(99)
        speed = f"valid requests: p50 {p50:.1f} ms, p99 {p99:.1f} ms"
        if self.growth is None:
            return f"{self.table()}\n{speed}; memory: not told by this system"
        size = [f"{size / 2**20:.1f}" for size in self.memory]
        return (
            f"{self.table()}\n{speed}; all of {sum(self.counts.values())} in {self.seconds:.1f} s\n"
            f"memory after each part, MiB: {' '.join(size)}; "
            f"{self.growth:+.0f} bytes a valid request; a leaked picture: {PICTURE:,}\n"
            f"open files, connections: {self.files[1]} after a third, {self.files[-1]} at the end"
        )


def verdict(name: str, case: Case, answer: Answer, logits: np.ndarray, tolerance: float) -> str:
    """What is wrong with an answer, in words, or nothing."""
    if answer.status != case.status:
        return f"{name}: {answer.status} for {case.status}, {str(answer.json)[:80]}"
    if "x-request-id" not in answer.headers and case.status == 200:
        return f"{name}: no request id"
    if case.status != 200:
        fields = set(answer.json) == {"status", "error", "request"}
        same = fields and answer.json["status"] == case.status
        return "" if same and case.words in answer.json["error"] else f"{name}: {answer.json}"
    wanted, found = logits[list(case.rows)], np.array(answer.json["logits"])
    same = found.shape == wanted.shape and np.abs(found - wanted).max() <= tolerance
    if same and answer.json["digits"] == wanted.argmax(1).tolist():
        return ""
    return f"{name}: another prediction than the reference"


def load(
    web: Service,
    pictures: np.ndarray,
    logits: np.ndarray,
    requests: int = 1800,
    connections: int = 6,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Figures:
    """Send so many requests of all kinds over so many connections, and check every answer.

    `pictures` (n, 28, 28) uint8, and the `logits` (n, 10) that a reference gave for them. It is
    sent in six parts of the same composition, each in an order of its own, drawn by `seed`.
    """
    draw, pool = random.Random(seed), [good(pictures, 8 * i) for i in range(20)]
    sixth: list[str] = []
    for name, share in SHARES.items():
        count = round(requests / 6 * share / 100)
        sixth += (kinds(name) * count)[:count]
    others = bad(pictures[0], web.limits)
    figures = Figures(collections.Counter(), [], [], [], [], time.perf_counter())

    async def work(left: collections.deque[str]) -> None:
        link: Link | None = None
        while left:
            name = left.popleft()
            case = others[name] if name in others else pool[draw.randrange(20)][name]
            alone = case.ends  # it gets a connection of its own
            if link and group(name, case) == "slow":
                link[1].close()  # the service would close it meanwhile
                link = None
            try:
                answer, kept = await exchange(web.port, case, None if alone else link)
                link = link if alone else kept
            except (OSError, EOFError, TimeoutError) as error:
                link = link if alone else None
                figures.counts[group(name, case), -1] += 1
                figures.wrong.append(f"{name}: no answer ({type(error).__name__})")
                continue
            figures.counts[group(name, case), answer.status if answer else None] += 1
            if answer and (sentence := verdict(name, case, answer, logits, tolerance)):
                figures.wrong.append(sentence)
            if answer and case.status == 200:
                figures.ms.append(answer.ms)
        if link:
            link[1].close()

    async def all_of(names: list[str]) -> None:
        left = collections.deque(draw.sample(names, len(names)))
        await asyncio.gather(*(work(left) for _ in range(connections)))

    for _ in range(6):
        run(all_of(sixth))
        idle(web)
        figures.memory.append(web.memory())
        figures.files.append(web.files())
    figures.seconds = time.perf_counter() - figures.seconds
    return figures


def idle(web: Service, patience: float = 10) -> None:
    """Wait until the service has no request any more, or `ServiceError`."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if web.process.poll() is not None:
            raise ServiceError(f"The service is gone: status {web.process.returncode}.")
        with contextlib.suppress(OSError):
            if not ask(web).json["waiting"]:
                return
        time.sleep(0.02)
    raise ServiceError("Places in the queue are still taken, with nobody there.")
