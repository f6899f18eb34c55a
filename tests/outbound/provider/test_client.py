"""HTTP client of a provider, against a fake upstream on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import NoReturn, TypeAlias
from urllib.parse import quote, urlsplit

import pytest
from pydantic import SecretStr

from gateway.clock import Clock, SystemClock
from gateway.errors import InvalidRequest
from gateway.json import strict_json
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.client import ProviderClient
from gateway.outbound.provider.endpoint import ProviderEndpoint
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse
from providers.contract import UNREADABLE, Call, Cause, JsonValue, KeyHeader, ProviderFault, Reply
from tests.support.clock import ManualClock
from tests.support.fake_upstream import certificates, faults
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.responses import FakeResponse, RawBytes, chunked, redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port, unresponsive_port
from tests.support.process import parse_metrics
from tests.support.waiting import wait_until

KEY = "pl_CANARY/+=0123456789abcdef"
MAX_RESPONSE = 10_000
START = Call("POST", "/start", "start", safe=False, json={"input": {"q": "why?"}})
POLL = Call("GET", "/poll?id=1", "poll", safe=True)
DONE = reply(200, {"result": 1})
RESTED = 0.2  # seconds after which a connection is used again

UnreachableServer: TypeAlias = Callable[[], AbstractContextManager[str]]


class ClientHarness:
    """Provider client with its metrics. Deadlines are in seconds from now."""

    def __init__(self, origin: ProviderEndpoint, clock: Clock | None = None) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self._client_clock = clock or self.clock
        self.client = ProviderClient(origin, clock=self._client_clock, metrics=self.metrics)

    async def send(self, call: Call = START, *, within: float = 10.0) -> Reply:
        """Make one call."""
        return await self.client.send(call, self._client_clock.monotonic() + within)

    async def send_failing(self, call: Call = START, *, within: float = 10.0) -> ProviderFault:
        """Make one call that raises ProviderFault."""
        with pytest.raises(ProviderFault) as caught:
            await self.send(call, within=within)
        assert "CANARY" not in caught.value.detail
        assert caught.value.__cause__ is None
        return caught.value

    @property
    def results(self) -> dict[str, int]:
        """Return the number of calls by result, from the metrics."""
        samples = parse_metrics(self.metrics.render().decode())
        return {s.labels["result"]: int(s.value) for s in samples if s.name == "runward_upstream_calls_total"}


@contextlib.asynccontextmanager
async def open_client(
    url: str,
    *,
    key_header: KeyHeader = KeyHeader("X-API-KEY"),  # noqa: B008 - frozen
    connect_timeout: float = 5.0,
    max_response: int = MAX_RESPONSE,
    clock: Clock | None = None,
) -> AsyncIterator[ClientHarness]:
    """Client of `url`, closed at the end."""
    harness = ClientHarness(
        ProviderEndpoint(
            provider="p",
            base_url=url,
            key_header=key_header,
            key=SecretStr(KEY),
            user_agent="runward/test",
            connect_timeout=connect_timeout,
            max_response=max_response,
        ),
        clock,
    )
    try:
        yield harness
    finally:
        await harness.client.close()


@pytest.fixture
async def harness(upstream: FakeUpstream) -> AsyncIterator[ClientHarness]:
    """Client of the fixture `upstream`."""
    async with open_client(upstream.url) as harness:
        yield harness


# Requests.


async def test_a_start_goes_out_with_these_headers_and_no_others(
    upstream: FakeUpstream, harness: ClientHarness
) -> None:
    """R80: a fixed list, without header fields of the client."""
    upstream.default = DONE
    await harness.send()
    [request] = upstream.received
    assert "POST /start HTTP/1.1" == request.head.split(b"\r\n")[0].decode()
    assert b'{"input":{"q":"why?"}}' == request.body
    assert [
        ("Host", upstream.url.removeprefix("http://")),
        ("X-API-KEY", KEY),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "runward/test"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(request.body))),
    ] == list(request.headers)


async def test_a_poll_has_no_body(upstream: FakeUpstream, harness: ClientHarness) -> None:
    upstream.default = DONE
    await harness.send(POLL)
    [request] = upstream.received
    assert "GET /poll?id=1 HTTP/1.1" == request.head.split(b"\r\n")[0].decode()
    assert b"" == request.body
    names = [name for name, _ in request.headers]
    assert ["Host", "X-API-KEY", "Accept", "Accept-Encoding", "User-Agent"] == names


async def test_the_key_goes_where_the_provider_wants_it(upstream: FakeUpstream) -> None:
    upstream.default = DONE
    async with open_client(upstream.url, key_header=KeyHeader("Authorization", "Bearer ")) as made:
        await made.send()
    assert f"Bearer {KEY}" == upstream.received[0].header("authorization")
    assert upstream.received[0].header("x-api-key") is None


@pytest.mark.parametrize("base", ["", "/", "/v2", "/v2/"])
async def test_paths_are_relative_to_the_base_url(upstream: FakeUpstream, base: str) -> None:
    upstream.default = DONE
    async with open_client(upstream.url + base) as made:
        await made.send()
    assert base.rstrip("/") + "/start" == upstream.received[0].target


async def test_an_encoded_path_stays_encoded(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R61: segments are sent unchanged: nothing is decoded, joined or resolved."""
    upstream.default = DONE
    path = "/workflows/..%2F%2e%2e%2Fa%3Fx%23y%0D%0AX:%20y%00%25/run"
    await harness.send(Call("POST", path, "start", safe=False))
    assert path == upstream.received[0].target


