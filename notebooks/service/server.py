"""Connections and signals: uvicorn, with a clock for each connection, and an end that is clean."""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.app import Logged, busy, create, log, refused
from service.limits import Limits
from service.model import Model, Refusal, StartError


class Lines(logging.Formatter):
    """One line of JSON a record. `json.dumps` escapes line breaks: nobody can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        said = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        trace = {"trace": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps({"time": moment, "level": record.levelname.lower(), **said, **trace})


async def full(scope: Scope, receive: Receive, send: Send) -> None:
    """The app of a connection that is one too many."""
    await refused(busy(), scope["state"]["request"])(scope, receive, send)


def protocol(limits: Limits) -> type[H11Protocol]:
    """uvicorn's HTTP/1.1, in which one clock or another runs for every connection.

    uvicorn alone waits for ever for a request's first lines, and for a client that never reads.
    """

    class Guarded(H11Protocol):
        clock: asyncio.TimerHandle | None = None
        over = False  # all is said: what still comes is thrown away

        def wind(self, seconds: float) -> None:
            """Start the clock anew; nothing that the client sends does so."""
            if self.clock:
                self.clock.cancel()
            self.clock = self.loop.call_later(seconds, self.too_slow)

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.wind(limits.head_seconds)
            if len(self.connections) > 2 * limits.connections:
                transport.abort()
            elif len(self.connections) > limits.connections:
                self.app = Logged(full)  # type: ignore[assignment]

        def connection_lost(self, exc: Exception | None) -> None:
            if self.clock:
                self.clock.cancel()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.over:
                return
            super().data_received(data)
            # The next requests, sent before this one has its answer: uvicorn keeps all that comes.
            if len(self.conn.trailing_data[0]) > limits.body_bytes:
                self.transport.abort()

        def handle_events(self) -> None:
            before = self.cycle
            super().handle_events()
            if self.cycle is not before:  # a request began
                self.wind(limits.body_seconds + limits.end_seconds)

        def on_response_complete(self) -> None:
            self.wind(limits.head_seconds)  # for what is left of its body, or the next request
            super().on_response_complete()

        def too_slow(self) -> None:
            if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
                words = f"The request's head was not complete after {limits.head_seconds:g} s."
                self.say(Refusal(408, words))
            else:
                self.transport.abort()  # not `close`, which waits until the client has read

        def send_400_response(self, msg: str) -> None:
            self.say(Refusal(400, "This is no HTTP/1.1, or its head is too long."))

        def say(self, refusal: Refusal) -> None:
            """Answer what never became a request, in the shape that every error has."""
            log.info({"request": "", "event": "no request", "status": refusal.status})
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                return self.transport.abort()
            body = refused(refusal, "").body
            headers = [("content-type", "application/json"), ("connection", "close")]
            headers += [("content-length", str(len(body)))]
            head = h11.Response(status_code=refusal.status, headers=headers)
            for part in (head, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(part) or b"")
            self.transport.write_eof()  # to close, with bytes unread, would take the answer back
            self.over = True
            return self.wind(limits.head_seconds)

    return Guarded


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there."""
    family, kind, protocol_number, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )[0]
    # asyncio sends at once only if the protocol is named: else an answer waits 40 ms for an ACK
    listening = socket.socket(family, kind, protocol_number)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen()
    except OSError:
        listening.close()
        raise
    return listening


def serve(app: ASGIApp, host: str, port: int, limits: Limits) -> None:
    """Serve until SIGTERM or SIGINT; then finish what has begun, and return."""
    listening = listen(host, port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol(limits),
            loop="asyncio",
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=limits.connections,
            timeout_keep_alive=int(limits.head_seconds) + 1,
            timeout_graceful_shutdown=limits.end_seconds,
        )
    )

    def end(*_: Any) -> None:
        server.should_exit = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)  # uvicorn raises the signal again at the end: it must not kill
    log.info({"event": "listening", "port": listening.getsockname()[1], "pid": os.getpid()})
    server.run([listening])
    log.info({"event": "ended"})


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the status with which the process ends."""
    parser = argparse.ArgumentParser("python -m service", description="Predict digits over HTTP.")
    parser.add_argument("model", type=Path, help="an ONNX file; its card lies beside it, as .json")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    parser.add_argument("--tied", action="store_true", help="end when the standard input ends")
    for field in dataclasses.fields(Limits):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    given = vars(parser.parse_args(words))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    log.setLevel(logging.INFO)
    if given["tied"]:
        threading.Thread(target=_until_input_ends, daemon=True).start()
    try:
        limits = Limits(**{field.name: given[field.name] for field in dataclasses.fields(Limits)})
        serve(create(Model(given["model"]), limits), given["host"], given["port"], limits)
    except (StartError, ValueError, OSError) as error:
        print(f"The service doesn't start. {error}", file=sys.stderr)
        return 2
    return 0


def _until_input_ends() -> None:
    """Whoever started this process holds the other end: it ends with him, however he ends."""
    while os.read(0, 1024):  # not sys.stdin, whose lock Python needs to end
        pass
    os.kill(os.getpid(), signal.SIGTERM)
