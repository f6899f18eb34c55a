"""Fault injection for starts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.http_json import JSON
from gateway.sandbox.model import MAX_SECONDS, InjectedFault, RunInput

_MAX_REMEMBERED = 1000


class FaultInjector:
    """The faults of one provider; `error_body` encodes a message as an error of the provider."""

    def __init__(self, clock: Clock, error_body: Callable[[str], bytes]) -> None:
        self._clock = clock
        self._error_body = error_body
        self._faulted_starts: dict[bytes, None] = {}

    def select(self, fault: InjectedFault | None, name: str, body: bytes) -> InjectedFault | None:
        """Return the fault of this start, or None. Equal starts have the same name and body."""
        if fault is None or not fault.every_other:
            return fault
        key = hashlib.sha256(name.encode() + b"\n" + body).digest()
        if key in self._faulted_starts:
            del self._faulted_starts[key]
            return None
        self._faulted_starts[key] = None
        if len(self._faulted_starts) > _MAX_REMEMBERED:
            del self._faulted_starts[next(iter(self._faulted_starts))]
        return fault

    async def respond(self, fault: InjectedFault, run_input: RunInput) -> web.Response:
        """Return the response of a fault, after its delay."""
        if fault.hangs:
            await self._clock.sleep(run_input.get_number("seconds", default=MAX_SECONDS, maximum=MAX_SECONDS))
        if fault.html is not None:
            return web.Response(status=fault.status, text=fault.html, content_type="text/html")
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        body = self._error_body(fault.message)
        return web.Response(status=fault.status, body=body, content_type=JSON, headers=headers)
