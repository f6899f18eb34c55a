"""What happens to a start that is not to have a proper answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.wire import JSON
from gateway.sandbox.workflows import LONGEST, Fault, Question

_REMEMBERED = 1000


class Faults:
    """The faults of one provider; `refusal` puts a message into the shape of its errors."""

    def __init__(self, clock: Clock, refusal: Callable[[str], bytes]) -> None:
        self._clock = clock
        self._refusal = refusal
        self._struck: dict[bytes, None] = {}

    def due(self, fault: Fault | None, name: str, body: bytes) -> Fault | None:
        """The fault, if this start is to suffer it. Equal starts are known by name and body, the last 1000 of them."""
        if fault is None or not fault.every_other:
            return fault
        key = hashlib.sha256(name.encode() + b"\n" + body).digest()
        if key in self._struck:
            del self._struck[key]
            return None
        self._struck[key] = None
        if len(self._struck) > _REMEMBERED:
            del self._struck[next(iter(self._struck))]
        return fault

    async def answer(self, fault: Fault, question: Question) -> web.Response:
        """What the caller gets instead, at last."""
        if fault.hangs:
            await self._clock.sleep(question.number("seconds", default=LONGEST, most=LONGEST))
        if fault.html is not None:
            return web.Response(status=fault.status, text=fault.html, content_type="text/html")
        headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
        body = self._refusal(fault.message)
        return web.Response(status=fault.status, body=body, content_type=JSON, headers=headers)
