"""The face for looking runs up later: `GET /runs/{id}`, `GET /runs`."""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.api.server import Request
from gateway.api.wire import answer
from gateway.clock import Clock
from gateway.problems import Pointer, Problem
from gateway.runs import answers
from gateway.store.contract import Filter, Phase, Store, StoredRun, StoreUnavailable

_LONGEST_WAIT = 60.0
_LONGEST_STREAM = 600.0
_STEP = 1.0
_MOST = 100
_STATUSES = {"queued", "running", "succeeded", "failed", "unknown", "not_run"}


@dataclass(frozen=True, slots=True)
class RunsFace:
    """A client sees its own runs only: those that it ordered with a key, or did not wait for."""

    store: Store
    clock: Clock
    draining: Callable[[], bool]

    async def show(self, request: Request) -> web.StreamResponse:
        """Answer `GET /runs/{id}`; with `?wait=SECONDS` when it has ended, or the time is over."""
        run = await self._own(request)
        if request.method == "GET" and "text/event-stream" in request.headers.get("Accept", ""):
            return await self._stream(request, run)
        end = self.clock.monotonic() + _seconds(request.query.get("wait", "0"))
        while run.phase is not Phase.DONE and not self.draining():
            left = end - self.clock.monotonic()
            if left <= 0:
                break
            run = await self._changed(request, run, min(left, _STEP))
        return answer(200, answers.shown(run), answers.JSON)

    async def show_all(self, request: Request) -> web.StreamResponse:
        """Answer `GET /runs`: newest first, `limit` at a time, filtered by `status` and `workflow`."""
        query = request.query
        chosen = Filter(
            client=request.client_name,
            limit=_limit(query.get("limit", "50")),
            status=_status(query.get("status")),
            workflow=query.get("workflow"),
            before=_cursor(query.get("cursor")),
        )
        try:
            runs = await self.store.runs(chosen)
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        last = runs[-1] if len(runs) == chosen.limit else None
        following = _as_cursor(last) if last else None
        return answer(200, answers.listed([answers.shown(run) for run in runs], following), answers.JSON)

    async def _own(self, request: Request) -> StoredRun:
        try:
            run = await self.store.run(request.tail)
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        if run is None or run.client != request.client_name:
            raise Problem("not_found", "There is no such run.")
        return run

    async def _changed(self, request: Request, run: StoredRun, seconds: float) -> StoredRun:
        """The run when it may have changed, or the time is over."""
        try:
            await self.store.wait([run.id], seconds)
        except StoreUnavailable:
            raise Problem("store_unavailable", retry_after=1) from None
        return await self._own(request)

    async def _stream(self, request: Request, run: StoredRun) -> web.StreamResponse:
        """Send the run as a server-sent event each time its status changes, until it has ended."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Server": "runward"})
        stream.headers["Cache-Control"] = "no-store"
        stream.headers["X-Request-Id"] = request.request_id
        await stream.prepare(request)
        end, told = self.clock.monotonic() + _LONGEST_STREAM, ""
        awaited = request.is_awaited()
        while awaited():
            if run.status != told:
                told = run.status
                await stream.write(b"event: %b\ndata: %b\n\n" % (told.encode(), answers.shown(run)))
            if run.phase is Phase.DONE or self.draining() or self.clock.monotonic() >= end:
                break
            try:
                run = await self._changed(request, run, _STEP)
            except Problem:
                break  # it has begun as a stream, and can not become a problem
        await stream.write_eof()
        return stream


def _seconds(text: str) -> float:
    if not _is_number(text):
        raise _wrong("wait", "a whole number of seconds")
    return min(float(text), _LONGEST_WAIT)


def _limit(text: str) -> int:
    if not _is_number(text) or not 1 <= int(text) <= _MOST:
        raise _wrong("limit", f"a whole number from 1 to {_MOST}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _status(text: str | None) -> str | None:
    if text is not None and text not in _STATUSES:
        raise _wrong("status", "one of " + ", ".join(sorted(_STATUSES)))
    return text


def _cursor(text: str | None) -> tuple[float, str] | None:
    if text is None:
        return None
    try:
        created_at, _, run_id = urlsafe_b64decode(text.encode()).decode("ascii").partition(":")
        moment = float(created_at)
    except ValueError:
        moment, run_id = math.nan, ""
    if not math.isfinite(moment):
        raise _wrong("cursor", "the `next` of an earlier answer")
    return moment, run_id


def _as_cursor(run: StoredRun) -> str:
    return urlsafe_b64encode(f"{run.created_at!r}:{run.id}".encode()).decode()


def _wrong(name: str, what: str) -> Problem:
    return Problem("invalid_request", "1 thing(s) are wrong.", errors=(Pointer(f"?{name}", f"must be {what}"),))
