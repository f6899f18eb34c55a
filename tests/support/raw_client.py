"""Client for raw bytes, which reads responses until the end of the connection."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from providers.contract import JsonValue
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers

TIMEOUT = 15.0  # seconds; reached only on a failure
RUN = json.dumps(dict(PROMPT_STUDIO_BODY)).encode()
_SOURCE_ADDRESSES = itertools.cycle([f"127.0.9.{number}" for number in range(1, 255)])  # none has too many failures
JSON: Mapping[str, str] = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class RawResponse:
    """Raw response. Header names are lower case; `raw` has all bytes."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes

    def header(self, name: str) -> str | None:
        """Return the only header of that name."""
        values = [value for key, value in self.headers if key == name.lower()]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def json(self) -> dict[str, JsonValue]:
        """JSON object of the body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return cast("dict[str, JsonValue]", document)

    @property
    def summary(self) -> tuple[int, JsonValue]:
        """Status and `code`."""
        return self.status, self.json.get("code")

    @property
    def comparable(self) -> tuple[int, tuple[tuple[str, str], ...], dict[str, JsonValue]]:
        """Response without request id and date, for comparisons."""
        own = {"date", "x-request-id", "content-length"}
        kept = tuple(sorted(pair for pair in self.headers if pair[0] not in own))
        return self.status, kept, {name: value for name, value in self.json.items() if name != "request_id"}


class RawConnection:
    """Connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write. Raises ConnectionError if the gateway has closed the connection."""
        self.writer.write(data)
        await self.writer.drain()

    async def read_response(self, *, method: str = "POST") -> RawResponse:
        """Read one complete response to a request with that method."""
        async with asyncio.timeout(TIMEOUT):
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, headers = _parse_head(head)
            length = next((int(value) for name, value in headers if name == "content-length"), 0)
            body = b"" if method == "HEAD" or status < 200 else await self.reader.readexactly(length)
        return RawResponse(status, headers, body, head + body)

    async def read_to_end(self) -> bytes:
        """Read until the gateway closes the connection. Raises TimeoutError."""
        async with asyncio.timeout(TIMEOUT):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def pause_reading(self) -> None:
        """Stop reading, as a client that hangs."""
        cast("asyncio.Transport", self.writer.transport).pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        cast("asyncio.Transport", self.writer.transport).resume_reading()

    async def wait_closed(self) -> None:
        """Wait for the close by the gateway without further data. Raises TimeoutError."""
        assert await self.read_to_end() == b""


@asynccontextmanager
async def raw_connection(url: str, source: str = "127.0.0.1") -> AsyncIterator[RawConnection]:
    """Connect from that address, and close at the end. Linux accepts all of 127.0.0.0/8 on loopback."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=(source, 0))
    try:
        yield RawConnection(reader, writer)
    finally:
        writer.transport.abort()


def build_head(
    method: str = "POST", target: str = "/run", headers: Mapping[str, str] | None = None, *, client: str | None = "one"
) -> bytes:
    """Return the head of a request with Host and the key of `client`, if any. Text is sent as Latin-1."""
    key = auth_headers(client) if client else {}
    fields = {"Host": "gateway.test", **key, **(headers or {})}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def build_run(body: bytes = RUN, headers: Mapping[str, str] | None = None, *, client: str | None = "one") -> bytes:
    """Return a complete `POST /run`, framed by Content-Length."""
    return build_head(headers={**JSON, "Content-Length": str(len(body)), **(headers or {})}, client=client) + body


def build_get(target: str, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a complete GET without a key."""
    return build_head("GET", target, headers, client=None)


async def send_request(url: str, data: bytes, source: str | None = None) -> RawResponse:
    """Send on a new connection and read one response; by default from a different address each time."""
    async with raw_connection(url, source or next(_SOURCE_ADDRESSES)) as caller:
        await caller.send(data)
        return await caller.read_response(method=data.split(b" ", 1)[0].decode("latin-1"))


def _parse_head(data: bytes) -> tuple[int, tuple[tuple[str, str], ...]]:
    first, *lines = data.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), tuple((name.lower(), value.strip()) for name, _, value in pairs)
