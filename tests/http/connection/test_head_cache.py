"""Heads that are kept: parsed once, decided anew each time, bounded, and without keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest import mock

import pytest
from multidict import CIMultiDict

from gateway.app.tls import server_context
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyHash, KeyRing, hash_key
from gateway.http.authentication import Authenticator
from gateway.http.body import read_json_body
from gateway.http.connection import usual_request
from gateway.http.connection.head_cache import MAX_BYTES, MAX_HEAD, MAX_HEADS, HeadCache
from gateway.http.pipeline import RequestPipeline
from gateway.http.request import Request, RequestHead, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from gateway.observability.metrics import Metrics
from gateway.settings import TlsSettings
from tests.app.tls_harness import HOST, TestAuthority
from tests.http.server_harness import KEY, OTHER_KEY, UNKNOWN_KEY, parse_responses
from tests.support.clock import ManualClock


def run_request(*fields: str, key: str = KEY, body: bytes = b"{}", line: str = "POST /run HTTP/1.1") -> bytes:
    lines = [line, "Host: gateway", f"Authorization: Bearer {key}", "Content-Type: application/json", *fields]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "\r\n"]).encode() + body


@dataclass
class Gateway:
    """A listening server with authentication. `parsed`: what was given to the parser of usual requests."""

    server: Server
    authenticator: Authenticator
    clock: ManualClock
    log: mock.Mock
    port: int = 0
    parsed: list[bytes] = field(default_factory=list)
    connect: Callable[[], contextlib.AbstractAsyncContextManager[Connection]] = field(init=False)

    @property
    def kept(self) -> list[RequestHead]:
        """Heads that are kept."""
        cache = self.server.head_cache
        return [head for head, _ in (*cache._younger.values(), *cache._older.values())]

    def use_keys(self, *keys: KeyHash) -> None:
        """Replace the keys of the only client, as a reload does."""
        self.authenticator.reconfigure(KeyRing({"one": keys}), self.authenticator.clients)

    def refusals(self) -> list[str]:
        """Reasons for refused keys in the log."""
        return [each.kwargs["why"] for each in self.log.info.call_args_list if each.args == ("key_refused",)]


@dataclass
class Connection:
    """Connection of a client."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes) -> int:
        """Send a request, in parts; returns the status of its response."""
        for part in parts:
            self.writer.write(part)
            await asyncio.sleep(0.005)
        return (await self.receive())[0]

    async def receive(self) -> tuple[int, bytes]:
        """Return status and body of the next response."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            [parsed] = parse_responses(head)
            return parsed.status, await self.reader.readexactly(int(parsed.headers["content-length"]))


async def echo(request: Request) -> Response:
    """Return what the handler sees."""
    body = b"" if request.method == "GET" else await read_json_body(request, max_bytes=1000, timeout=5)
    seen = f"{request.method} {request.target_path} {request.target_query} {request.path_param} {request.client_name} "
    fields = sorted(f"{name}: {value}" for name, value in request.headers.items())
    return make_response(200, seen.encode() + body + str(fields).encode(), "text/plain")


@contextlib.asynccontextmanager
async def running(authority: TestAuthority | None = None) -> AsyncIterator[Gateway]:
    clock, log = ManualClock(), mock.Mock()
    keys = KeyRing({"one": [(hash_key(KEY), None)]})
    authenticator = Authenticator(keys, {"one": Client("one", ("*",))}, FailedAuthLimiter(clock), (), clock, log)
    routes = [
        Route("POST", "/run", echo, "run", requires_key=True),
        Route("GET", "/runs/{id}", echo, "runs", requires_key=True),
        Route("POST", "/studio", echo, "studio", requires_key=True, key_headers=("API_KEY",)),
        Route("GET", "/open", echo, "open"),
    ]
    server = Server(routes, [RequestPipeline(Metrics(), log, clock, authenticator.authenticate)], header_timeout=10)
    pem, key = (None, None) if authority is None else authority.issue("server", HOST)
    tls = None if pem is None or key is None else server_context(TlsSettings(cert=pem, key=key), "server.tls")
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    gateway = Gateway(server, authenticator, clock, log, port)
    feed = usual_request.UsualRequestParser.feed

    def count(parser: usual_request.UsualRequestParser, data: bytes) -> tuple[RequestHead, bytes] | None:
        gateway.parsed.append(data)
        return feed(parser, data)

    @contextlib.asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        client_tls = None if authority is None else authority.client_context()
        name = None if authority is None else HOST
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_tls, server_hostname=name)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()

    gateway.connect = connect
    try:
        with mock.patch.object(usual_request.UsualRequestParser, "feed", count):
            yield gateway
    finally:
        listener.close()
        await server.shutdown(1.0)


@pytest.mark.parametrize("with_tls", [False, True])
async def test_a_head_is_parsed_once_for_all_connections(tmp_path: Path, *, with_tls: bool) -> None:
    async with running(TestAuthority.create(tmp_path) if with_tls else None) as gateway:
        for _ in range(2):
            async with gateway.connect() as client:
                assert [200, 200] == [await client.send(run_request()) for _ in range(2)]
        assert [run_request()] == gateway.parsed


@pytest.mark.parametrize(
    "request_bytes",
    [run_request("X-A:  b\t "), run_request(line="POST /run?a=1&b=%20 HTTP/1.1")]
    + [run_request(f"{name}: {KEY}", key="", line="POST /studio HTTP/1.1") for name in ("X-API-KEY", "api_key")]
    + [f"GET /runs/run_%41 HTTP/1.1\r\nHost: h\r\nAuthorization: bearer {KEY}\r\n\r\n".encode()],
)
async def test_a_handler_sees_the_same_of_a_repeated_request(request_bytes: bytes) -> None:
    """Neither time a key."""
    async with running() as gateway, gateway.connect() as client:
        seen = []
        for _ in range(3):
            client.writer.write(request_bytes)
            seen.append(await client.receive())
        assert (200, [seen[0]] * 3) == (seen[0][0], seen)
        assert KEY.encode() not in seen[0][1]


async def test_each_request_with_a_kept_head_is_authenticated() -> None:
    """A key that was revoked, has expired or is valid again between two requests with the same bytes."""
    async with running() as gateway, gateway.connect() as client:
        assert 200 == await client.send(run_request())
        gateway.use_keys()
        assert 401 == await client.send(run_request())
        gateway.use_keys((hash_key(KEY), gateway.clock.now() + timedelta(seconds=10)))
        assert 200 == await client.send(run_request())
        gateway.clock.advance(10)
        assert 401 == await client.send(run_request())
        gateway.use_keys((hash_key(KEY), None))
        assert 200 == await client.send(run_request())
        assert (1, ["unknown", "expired"]) == (len(gateway.parsed), gateway.refusals())


async def test_the_reason_for_a_refusal_is_known_without_the_text_of_the_key() -> None:
    async with running() as gateway, gateway.connect() as client:
        gateway.use_keys((hash_key("of-another-form"), None))
        assert 200 == await client.send(run_request(key="of-another-form"))
        gateway.use_keys()
        assert 401 == await client.send(run_request(key="of-another-form"))
        assert (1, ["malformed"]) == (len(gateway.parsed), gateway.refusals())


async def test_refused_requests_with_a_kept_head_are_limited() -> None:
    async with running() as gateway, gateway.connect() as client:
        assert 200 == await client.send(run_request())
        gateway.use_keys()
        statuses = [await client.send(run_request()) for _ in range(21)]
        assert ([401] * 20 + [429], 1) == (statuses, len(gateway.parsed))


async def test_a_kept_head_contains_no_key() -> None:
    """Else a key would be in memory after its connections have ended."""
    async with running() as gateway, gateway.connect() as client:
        for request in (
            run_request(f"X-API-KEY: {KEY}"),
            run_request(f"API_KEY: {KEY}", key="", line="POST /studio HTTP/1.1"),
        ):
            assert 200 == await client.send(request)
        assert 2 == len(gateway.kept)
        for head in gateway.kept:
            values = [getattr(head, name) for name in RequestHead.__slots__ if name not in {"key", "route"}]
            assert "" == head.key.text
            assert KEY not in repr([values, list(head.headers.items())])
        assert KEY.encode() not in repr(gateway.server.head_cache._younger.keys()).encode()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (run_request(key=UNKNOWN_KEY), 401),
        (run_request(key="eyJhbGciOiJub25lIn0.e30."), 401),
        (b"GET /open HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        (run_request("Idempotency-Key: 1"), 200),
        (run_request("X-Request-Id: 1"), 200),
        (run_request("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), 200),
        (run_request("Cookie: session=1"), 200),
        (run_request("Proxy-Authorization: Basic eDp5"), 200),
        (run_request(line="POST /nowhere HTTP/1.1"), 404),
    ],
)
async def test_a_head_is_not_kept(request_bytes: bytes, status: int) -> None:
    """Of an unauthenticated request, with a field that differs from request to request, or with a secret."""
    async with running() as gateway, gateway.connect() as client:
        assert [status] * 2 == [await client.send(request_bytes) for _ in range(2)]
        assert (2, []) == (len(gateway.parsed), gateway.kept)


async def test_a_token_is_not_kept() -> None:
    """Its digest alone is not sufficient to verify it."""
    async with running() as gateway, gateway.connect() as client:
        gateway.authenticator.tokens = mock.Mock()
        gateway.authenticator.tokens.find.return_value = "one"
        assert [200] * 2 == [await client.send(run_request(key="eyJ.e.s")) for _ in range(2)]
        assert (2, []) == (len(gateway.parsed), gateway.kept)


@pytest.mark.parametrize(("more", "kept"), [(0, 1), (1, 0)])
async def test_a_head_is_kept_up_to_a_size(more: int, kept: int) -> None:
    padding = MAX_HEAD + more - len(run_request("X-Long: ", body=b""))
    request = run_request("X-Long: " + "x" * padding, body=b"")
    assert MAX_HEAD + more == len(request)
    async with running() as gateway, gateway.connect() as client:
        assert [200] * 2 == [await client.send(run_request("X-Long: " + "x" * padding)) for _ in range(2)]
        assert (2 - kept, kept) == (len(gateway.parsed), len(gateway.kept))


@pytest.mark.parametrize("cut", [1, 9, -3, -2, -1])
async def test_a_request_in_parts_is_parsed(cut: int) -> None:
    """Also if its head is kept."""
    request = run_request()
    async with running() as gateway, gateway.connect() as client:
        assert [200, 200] == [await client.send(request) for _ in range(2)]
        assert 200 == await client.send(request[:cut], request[cut:])
        assert [request, request[:cut]] == gateway.parsed[:2]


async def test_several_requests_at_once_are_parsed() -> None:
    """Also if their heads are kept."""
    request, larger = run_request(), run_request(body=b"[{}]")
    async with running() as gateway, gateway.connect() as client:
        assert [200, 200] == [await client.send(each) for each in (request, larger)]
        assert 200 == await client.send(request + larger)
        assert (200, True) == ((second := await client.receive())[0], b"[{}]" in second[1])
        assert [request, larger, request + larger] == gateway.parsed


async def test_a_kept_head_that_closes_the_connection_does_so_again() -> None:
    async with running() as gateway:
        for _ in range(2):
            async with gateway.connect() as client:
                assert 200 == await client.send(run_request("Connection: close"))
                assert b"" == await client.reader.read()
        assert 1 == len(gateway.parsed)


async def test_the_connection_of_a_request_with_a_kept_head_continues_with_any_other() -> None:
    chunked = run_request().replace(
        b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    async with running() as gateway:
        for _ in range(2):
            async with gateway.connect() as client:
                assert [200] * 3 == [await client.send(each) for each in (run_request(), chunked, run_request())]


async def test_a_key_of_another_client_is_another_head() -> None:
    async with running() as gateway, gateway.connect() as client:
        gateway.authenticator.clients = {name: Client(name, ("*",)) for name in ("one", "two")}
        gateway.authenticator.keys = KeyRing({"one": [(hash_key(KEY), None)], "two": [(hash_key(OTHER_KEY), None)]})
        for _ in range(2):
            for key, name in ((KEY, b" one "), (OTHER_KEY, b" two ")):
                client.writer.write(run_request(key=key))
                assert name in (await client.receive())[1]
        assert 2 == len(gateway.parsed)


def keep(cache: HeadCache, data: bytes) -> None:
    route = Route("POST", "/run", echo, "run", requires_key=True)
    head = RequestHead("POST", ("/run", ""), CIMultiDict(), route)
    cache.offer(head, data, len(data))
    cache.keep(head)


@pytest.mark.parametrize("size", [30, MAX_HEAD])
def test_the_number_and_the_size_of_the_heads_are_bounded(size: int) -> None:
    """A head that is used now and then stays, however many others there are."""
    cache, used = HeadCache(), b"used\r\n\r\n"
    keep(cache, used)
    limit = min(MAX_HEADS, MAX_BYTES // size)
    for number in range(5 * MAX_HEADS):
        keep(cache, (b"%d\r\n\r\n" % number).rjust(size))
        if number % (limit // 2) == 0:
            assert cache.find(used) is not None
        for generation in (cache._younger, cache._older):
            assert len(generation) <= MAX_HEADS
            assert sum(each for _, each in generation.values()) <= MAX_BYTES
    assert cache.find((b"%d\r\n\r\n" % 0).rjust(size)) is None
    assert limit <= len(cache) <= 2 * limit


def test_the_same_head_is_counted_once() -> None:
    """Two connections may have parsed it at the same time."""
    cache = HeadCache()
    for _ in range(3):
        keep(cache, b"a\r\n\r\n")
    assert (1, 5) == (len(cache), cache._size)
