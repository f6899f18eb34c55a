"""Event streams and long polls of `GET /runs/{id}`: comments, time limits, and clients that disconnect."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.api.run_lookup import RunLookupHandlers, accepts_event_stream
from gateway.app.listeners import Listener
from gateway.byte_budget import ByteBudget, Hold
from gateway.http.pipeline import RequestPipeline
from gateway.http.request import AnyResponse, Handler, Request, Route
from gateway.http.server import Server
from gateway.observability.metrics import Metrics
from gateway.runs.run_reader import RunReader
from gateway.store.memory.store import MemoryStore
from gateway.store.records import Phase, RunOverview, StoredRun
from tests.store.samples import SAMPLE_RUN
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics
from tests.support.waiting import wait_until

RUNNING = replace(SAMPLE_RUN, phase=Phase.SENDING, status="running", document=None)


class SlowRunStore(MemoryStore):
    """Store of one run that ends after `ends_after` virtual seconds; `waits` has the seconds of each wait."""

    def __init__(self, clock: ManualClock, ends_after: float) -> None:
        super().__init__(clock)
        self._virtual_clock = clock
        self._ends_at = clock.monotonic() + ends_after
        self.waits: list[float] = []
        self.before_wait: Callable[[], object] = lambda: None

    async def get_run(self, _run_id: str) -> StoredRun | None:
        """Return the run in its present state."""
        if self._virtual_clock.monotonic() < self._ends_at:
            return RUNNING
        return replace(RUNNING, phase=Phase.DONE, status="succeeded", document=b"{}")

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """Return the run in its present state, without its payloads."""
        run = await self.get_run(run_id)
        return None if run is None else run.overview

    async def get_document(self, run_id: str) -> bytes | None:
        """Return the document of the ended run."""
        run = await self.get_run(run_id)
        return None if run is None else run.document

    async def wait_for_change(self, _run_ids: Sequence[str], seconds: float) -> None:
        """Advance the clock by `seconds`."""
        self.waits.append(seconds)
        self.before_wait()
        await asyncio.sleep(0.001)
        self._virtual_clock.advance(seconds)
        if len(self.waits) > 2000:
            raise AssertionError("the handler does not end")


@dataclass
class LookupServer:
    """A running server with `GET /runs/{id}` only."""

    port: int
    store: SlowRunStore
    metrics: Metrics
    capture: LogCapture = field(default_factory=LogCapture)
    byte_budget: ByteBudget = field(default_factory=ByteBudget)

    async def get(self, query: str = "", *headers: str) -> bytes:
        """Send the request, and read until the end of the connection."""
        reader, writer = await self.open(query, *headers)
        try:
            async with asyncio.timeout(30):
                return await reader.read()
        finally:
            writer.close()

    async def open(self, query: str = "", *headers: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send the request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        fields = "".join(f"{line}\r\n" for line in ("Host: gateway", "Connection: close", *headers))
        writer.write(f"GET /runs/{RUNNING.id}{query} HTTP/1.1\r\n{fields}\r\n".encode())
        return reader, writer


@contextlib.asynccontextmanager
async def lookup_server(
    ends_after: float, new_store: Callable[[ManualClock, float], SlowRunStore] = SlowRunStore
) -> AsyncIterator[LookupServer]:
    """Start a server whose run ends after that many virtual seconds."""
    clock, metrics, capture = ManualClock(), Metrics(), LogCapture()
    log = structlog.wrap_logger(None, processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(10))
    store = new_store(clock, ends_after)

    def as_owner(inner: Handler) -> Handler:
        async def handle(request: Request) -> AnyResponse:
            request.client_name = RUNNING.client
            return await inner(request)

        return handle

    lookup = RunLookupHandlers(store, RunReader(store, clock), clock, is_draining=lambda: False)
    routes = [Route("GET", "/runs/{id}", lookup.get_run, "runs", streams=accepts_event_stream)]
    server = Server(routes, [RequestPipeline(metrics, log, clock), as_owner], header_timeout=5.0)
    listener = await Listener.open(server, "127.0.0.1", 0)
    try:
        yield LookupServer(listener.addresses[0][1], store, metrics, capture, server.byte_budget)
    finally:
        await listener.close()


EVENTS = "Accept: text/event-stream"


async def test_an_event_stream_has_a_comment_after_15_s_without_an_event() -> None:
    """Proxies close streams that are silent for a minute, and nginx buffers what is not marked."""
    async with lookup_server(ends_after=100) as server:
        head, _, body = (await server.get("", EVENTS)).partition(b"\r\n\r\n")
    assert b"\r\nX-Accel-Buffering: no\r\n" in head
    assert [b"event: running", b"event: succeeded"] == [line for line in body.split(b"\n") if line[:6] == b"event:"]
    assert 6 == len([line for line in body.split(b"\n") if line.startswith(b":")])


async def test_a_short_event_stream_has_no_comment() -> None:
    """A comment replaces no event."""
    async with lookup_server(ends_after=14) as server:
        body = await server.get("", EVENTS)
    assert b"\n:" not in body
    assert b"event: succeeded" in body


@pytest.mark.parametrize(("query", "seconds"), [("?wait=9999", 50), ("?wait=60", 50), ("?wait=50", 50), ("?wait=7", 7)])
async def test_a_long_poll_takes_50_s_at_most(query: str, seconds: float) -> None:
    """Larger values are valid and count as the maximum."""
    async with lookup_server(ends_after=1000) as server:
        response = await server.get(query)
    assert response.startswith(b"HTTP/1.1 200 ")
    assert seconds == sum(server.store.waits)


@pytest.mark.parametrize(("query", "headers"), [("", (EVENTS,)), ("?wait=50", ())], ids=["event stream", "long poll"])
async def test_a_client_that_disconnects_while_it_waits_is_logged_as_499(query: str, headers: tuple[str, ...]) -> None:
    """It is no error of the gateway: no error in the log, no 5xx in the metrics, and the wait ends."""
    async with lookup_server(ends_after=1500) as server:
        _, writer = await server.open(query, *headers)

        def disconnect_at_third_wait() -> None:
            if len(server.store.waits) == 3:
                writer.transport.abort()

        server.store.before_wait = disconnect_at_third_wait
        await wait_until(lambda: bool(server.capture.entries))
        await asyncio.sleep(0.02)
    [line] = server.capture.entries
    assert ("info", 499, "client_closed_request") == (line["log_level"], line["status"], line["code"])
    samples = parse_metrics(server.metrics.render().decode())
    assert 1 == metric_sum(samples, "runward_requests_total", status="499")
    assert len(server.store.waits) < 40


async def test_a_response_without_room_in_the_byte_budget_is_refused() -> None:
    """With the error that says when to ask again; what was held is given back."""
    async with lookup_server(ends_after=0) as server:
        server.byte_budget.limit = 10
        with Hold(server.byte_budget) as other:
            other.add(10)
            head, _, body = (await server.get()).partition(b"\r\n\r\n")
            assert b" 503 " in head.split(b"\r\n")[0]
            assert b"\r\nRetry-After: 1" in head
            assert b'"code":"overloaded"' in body
        assert (await server.get()).startswith(b"HTTP/1.1 200 ")
        await wait_until(lambda: server.byte_budget.held == 0)