@pytest.mark.parametrize("path", ["", "start", "http://other/", "/a b", "/a\r\nX: y", "/ü", "/a\x00", "/a\n"])
async def test_a_path_that_is_not_encoded_is_not_sent(
    upstream: FakeUpstream, harness: ClientHarness, path: str
) -> None:
    """A defect of an adapter must not become a second header or request."""
    with pytest.raises(ValueError, match="not encoded"):
        await harness.send(Call("POST", path, "start", safe=False))
    assert [] == upstream.connections


async def test_numbers_keep_every_digit_both_ways(upstream: FakeUpstream, harness: ClientHarness) -> None:
    upstream.default = reply(200, {"n": 2**70 + 1})
    answer = await harness.send(Call("POST", "/start", "start", safe=False, json={"n": 2**70 + 1}))
    assert b'{"n":1180591620717411303425}' == upstream.received[0].body
    assert {"n": 2**70 + 1} == answer.body


async def test_cookies_are_not_kept(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R27: a cookie that a provider sets is never sent with another run."""
    upstream.default = reply(200, {}, [("Set-Cookie", "session=CANARY; Path=/")])
    await harness.send()
    await harness.send()
    assert [None, None] == [request.header("cookie") for request in upstream.received]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_the_environment_is_ignored(
    upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """R62: a proxy in the environment receives nothing."""
    async with FakeUpstream() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        upstream.default = DONE
        async with open_client(upstream.url) as made:
            await made.send()
        assert ([], 1) == (proxy.connections, len(upstream.received))


# Responses.


@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 404, 418, 422, 429, 500, 502, 503, 504, 599, 999])
async def test_an_answer_is_handed_on_whatever_it_says(
    upstream: FakeUpstream, harness: ClientHarness, status: int
) -> None:
    """The adapter interprets the status."""
    upstream.default = reply(status, {"message": "no"})
    assert Reply(status, {"message": "no"}) == await harness.send()
    assert {"ok": 1} == harness.results


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": NaN', b"{} {}", b"[" * 5000])
async def test_a_body_that_is_not_json_is_unreadable(
    upstream: FakeUpstream, harness: ClientHarness, body: bytes
) -> None:
    """R17: without an exception."""
    upstream.default = reply(200, body)
    assert UNREADABLE is (await harness.send()).body


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirects_are_not_followed(upstream: FakeUpstream, harness: ClientHarness, status: int) -> None:
    """R16: the other host receives no connection, and so no key."""
    async with FakeUpstream() as other:
        upstream.default = redirect(other.url + "/start", status)
        assert Cause.INVALID_REPLY is (await harness.send_failing()).cause
        assert ([], 1) == (other.connections, len(upstream.received))


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "GZIP", "x-unknown", "identity, gzip"])
async def test_compressed_answers_are_not_opened(upstream: FakeUpstream, harness: ClientHarness, coding: str) -> None:
    """R18: no encoding was requested, and a small body may expand."""
    upstream.default = reply(200, b"{}", [("Content-Encoding", coding)])
    assert Cause.INVALID_REPLY is (await harness.send_failing()).cause


@pytest.mark.parametrize("coding", ["identity", "Identity"])
async def test_the_identity_is_no_compression(upstream: FakeUpstream, harness: ClientHarness, coding: str) -> None:
    upstream.default = reply(200, {}, [("Content-Encoding", coding)])
    assert Reply(200, {}) == await harness.send()


FITTING_BODIES = reply(200, b'"' + b"x" * (MAX_RESPONSE - 2) + b'"')


@pytest.mark.parametrize("answer", [FITTING_BODIES, chunked(FITTING_BODIES, 100)], ids=["announced", "chunked"])
async def test_a_body_of_the_largest_size_is_read(
    upstream: FakeUpstream, harness: ClientHarness, answer: FakeResponse
) -> None:
    upstream.default = answer
    assert "x" * (MAX_RESPONSE - 2) == (await harness.send()).body


@pytest.mark.parametrize(
    "script",
    [
        faults.large_response(MAX_RESPONSE + 1),
        faults.large_chunked_response(MAX_RESPONSE + 1),
        faults.large_response(10**9),
        faults.large_chunked_response(10**9),
    ],
)
async def test_a_larger_body_is_not_read(
    upstream: FakeUpstream, harness: ClientHarness, script: ResponseScript
) -> None:
    """R18: with or without Content-Length; the connection is closed."""
    upstream.default = script
    assert Cause.TOO_LARGE is (await harness.send_failing()).cause
    assert {"too_large": 1} == harness.results


VALID_RETRY_AFTER = [
    ("0", 0.0),
    ("1", 1.0),
    (" 7 ", 7.0),
    ("86400", 86_400.0),
    ("Sat, 21 Nov 2026 12:00:05 GMT", 5.0),
    ("Sat, 21 Nov 2026 14:00:05 +0200", 5.0),
    ("Saturday, 21-Nov-26 12:00:05 GMT", 5.0),
    ("Sat Nov 21 12:00:05 2026", 5.0),
]
INVALID_RETRY_AFTER = [
    "",
    "-1",
    "+1",
    "1e9",
    "86401",
    "1000000000",
    "9" * 400,
    "soon",
    "1 2",
    "1,2",
    "٣",
    "0x1",
    "1_0",
]
RETRY_AFTER_DATES = [
    "Fri, 21 Nov 2025 12:00:00 GMT",
    "Mon, 23 Nov 2026 12:00:00 GMT",
    "Sat, 99 Nov 2026 12:00:00 GMT",
    "21 Nov",
]


@pytest.mark.parametrize(("hint", "seconds"), VALID_RETRY_AFTER)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_read_in_either_form(
    upstream: FakeUpstream, harness: ClientHarness, status: int, hint: str, seconds: float
) -> None:
    """R09, RFC 9110, 10.2.3: seconds, or a date in one of the three forms that HTTP ever had."""
    upstream.default = reply(status, {}, [("Retry-After", hint)])
    assert Reply(status, {}, seconds) == await harness.send()


@pytest.mark.parametrize("hint", INVALID_RETRY_AFTER + RETRY_AFTER_DATES)
async def test_an_invalid_retry_after_is_ignored(upstream: FakeUpstream, harness: ClientHarness, hint: str) -> None:
    """R11: empty, negative, in the past, further than a day, or no number at all."""
    raw = reply(429, {}).encode().replace(b"\r\n\r\n", b"\r\nRetry-After: " + hint.encode() + b"\r\n\r\n", 1)
    upstream.default = RawBytes(raw)
    assert Reply(429, {}) == await harness.send()


async def test_two_retry_after_fields_are_ignored(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R11: even if they agree, an intermediary added one."""
    upstream.default = reply(429, {}, [("Retry-After", "1"), ("retry-after", "1")])
    assert (await harness.send()).retry_after is None


@pytest.mark.parametrize("status", [200, 202, 404, 500, 502])
async def test_other_statuses_have_no_retry_after(upstream: FakeUpstream, harness: ClientHarness, status: int) -> None:
    upstream.default = reply(status, {}, [("Retry-After", "1")])
    assert (await harness.send()).retry_after is None


@pytest.mark.parametrize(
    "quoted",
    [
        KEY.encode(),
        KEY.replace("/", "\\/").encode(),
        quote(KEY, safe="").encode(),
        base64.b64encode(KEY.encode()),
        base64.b64encode(KEY.encode()).rstrip(b"="),
    ],
    ids=["plain", "escaped", "in a URL", "base64", "base64 without padding"],
)
@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_key_that_comes_back_goes_no_further(
    upstream: FakeUpstream, harness: ClientHarness, status: int, quoted: bytes
) -> None:
    """R79, R81: some providers quote a refused key, in various encodings."""
    upstream.default = reply(status, b'{"message": "bad key %b, %b"}' % (quoted, quoted))
    answer = await harness.send()
    said = answer.body["message"] if isinstance(answer.body, dict) else answer.body
    assert isinstance(said, str)
    assert "bad key [redacted], [redacted]" == said.replace("=", "")


# Faults.


@pytest.mark.parametrize("dead", [closed_port, unresponsive_port])
@pytest.mark.parametrize("call", [START, POLL])
async def test_an_unreachable_server_was_sent_nothing(dead: UnreachableServer, call: Call) -> None:
    """R02: refused, or no answer within the connect timeout."""
    with dead() as url:
        async with open_client(url, connect_timeout=0.05) as made:
            assert Cause.UNREACHABLE is (await made.send_failing(call)).cause
            assert {"unreachable": 1} == made.results


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_a_local_resource_shortage_is_not_the_providers_fault(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """R36: without a file descriptor nothing is sent; the circuit of the provider must not open."""

    async def sock_connect(*_: object) -> NoReturn:
        raise OSError(number, "CANARY")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", sock_connect)
    async with open_client("http://127.0.0.1:1") as made:
        found = await made.send_failing()
        assert (Cause.EXHAUSTED, 1, {"exhausted": 1}) == (found.cause, found.retry_after, made.results)


@pytest.mark.parametrize("within", [0.05, 0.0, -1.0])
async def test_a_deadline_that_passes_while_connecting_sent_nothing(within: float) -> None:
    with unresponsive_port() as url:
        async with open_client(url) as made:
            assert Cause.UNREACHABLE is (await made.send_failing(within=within)).cause


async def test_an_unknown_host_name_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with open_client("http://provider.test") as made:
        assert Cause.UNREACHABLE is (await made.send_failing()).cause


async def test_nothing_is_sent_when_the_deadline_has_passed(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """Neither over a new connection nor over an idle one."""
    upstream.default = DONE
    assert Cause.UNREACHABLE is (await harness.send_failing(within=0)).cause
    await harness.send()
    harness.clock.advance(RESTED)
    assert Cause.UNREACHABLE is (await harness.send_failing(within=0)).cause
    assert 1 == len(upstream.received)
    await wait_until(lambda: not harness.client._connections)  # it was taken from the pool, and must not be leaked


@pytest.mark.parametrize("call", [START, POLL])
@pytest.mark.parametrize("script", [faults.rst_after_request, faults.fin_after_request])
async def test_a_lost_answer_is_a_disconnection(
    upstream: FakeUpstream, harness: ClientHarness, call: Call, script: ResponseScript
) -> None:
    """R03, R04: nothing is repeated by the client; retries have one layer."""
    upstream.default = script
    assert Cause.DISCONNECTED is (await harness.send_failing(call)).cause
    assert (1, {"disconnected": 1}) == (len(upstream.received), harness.results)


async def test_a_connection_that_is_reset_at_once_is_a_disconnection(
    upstream: FakeUpstream, harness: ClientHarness
) -> None:
    """R04: by then the request was written."""
    upstream.on_accept([faults.rst_on_accept()])
    assert Cause.DISCONNECTED is (await harness.send_failing()).cause


@pytest.mark.parametrize(
    "script",
    [
        faults.headers_then_fin,
        faults.truncate(5),
        faults.truncate(0),
        faults.chunked_cut_off(),
        faults.GARBAGE,
        faults.long_header(),
        faults.two_lengths(),
        faults.sequence(faults.interim_responses(20_000), DONE),
        faults.extra_response(DONE, DONE),
        reply(101, {}),
    ],
    ids=lambda script: getattr(script, "__name__", type(script).__name__),
)
async def test_an_answer_that_is_not_whole_and_single_is_invalid(
    upstream: FakeUpstream, harness: ClientHarness, script: ResponseScript
) -> None:
    """R05, R06, R19; the next call has a new connection and its own response."""
    upstream.script("POST", "/start", [script, reply(200, "next")])
    assert Cause.INVALID_REPLY is (await harness.send_failing()).cause
    assert "next" == (await harness.send()).body
    assert 2 == len(upstream.connections)


@pytest.mark.parametrize(
    "script",
    [faults.hang, faults.drip(200.0), faults.drip(200.0, head_first=False)],
    ids=["nothing", "drips a body", "drips a head"],
)
async def test_an_answer_that_is_late_is_not_waited_for(upstream: FakeUpstream, script: ResponseScript) -> None:
    """R07, R08: the upstream observes the close."""
    upstream.default = script
    async with open_client(upstream.url, max_response=10**7) as made:
        assert Cause.TIMEOUT is (await made.send_failing(within=0.1)).cause
        [connection] = upstream.connections
        await wait_until(lambda: connection.eof_at is not None)
        assert {"timeout": 1} == made.results


# Connections.


async def test_a_connection_is_used_again(upstream: FakeUpstream, harness: ClientHarness) -> None:
    upstream.default = DONE
    for call in (START, POLL, START):
        await harness.send(call)
        harness.clock.advance(RESTED)
    assert (1, 3) == (len(upstream.connections), len(upstream.received))


async def test_a_connection_that_was_idle_too_long_is_not_used(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R25: the longer a connection is idle, the more likely the other side closes it."""
    upstream.default = DONE
    await harness.send()
    harness.clock.advance(14.9)
    await harness.send()
    assert 1 == len(upstream.connections)
    harness.clock.advance(15.1)
    await harness.send()
    assert 2 == len(upstream.connections)
    await wait_until(lambda: upstream.connections[0].eof_at is not None)


async def test_a_connection_rests_before_its_reuse(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """An unsolicited response within the rest time closes the connection."""
    upstream.default = DONE
    for _ in range(3):
        await harness.send()
    assert (3, 3) == (len(upstream.connections), len(upstream.received))


@pytest.mark.parametrize("delay", [0.01, 0.03, 0.05])
async def test_a_surplus_response_is_never_the_response_of_the_next_call(upstream: FakeUpstream, delay: float) -> None:
    """Twenty sequential calls in real time: each gets its own number."""

    async def answer_twice(wire: UpstreamConnection) -> None:
        assert wire.request is not None
        answer = reply(200, wire.request.body)
        await answer(wire)
        await asyncio.sleep(delay)
        await answer(wire)

    upstream.default = answer_twice
    async with open_client(upstream.url, clock=SystemClock()) as harness:
        calls = [Call("POST", "/start", "start", safe=False, json=number) for number in range(20)]
        numbers = [(await harness.send(call)).body for call in calls]
    assert list(range(20)) == numbers


@pytest.mark.parametrize("surplus", [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b""], ids=["bytes", "EOF"])
async def test_a_connection_is_probed_right_before_a_request(
    upstream: FakeUpstream, harness: ClientHarness, surplus: bytes
) -> None:
    """Bytes that the event loop has not read yet are detected."""
    wires: list[UpstreamConnection] = []

    async def remember(wire: UpstreamConnection) -> None:
        wires.append(wire)
        await DONE(wire)

    upstream.default = remember
    await harness.send()
    harness.clock.advance(RESTED)
    (connection,) = harness.client._idle
    assert connection.is_silent()
    server_socket = wires[0].transport.get_extra_info("socket")
    descriptor = os.dup(server_socket.fileno())
    with socket.socket(fileno=descriptor) as raw:  # written without running the event loop
        raw.sendall(surplus) if surplus else raw.shutdown(socket.SHUT_WR)
        assert not connection.is_silent()
    await harness.send()
    assert 2 == len(upstream.connections)


async def test_a_silent_address_does_not_cost_the_call(upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8305: the second address is tried while the first (such as broken IPv6) does not respond."""
    upstream.default = DONE
    live = urlsplit(upstream.url)
    with unresponsive_port() as silent_url:
        silent = urlsplit(silent_url)
        addresses = [(silent.hostname, silent.port), (live.hostname, live.port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: found)
        async with open_client("http://provider.example", connect_timeout=2.0) as harness:
            assert 1 == (await harness.send()).body["result"]  # type: ignore[index,call-overload]  # it is DONE
    assert 1 == len(upstream.received)


@pytest.mark.parametrize("say", [(), (("Connection", "close"),)], ids=["silently", "with a word"])
async def test_a_connection_that_the_other_side_closed_costs_no_run(
    upstream: FakeUpstream, harness: ClientHarness, say: tuple[tuple[str, str], ...]
) -> None:
    """R25: the next call uses a new connection, once."""
    upstream.default = faults.sequence(DONE.with_headers(*say), faults.fin_after_request)
    for count in range(1, 4):
        assert 1 == (await harness.send()).body["result"]  # type: ignore[index,call-overload]  # it is DONE
        await wait_until(lambda: not harness.client._connections)
        assert (count, count) == (len(upstream.connections), len(upstream.received))


async def test_calls_at_once_have_their_own_answers(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R19: concurrent calls use separate connections, which are reused afterwards."""

    async def echo(wire: UpstreamConnection) -> None:
        assert wire.request is not None
        await reply(200, wire.request.body)(wire)

    upstream.default = echo

    async def ask(number: int) -> JsonValue | object:
        return (await harness.send(Call("POST", "/start", "start", safe=False, json=number))).body

    for _ in range(3):
        assert list(range(50)) == await asyncio.gather(*map(ask, range(50)))
        harness.clock.advance(RESTED)
    assert 50 >= len(upstream.connections)


async def test_a_burst_leaves_no_connections_open_for_ever(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """Each call closes one connection that was idle for too long."""
    upstream.default = faults.delayed(0.01, DONE)
    await asyncio.gather(*(harness.send() for _ in range(20)))
    harness.clock.advance(20)
    upstream.default = DONE
    await harness.send()
    await wait_until(lambda: 1 == sum(c.eof_at is None for c in upstream.connections))


async def test_a_cancelled_call_leaves_nothing(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R33: the connection is closed, and the call is not counted as a success."""
    upstream.default = faults.hang
    asking = asyncio.create_task(harness.send())
    await wait_until(lambda: len(upstream.received) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await wait_until(lambda: upstream.connections[0].eof_at is not None)
    assert ({"given_up": 1}, set()) == (harness.results, harness.client._connections)


async def test_a_call_cancelled_while_connecting_leaves_nothing() -> None:
    with unresponsive_port() as url:
        async with open_client(url) as made:
            asking = asyncio.create_task(made.send())
            await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert {"given_up": 1} == made.results


async def test_closing_ends_every_connection(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """Idle connections, and those in use."""
    upstream.script("POST", "/start", [DONE, faults.hang])
    upstream.default = faults.hang
    first = asyncio.create_task(harness.send_failing())
    second = asyncio.create_task(harness.send(POLL))
    await wait_until(lambda: len(upstream.received) == 2)
    first.cancel()
    await harness.client.close()
    assert isinstance((await asyncio.gather(second, return_exceptions=True))[0], ProviderFault)
    await wait_until(lambda: all(c.eof_at is not None for c in upstream.connections))


# TLS.


tls = pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl program here")


async def test_a_provider_without_the_expected_tls_is_not_sent_to(upstream: FakeUpstream) -> None:
    """R26: no plain-text fallback."""
    upstream.on_accept([DONE])
    async with open_client(upstream.url.replace("http:", "https:")) as made:
        assert Cause.MISCONFIGURED is (await made.send_failing()).cause
    assert [] == upstream.received


@tls
async def test_an_untrusted_certificate_ends_the_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    """R26: neither request nor key is sent."""
    authority = certificates.new_authority(tmp_path_factory.mktemp("authority"))
    async with FakeUpstream(tls=authority.trusted()) as fake, open_client(fake.url) as made:
        assert Cause.MISCONFIGURED is (await made.send_failing()).cause
        assert [] == fake.received


# Reconfiguration.


def client_with_key(url: str, key: str) -> ProviderClient:
    """An unused client of the same endpoint with another key."""
    origin = ProviderEndpoint(provider="p", base_url=url, key_header=KeyHeader("X-API-KEY"), key=SecretStr(key))
    return ProviderClient(origin, clock=ManualClock(), metrics=Metrics())


async def test_another_key_goes_out_over_the_same_connection(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R100: from the next request on; a request in flight has the old key."""
    release = asyncio.Event()

    async def when_released(wire: UpstreamConnection) -> None:
        await release.wait()
        await DONE(wire)

    upstream.default = DONE
    upstream.script("POST", "/start", [DONE, when_released])
    await harness.send()
    harness.clock.advance(RESTED)
    on_its_way = asyncio.create_task(harness.send())
    async with asyncio.timeout(10):
        while len(upstream.received) < 2:
            await asyncio.sleep(0.001)
    harness.client.reconfigure(client_with_key(upstream.url, "another-key"))
    release.set()
    assert 200 == (await on_its_way).status
    harness.clock.advance(RESTED)
    await harness.send()
    assert [KEY, KEY, "another-key"] == [request.header("X-API-KEY") for request in upstream.received]
    assert 1 == len(upstream.connections)


async def pass_through(harness: ClientHarness, request: PassthroughRequest) -> PassthroughResponse:
    """Send a passthrough request whose response is complete."""
    deadline = harness.clock.monotonic() + 10
    async with harness.client.send_passthrough(request, deadline, max_body=MAX_RESPONSE) as response:
        return response


async def test_another_key_goes_out_with_a_passthrough_request(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R100."""
    upstream.default = DONE
    harness.client.reconfigure(client_with_key(upstream.url, "another-key"))
    headers = (("Content-Type", "application/json"),)
    parcel = PassthroughRequest("POST", "/x", "", headers, b'{"api_key":"rw_client"}', "rw_client")
    await pass_through(harness, parcel)
    [request] = upstream.received
    assert ("another-key", b'{"api_key":"another-key"}') == (request.header("X-API-KEY"), request.body)


async def test_replaced_keys_do_not_come_back_either(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R81, R100: a response may quote a key long after it was replaced."""
    keys = [KEY, *(f"key-number-{number}" for number in range(5))]
    upstream.default = reply(200, {"result": " ".join(keys)})
    for key in keys[1:]:
        harness.client.reconfigure(client_with_key(upstream.url, key))
    assert {"result": " ".join(["[redacted]"] * 6)} == (await harness.send()).body


async def test_a_client_that_stops_pooling_keeps_no_connection(upstream: FakeUpstream, harness: ClientHarness) -> None:
    """R100: idle connections are closed at once; runs in progress still connect, without pooling."""
    upstream.default = DONE
    upstream.script("POST", "/start", [DONE, faults.delayed(0.2, DONE)])
    await harness.send()
    assert 1 == len(upstream.connections)
    harness.clock.advance(RESTED)
    in_use = asyncio.create_task(harness.send())
    async with asyncio.timeout(10):
        while len(upstream.received) < 2:
            await asyncio.sleep(0.001)
    harness.client.stop_pooling()
    assert 200 == (await in_use).status
    assert 200 == (await harness.send(POLL)).status
    async with asyncio.timeout(10):
        while not all(connection.eof_at for connection in upstream.connections):
            await asyncio.sleep(0.001)
    assert 2 == len(upstream.connections)


async def test_a_passthrough_request_goes_out_with_these_headers_and_no_others(upstream: FakeUpstream) -> None:
    """Below the path of the base URL, with the key of the provider, which is redacted in the response."""
    upstream.default = reply(201, {"key": KEY}, {"Retry-After": "3", "X-Own": "1"})
    headers = (("Content-Type", "application/json"), ("Authorization", "Bearer rw_client"), ("accept", "*/*"))
    parcel = PassthroughRequest("PATCH", "/rest/x", "a=%20", headers, b'{"api_key":"rw_client"}', "rw_client")
    async with open_client(upstream.url + "/base") as made:
        returned = await pass_through(made, parcel)
        assert {"ok": 1} == made.results
    [request] = upstream.received
    body = strict_json.write({"api_key": KEY})
    assert ("PATCH", "/base/rest/x?a=%20", body) == (request.method, request.target, request.body)
    assert [
        ("Host", upstream.url.removeprefix("http://")),
        ("X-API-KEY", KEY),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "runward/test"),
        ("Content-Type", "application/json"),
        ("accept", "*/*"),
        ("Content-Length", str(len(body))),
    ] == list(request.headers)
    assert (201, {"key": "[redacted]"}) == (returned.status, strict_json.read(returned.body))
    assert (("content-type", "application/json"), ("retry-after", "3")) == returned.headers


async def test_a_refused_passthrough_request_opens_no_connection(
    upstream: FakeUpstream, harness: ClientHarness
) -> None:
    parcel = PassthroughRequest("POST", "/x", "", (), b"rw_client", "rw_client")
    with pytest.raises(InvalidRequest):
        await pass_through(harness, parcel)
    assert ([], {}) == (upstream.connections, harness.results)
