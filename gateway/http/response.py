"""Responses: rendering of problems, and the bytes of a response."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import TypeAlias

from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from gateway.problems import CONTENT_TYPE, Problem

HeaderFields: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values of header fields, in their order."""

MAX_SINGLE_WRITE = 65_536
"""Bytes of a body that is sent together with the head."""
BODILESS = frozenset({204, 304})
"""Statuses of responses without a body (RFC 9110, 6.4.1)."""
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class Response:
    """A complete response. `on_sent` is called once it was written. `closes`: the connection is closed after it.

    `fields`: the header fields besides `Content-Type`, `Server`, `Content-Length` and `Date`, as they were given; a
    multidict once `headers` was used, which most responses are sent without.
    """

    __slots__ = ("body", "closes", "content_type", "fields", "on_sent", "status")

    def __init__(self, status: int, body: bytes, content_type: str, headers: HeaderFields = ()) -> None:
        """`content_type`: "" for a response without a body. `headers`: further fields."""
        self.status = status
        self.body = body
        self.content_type = content_type
        self.fields: HeaderFields | CIMultiDict[str] = headers
        self.on_sent: Callable[[], None] | None = None
        self.closes = False

    @property
    def headers(self) -> CIMultiDict[str]:
        """The header fields, to be looked up and changed."""
        if isinstance(self.fields, tuple):
            self.fields = CIMultiDict(self.fields)
        return self.fields

    def head(self) -> bytes:
        """Return the status line and header fields. Raises ValueError if a field contains a line break."""
        fields = ""
        for name, value in self.fields if isinstance(self.fields, tuple) else self.fields.items():
            if "\n" in name or "\n" in value:
                raise ValueError("a header field contains a line break")
            fields += f"{name}: {value}\r\n"
        length = "" if self.status in BODILESS else f"Content-Length: {len(self.body)}\r\n"
        first = _first_lines(self.status, self.content_type)
        return f"{first}{fields}{length}Date: {rfc822_formatted_time()}\r\n\r\n".encode()


@lru_cache(maxsize=256)  # few different ones
def _first_lines(status: int, content_type: str) -> str:
    """Status line, Content-Type, and a `Server` field that discloses no version."""
    media_type = f"Content-Type: {content_type}\r\n" if content_type else ""
    if media_type.count("\n") > 1:
        raise ValueError("a header field contains a line break")
    status_line = _STATUS_LINES.get(status, f"HTTP/1.1 {status} \r\n")
    return f"{status_line}{media_type}Server: runward\r\n"


def make_response(status: int, body: bytes, content_type: str, headers: HeaderFields = ()) -> Response:
    """Response with a body and with fields that may come from another server, whose `Server` is left out."""
    fields = tuple([field for field in headers if field[0].lower() != "server"])
    return Response(status, body, content_type, fields)


def set_request_id(response: Response | web.StreamResponse, request_id: str) -> None:
    """Set the field X-Request-Id. To be called once, before the response is sent."""
    if isinstance(response, Response) and isinstance(response.fields, tuple):
        response.fields = (*response.fields, ("X-Request-Id", request_id))
    else:
        response.headers["X-Request-Id"] = request_id


def problem_response(problem: Problem, request_id: str) -> Response:
    """Problem document (RFC 9457) with the problem's header fields."""
    return Response(problem.status, problem.document(request_id), CONTENT_TYPE, problem_headers(problem))


def problem_headers(problem: Problem) -> HeaderFields:
    """Header fields of a problem, independent of the body's format. `Retry-After` is rounded up to whole seconds."""
    if problem.retry_after is None:
        return problem.headers
    return (*problem.headers, ("Retry-After", str(math.ceil(problem.retry_after))))
