"""Responses: rendering of documents and problems, and a response that is sent with a single write."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import TypeAlias

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from gateway.http.server import Request
from gateway.problems import CONTENT_TYPE, Problem

HeaderFields: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of header fields, in their order."""

_MAX_BODY = 65_536  # bytes of a body that is sent together with the head
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class SingleWriteResponse(web.Response):
    """A response whose head and body are sent with one write to the transport.

    aiohttp's own implementation needs ten calls, 5 % of the time of a request. It still serves HEAD, HTTP/1.0, bodies
    over 64 KiB and statuses without a body. `on_sent` is called once the response was written. As in aiohttp, the next
    request of the connection waits until the client has read enough of the responses.
    """

    on_sent: Callable[[], None] | None = None
    _unread: AbstractStreamWriter | None = None
    _written = False
    _keeps_alive = False

    @property
    def keep_alive(self) -> bool | None:
        """True if another request may follow on the connection."""
        return self._keeps_alive if self._written else super().keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the response. Raises ConnectionResetError if the client has disconnected."""
        body = self.body
        if (
            not isinstance(body, bytes)
            or len(body) > _MAX_BODY
            or self.status not in _STATUS_LINES
            or self.status in {204, 304}
            or request.method == "HEAD"
            or request.version != HttpVersion11
        ):
            return await super().prepare(request)
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has disconnected")
        keep_alive = super().keep_alive
        self._keeps_alive = request.keep_alive if keep_alive is None else keep_alive
        transport.write(self._head(len(body)) + body)
        self._written = True
        if request.protocol.writing_paused:
            self._unread = request.writer
        return None

    def _head(self, length: int) -> bytes:
        fields = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        if not self._keeps_alive and "Connection" not in self.headers:
            fields.append("Connection: close\r\n")
        fields.append(f"Content-Length: {length}\r\nDate: {rfc822_formatted_time()}\r\n\r\n")
        head = _STATUS_LINES[self.status] + "".join(fields)
        if head.count("\n") != len(fields) + 3:
            raise ValueError("a header field contains a line break")
        return head.encode()

    async def write_eof(self, data: bytes = b"") -> None:
        """Send the rest of the body, if any, call `on_sent`, and wait while too much is unread.

        Raises ConnectionError if the client disconnects meanwhile.
        """
        if not self._written:
            await self._write_large_body()
            await super().write_eof(data)
        if self.on_sent is not None:
            self.on_sent()
        if self._unread is not None:
            await self._unread.drain()

    async def _write_large_body(self) -> None:
        """Write a large body in pieces, each once the client has read most of the one before.

        Otherwise the transport would copy the whole body.
        """
        body, writer = self.body, self._payload_writer
        if not isinstance(body, (bytes, bytearray)) or len(body) <= _MAX_BODY:
            return
        if writer is None or self._must_be_empty_body:
            return
        view = memoryview(body)
        for start in range(0, len(body), _MAX_BODY):
            await writer.write(view[start : start + _MAX_BODY])
            await writer.drain()
        self.body = None


def make_response(status: int, body: bytes, content_type: str, headers: HeaderFields = ()) -> SingleWriteResponse:
    """Response with a `Server` field that discloses no version."""
    fields = CIMultiDict(headers)
    fields["Content-Type"] = content_type
    fields["Server"] = "runward"
    return SingleWriteResponse(body=body, status=status, headers=fields)


def problem_response(problem: Problem, request: Request) -> web.Response:
    """Problem document (RFC 9457) with the problem's header fields."""
    return make_response(problem.status, problem.document(request.request_id), CONTENT_TYPE, problem_headers(problem))


def problem_headers(problem: Problem) -> HeaderFields:
    """Header fields of a problem, independent of the body's format. `Retry-After` is rounded up to whole seconds."""
    if problem.retry_after is None:
        return problem.headers
    return (*problem.headers, ("Retry-After", str(math.ceil(problem.retry_after))))
