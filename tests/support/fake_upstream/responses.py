"""Valid responses of the fake upstream, and regular error responses."""

from __future__ import annotations

import http
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import Headers, UpstreamConnection


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """HTTP response as data, and a script that sends it. It is not validated, so that tests can send invalid ones."""

    status: int = 200
    headers: Headers = ()
    body: bytes = b""
    version: str = field(default="HTTP/1.1", kw_only=True)

    def head(self) -> bytes:
        """Status line and headers, with the empty line."""
        lines = [f"{self.version} {self.status} {_reason(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def encode(self) -> bytes:
        """Return all bytes of the response."""
        return self.head() + self.body

    def with_headers(self, *headers: tuple[str, str]) -> FakeResponse:
        """Return the response with additional headers."""
        return replace(self, headers=self.headers + headers)

    async def __call__(self, connection: UpstreamConnection) -> None:
        """Send it, and keep the connection."""
        await connection.send(self.encode())


def reply(
    status: int = 200, body: bytes | JsonValue = None, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()
) -> FakeResponse:
    """Return a response with its Content-Length; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = tuple(headers.items()) if hasattr(headers, "items") else tuple(headers)
    framing = (("Content-Type", "application/json"), ("Content-Length", str(len(content))))
    return FakeResponse(status, (*framing, *named), content)


def redirect(url: str, status: int = 302) -> FakeResponse:
    """Return a redirect."""
    return reply(status, b"", [("Location", url)])


def chunked(answer: FakeResponse, size: int = 7) -> FakeResponse:
    """Return the response in chunks of `size` bytes; its end is the last five bytes."""
    parts = [answer.body[at : at + size] for at in range(0, len(answer.body), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    kept = tuple(pair for pair in answer.headers if pair[0] != "Content-Length")
    return FakeResponse(answer.status, (*kept, ("Transfer-Encoding", "chunked")), body)


@dataclass(frozen=True, slots=True)
class RawBytes:
    """Raw bytes, not necessarily HTTP."""

    data: bytes

    async def __call__(self, connection: UpstreamConnection) -> None:
        """Send them, and keep the connection."""
        await connection.send(self.data)


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Whatever"
