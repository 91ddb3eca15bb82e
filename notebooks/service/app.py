"""The app: what happens to a request between its first byte and its answer.

A body is read only so far and only so long; only so many requests wait for the model; every request
has an id, one line in the log, and an answer in JSON, also where something went wrong.
"""

import asyncio
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.limits import Limits
from service.model import JSON, RAW, Model, Refusal

log = logging.getLogger("service")


def refused(refusal: Refusal, request_id: str) -> JSONResponse:
    """The one shape that every error has."""
    content = {"status": refusal.status, "error": refusal.words, "request": request_id}
    return JSONResponse(content, refusal.status, refusal.headers)


def busy() -> Refusal:
    """There is no room now, and there will be soon."""
    return Refusal(503, "Too many requests at once: try again in a second.", {"Retry-After": "1"})


def kind_of(request: Request) -> str:
    """The body's type, one of the two that are understood."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in (JSON, RAW) or "content-encoding" in request.headers:
        raise Refusal(415, f"Send {JSON}, or {RAW}, and don't compress it.")
    return kind


async def body_of(request: Request, limits: Limits) -> bytes:
    """The body, read no further than the limit of bytes and no longer than that of seconds."""
    large = Refusal(413, f"A body may have {limits.body_bytes:,} bytes.")
    if int(request.headers.get("content-length", 0)) > limits.body_bytes:
        raise large  # it says so itself: nothing is read
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                body += chunk  # what the header promised is not believed: we count
                if len(body) > limits.body_bytes:
                    raise large
    except TimeoutError:
        raise Refusal(408, f"The body was not complete after {limits.body_seconds:g} s.") from None
    except ClientDisconnect:
        raise Refusal(499, "The client went away.") from None  # nobody reads this but the log
    return bytes(body)


class Gate:
    """One thread for the model, and few places in the queue before it."""

    def __init__(self, places: int) -> None:
        self.places, self.taken = places, 0
        self.thread = ThreadPoolExecutor(1, "model")

    async def run(self, function: Any, *args: Any) -> Any:
        """The function's result, from the model's thread; a `Refusal` where no place is free."""
        if self.taken >= self.places:
            raise busy()
        self.taken += 1
        work = self.thread.submit(function, *args)
        try:
            return await asyncio.wrap_future(work)
        finally:
            self.taken -= 1


class Logged:
    """Around the app: an id for each request, one line in the log, and never a bare error."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start, status = time.perf_counter(), 0
        request_id = scope["state"]["request"] = secrets.token_hex(6)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            log.exception({"request": request_id, "event": "failed"})  # the trace stays here
        except asyncio.CancelledError:  # the service ends, and its patience has ended before
            if not status:
                ending = Refusal(503, "The service ends: try again later.", {"Retry-After": "5"})
                await refused(ending, request_id)(scope, receive, noting)
        finally:
            took = round(1000 * (time.perf_counter() - start), 2)
            what = {"method": scope["method"][:10], "path": scope["path"][:80]}
            log.info({"request": request_id, **what, "status": status, "ms": took})


def create(model: Model, limits: Limits) -> ASGIApp:
    """The app that answers for a model."""
    off = dict.fromkeys(["tracing", "metrics", "logs", "operation_spans", "auto_configure"], False)
    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, telemetry=off)
    web.router.redirect_slashes = False
    gate, about = Gate(limits.waiting), {key: model.card[key] for key in ("name", "version")}

    @web.exception_handler(Refusal)
    async def in_words(request: Request, refusal: Refusal) -> JSONResponse:
        return refused(refusal, request.state.request)

    @web.exception_handler(HTTPException)
    async def by_router(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        words = {
            404: "There is only /predict, /health and /ready here.",
            405: f"Here only the method {headers.get('Allow')} is understood.",
        }.get(error.status_code, "The request isn't understood.")
        return refused(Refusal(error.status_code, words, headers), request.state.request)

    @web.exception_handler(Exception)
    async def our_fault(request: Request, error: Exception) -> JSONResponse:
        words = "Something failed on our side. The log has it under this id."
        return refused(Refusal(500, words), request.state.request)

    @web.get("/health")
    async def health() -> dict[str, Any]:
        return {"live": True, **about, "sha256": model.card["sha256"], "waiting": gate.taken}

    @web.get("/ready")
    async def ready() -> dict[str, bool]:
        if gate.taken >= gate.places:
            raise busy()
        return {"ready": True}

    @web.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        kind = kind_of(request)
        body = await body_of(request, limits)
        found = await gate.run(model.answer, kind, body)
        return {**found, "model": about, "request": request.state.request}

    return Logged(web)
