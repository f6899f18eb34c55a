"""A server on loopback with the gateway's own middlewares around some small routes, and a client that sends bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeAlias

import structlog
from aiohttp import web
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

from gateway import strictjson
from gateway.access.clients import Client
from gateway.access.keys import KeyRing, hash_key, new_key
from gateway.access.strangers import Strangers
from gateway.api.middleware import Doors, Porter, observe
from gateway.api.server import Middleware, Request, Route, Server
from gateway.api.wire import RunRequest, answer, parse, read_body
from gateway.clock import SystemClock
from gateway.lifecycle import Listener
from gateway.metrics import Metrics
from gateway.problems import Problem
from tests.manual_clock import ManualClock

MAX_BODY = 5000
LARGE = 30_000_000
KEY, EXPIRED, STRANGE = (new_key(SystemClock()) for _ in range(3))
JSON_BODY = b"Content-Type: application/json\r\n"

Line: TypeAlias = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, taken apart. Header names are lower case."""

    status: int
    version: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def code(self) -> str:
        """What a client decides by; the document, its type and its status agree."""
        assert "application/problem+json" == self.headers["content-type"]
        assert self.status == self.json["status"]
        assert f"urn:runward:problem:{self.json['code']}" == self.json["type"]
        return str(self.json["code"])


def answers(data: bytes) -> list[Answered]:
    """What stands on the wire, one answer after another (none of them to HEAD)."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        size = int(headers.get("content-length", 0))
        found.append(Answered(int(status), version, headers, rest[:size]))
        data = rest[size:]
    return found


@dataclass
class Listening:
    """A server that listens."""

    port: int
    clock: ManualClock
    metrics: Metrics
    doors: Doors
    capture: LogCapture
    porter: Porter
    go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def lines(self) -> list[Line]:
        """What was logged."""
        return self.capture.entries

    async def talk(self, *pieces: bytes, half_close: bool = False) -> bytes:
        """Send the pieces over one connection, and read until the other side closes it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)
            if half_close:
                writer.write_eof()
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def leave(self, *pieces: bytes) -> None:
        """Send the pieces, and reset the connection."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        writer.transport.abort()

    async def until_logged(self, count: int = 1) -> None:
        """Wait for so many lines of the log."""
        await until(lambda: len(self.lines) >= count)

    async def ask(self, method: str = "GET", path: str = "/healthz", *headers: str | bytes) -> Answered:
        """One request without a body."""
        [found] = answers(await self.talk(request(method, path, *headers)))
        return found

    async def run(self, body: bytes = b'{"workflow":"w"}', *headers: str | bytes, key: str = KEY) -> Answered:
        """POST /run with a body and a key."""
        [found] = answers(await self.talk(run_request(body, *headers, key=key)))
        return found


async def until(condition: Callable[[], bool]) -> None:
    """Let the other side of a socket come so far."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError("it did not come to that")


def request(method: str, path: str, *headers: str | bytes) -> bytes:
    """A request without a body, the last of its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", "Connection: close", *headers]
    return b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines) + b"\r\n"


def run_request(body: bytes, *headers: str | bytes, key: str = KEY) -> bytes:
    """A whole POST /run, the last request of its connection."""
    own = (f"Authorization: Bearer {key}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return request("POST", "/run", *own, *headers) + body


@contextlib.asynccontextmanager
async def listening(
    *,
    limit: int = 10,
    header_timeout: float = 5.0,
    body_timeout: float = 0.2,
    trusted: Sequence[IPv4Network | IPv6Network] = (),
    middlewares: Sequence[Middleware] | None = None,
) -> AsyncIterator[Listening]:
    """Listen with the gateway's middlewares, in its order, or with others."""
    clock, metrics, capture = ManualClock(), Metrics(), LogCapture()
    log: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10)
    )
    doors = Doors(limit)
    ring = KeyRing({"one": [(hash_key(KEY), None), (hash_key(EXPIRED), clock.now() - timedelta(days=1))]})
    porter = Porter(ring, {"one": Client("one", ("*",))}, Strangers(clock), trusted, clock, log)
    here = Listening(0, clock, metrics, doors, capture, porter)
    around = [doors.farewell, observe(metrics, log, clock), doors.guard, porter.authenticate]
    server = Server(
        _routes(here, body_timeout), around if middlewares is None else middlewares, header_timeout=header_timeout
    )
    listener = await Listener.open(server, "127.0.0.1", 0)
    here.port = int(listener.url.rpartition(":")[2])
    try:
        yield here
    finally:
        here.go.set()
        await listener.runner.cleanup()


def _routes(here: Listening, body_timeout: float) -> list[Route]:
    async def run(request: Request) -> web.Response:
        body = parse(RunRequest, await read_body(request, limit=MAX_BODY, seconds=body_timeout))
        return answer(200, strictjson.write({"workflow": body.workflow, "input": body.input}), "application/json")

    async def wait(_request: Request) -> web.Response:
        await here.go.wait()
        return answer(200, b"{}", "application/json")

    async def healthz(_request: Request) -> web.Response:
        return answer(200, b'{"status":"alive"}', "application/json")

    async def large(_request: Request) -> web.Response:
        return answer(200, b"x" * LARGE, "application/json")

    async def mistake(_request: Request) -> web.Response:
        raise RuntimeError("CANARY")

    async def refuse(_request: Request) -> web.Response:
        raise Problem("overloaded", retry_after=1.2)

    return [
        Route("POST", "/run", run, "run", keyed=True),
        Route("POST", "/wait", wait, "wait", keyed=True),
        Route("POST", "/mistake", mistake, "mistake", keyed=True),
        Route("POST", "/refuse", refuse, "refuse", keyed=True),
        Route("GET", "/large", large, "large"),
        Route("GET", "/mistake", mistake, "mistake"),
        Route("GET", "/healthz", healthz, "healthz", logged=False),
    ]
