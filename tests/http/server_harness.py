"""HTTP server on loopback with the gateway's middlewares and sample routes, and a client for raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, TypeAlias

import structlog
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger

from gateway.api.run_request import RunRequest
from gateway.app.listeners import Listener
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRing, hash_key, new_key
from gateway.byte_budget import ByteBudget
from gateway.clock import SystemClock
from gateway.http.authentication import Authenticator
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.pipeline import InFlightLimiter, RequestPipeline
from gateway.http.request import Middleware, Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from gateway.json import strict_json
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.contract import StoreUnavailable
from tests.support.clock import ManualClock
from tests.support.waiting import wait_until

MAX_BODY = 5000
LARGE_BODY_BYTES = 30_000_000
KEY, OTHER_KEY, THIRD_KEY, EXPIRED_KEY, UNKNOWN_KEY = (new_key(SystemClock()) for _ in range(5))
JSON_BODY = b"Content-Type: application/json\r\n"

LogEntry: TypeAlias = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """Parsed response. Header names are lower case."""

    status: int
    version: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """Parsed body."""
        document = json.loads(self.body)
        assert isinstance(document, dict)
        return document

    @property
    def code(self) -> str:
        """Status, code and error pointers; checks that document, type and status agree."""
        assert "application/problem+json" == self.headers["content-type"]
        assert self.status == self.json["status"]
        assert f"urn:runward:problem:{self.json['code']}" == self.json["type"]
        return str(self.json["code"])


def parse_responses(data: bytes) -> list[ParsedResponse]:
    """Responses on the wire, in order (none of them to HEAD)."""
    responses = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
        size = int(headers.get("content-length", 0))
        responses.append(ParsedResponse(int(status), version, headers, rest[:size]))
        data = rest[size:]
    return responses


@dataclass
class ServerHarness:
    """Listening server."""

    port: int
    clock: ManualClock
    metrics: Metrics
    limiter: InFlightLimiter
    capture: LogCapture
    authenticator: Authenticator
    byte_budget: ByteBudget
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log_entries(self) -> list[LogEntry]:
        """Log entries so far."""
        return self.capture.entries

    async def send_raw(self, *pieces: bytes, half_close: bool = False) -> bytes:
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

    async def send_and_reset(self, *pieces: bytes) -> None:
        """Send the pieces, and reset the connection."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.01)
        writer.transport.abort()

    async def wait_until_logged(self, count: int = 1) -> None:
        """Wait for this number of log entries."""
        await wait_until(lambda: len(self.log_entries) >= count)

    async def send_request(self, method: str = "GET", path: str = "/healthz", *headers: str | bytes) -> ParsedResponse:
        """Send a request without a body."""
        [found] = parse_responses(await self.send_raw(build_request(method, path, *headers)))
        return found

    async def post_run(
        self, body: bytes = b'{"workflow":"w"}', *headers: str | bytes, key: str = KEY
    ) -> ParsedResponse:
        """POST /run with a body and a key."""
        [found] = parse_responses(await self.send_raw(build_run_request(body, *headers, key=key)))
        return found


def build_request(method: str, path: str, *headers: str | bytes) -> bytes:
    """A request without a body, the last of its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", "Connection: close", *headers]
    return b"".join((line.encode() if isinstance(line, str) else line) + b"\r\n" for line in lines) + b"\r\n"


def build_run_request(body: bytes, *headers: str | bytes, key: str = KEY) -> bytes:
    """A whole POST /run, the last request of its connection."""
    own = (f"Authorization: Bearer {key}", "Content-Type: application/json", f"Content-Length: {len(body)}")
    return build_request("POST", "/run", *own, *headers) + body


@contextlib.asynccontextmanager
async def running_server(
    *,
    max_in_flight: int = 10,
    max_bytes_in_flight: int = sys.maxsize,
    max_body: int = MAX_BODY,
    header_timeout: float = 5.0,
    idle_timeout: float = 75.0,
    max_header: int = 8190,
    body_timeout: float = 30.0,
    trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    middlewares: Sequence[Middleware] | None = None,
) -> AsyncIterator[ServerHarness]:
    """Start a server with the gateway's middlewares in their order, or with others."""
    clock, metrics, capture = ManualClock(), Metrics(), LogCapture()
    log: FilteringBoundLogger = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10)
    )
    limiter = InFlightLimiter(max_in_flight)
    keys = KeyRing(
        {
            "one": [(hash_key(KEY), None), (hash_key(EXPIRED_KEY), clock.now() - timedelta(days=1))],
            "two": [(hash_key(OTHER_KEY), None)],
            "three": [(hash_key(THIRD_KEY), None)],
        }
    )
    clients = {name: Client(name, ("*",)) for name in ("one", "two", "three")}
    authenticator = Authenticator(keys, clients, FailedAuthLimiter(clock), trusted_proxies, clock, log)
    budget = ByteBudget(max_bytes_in_flight)
    harness = ServerHarness(0, clock, metrics, limiter, capture, authenticator, budget)
    default_middlewares = [RequestPipeline(metrics, log, clock, authenticator.authenticate, limiter)]
    server = Server(
        _routes(harness, body_timeout, max_body),
        default_middlewares if middlewares is None else middlewares,
        header_timeout=header_timeout,
        idle_timeout=idle_timeout,
        max_header=max_header,
        byte_budget=budget,
    )
    listener = await Listener.open(server, "127.0.0.1", 0)
    harness.port = int(listener.url.rpartition(":")[2])
    try:
        yield harness
    finally:
        harness.release.set()
        await listener.runner.cleanup()


def _routes(harness: ServerHarness, body_timeout: float, max_body: int) -> list[Route]:
    async def run(request: Request) -> Response:
        body = parse_json_body(RunRequest, await read_json_body(request, max_bytes=max_body, timeout=body_timeout))
        return make_response(
            200, strict_json.write({"workflow": body.workflow, "input": body.input}), "application/json"
        )

    async def wait(_request: Request) -> Response:
        await harness.release.wait()
        return make_response(200, b"{}", "application/json")

    async def healthz(_request: Request) -> Response:
        return make_response(200, b'{"status":"alive"}', "application/json")

    async def large(_request: Request) -> Response:
        return make_response(200, b"x" * LARGE_BODY_BYTES, "application/json")

    async def mistake(_request: Request) -> Response:
        raise RuntimeError("CANARY")

    async def store_down(request: Request) -> Response:
        if request.target_query == "run":
            request.run = RunRecord.create(RunSpec("one", "w", 60.0), "p", harness.clock)
        raise StoreUnavailable("CANARY")

    async def refuse(_request: Request) -> Response:
        raise Problem("overloaded", retry_after=1.2)

    return [
        Route("POST", "/run", run, "run", requires_key=True),
        Route("POST", "/wait", wait, "wait", requires_key=True),
        Route("POST", "/mistake", mistake, "mistake", requires_key=True),
        Route("POST", "/refuse", refuse, "refuse", requires_key=True),
        Route("GET", "/large", large, "large"),
        Route("GET", "/mistake", mistake, "mistake"),
        Route("GET", "/store-down", store_down, "store_down"),
        Route("GET", "/healthz", healthz, "healthz", logged=False),
    ]
