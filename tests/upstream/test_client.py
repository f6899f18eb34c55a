"""The door to a provider, against a fake one on loopback: what goes out, what comes in, what is known of either."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import NoReturn, TypeAlias
from urllib.parse import quote

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from gateway import strictjson
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.upstream.client import HttpUpstream, Origin
from gateway.upstream.parcel import Parcel
from providers.contract import UNREADABLE, Call, Cause, JsonValue, KeyHeader, ProviderFault, Reply
from tests.faults import certificates, faults
from tests.faults.answers import Answer, Raw, chunked, redirect, reply
from tests.faults.faults import Script
from tests.faults.upstream import Upstream, closed_port, silent_port
from tests.faults.wire import Wire
from tests.manual_clock import ManualClock

KEY = "pl_CANARY/+=0123456789abcdef"
MAX = 10_000
START = Call("POST", "/start", "start", safe=False, json={"input": {"q": "why?"}})
POLL = Call("GET", "/poll?id=1", "poll", safe=True)
DONE = reply(200, {"result": 1})

DeadEnd: TypeAlias = Callable[[], AbstractContextManager[str]]


class Door:
    """An open door, and what it counted. Deadlines are in seconds from now."""

    def __init__(self, origin: Origin) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.upstream = HttpUpstream(origin, clock=self.clock, metrics=self.metrics)

    async def send(self, call: Call = START, *, within: float = 10.0) -> Reply:
        """Make one call."""
        return await self.upstream.send(call, self.clock.monotonic() + within)

    async def fault(self, call: Call = START, *, within: float = 10.0) -> ProviderFault:
        """Make one call that has no whole answer."""
        with pytest.raises(ProviderFault) as caught:
            await self.send(call, within=within)
        assert "CANARY" not in caught.value.detail
        assert caught.value.__cause__ is None
        return caught.value

    @property
    def results(self) -> dict[str, int]:
        """How many calls ended in which way, by the metrics."""
        families = text_string_to_metric_families(self.metrics.render().decode())
        name = "runward_upstream_calls_total"
        return {s.labels["result"]: int(s.value) for f in families for s in f.samples if s.name == name}


@contextlib.asynccontextmanager
async def door(
    url: str,
    *,
    key_header: KeyHeader = KeyHeader("X-API-KEY"),  # noqa: B008 - frozen
    connect_timeout: float = 5.0,
    max_response: int = MAX,
) -> AsyncIterator[Door]:
    """A door to `url` that is closed behind us."""
    made = Door(
        Origin(
            provider="p",
            base_url=url,
            key_header=key_header,
            key=SecretStr(KEY),
            user_agent="runward/test",
            connect_timeout=connect_timeout,
            max_response=max_response,
        )
    )
    try:
        yield made
    finally:
        await made.upstream.close()


@pytest.fixture
async def open_door(upstream: Upstream) -> AsyncIterator[Door]:
    """A door to the fixture `upstream`."""
    async with door(upstream.url) as made:
        yield made


# What goes out.


async def test_a_start_goes_out_with_these_headers_and_no_others(upstream: Upstream, open_door: Door) -> None:
    """R80: an exact list; nothing of a client's request can be among it."""
    upstream.default = DONE
    await open_door.send()
    [request] = upstream.log
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


async def test_a_question_has_no_body(upstream: Upstream, open_door: Door) -> None:
    upstream.default = DONE
    await open_door.send(POLL)
    [request] = upstream.log
    assert "GET /poll?id=1 HTTP/1.1" == request.head.split(b"\r\n")[0].decode()
    assert b"" == request.body
    names = [name for name, _ in request.headers]
    assert ["Host", "X-API-KEY", "Accept", "Accept-Encoding", "User-Agent"] == names


async def test_the_key_goes_where_the_provider_wants_it(upstream: Upstream) -> None:
    upstream.default = DONE
    async with door(upstream.url, key_header=KeyHeader("Authorization", "Bearer ")) as made:
        await made.send()
    assert f"Bearer {KEY}" == upstream.log[0].header("authorization")
    assert upstream.log[0].header("x-api-key") is None


@pytest.mark.parametrize("base", ["", "/", "/v2", "/v2/"])
async def test_paths_are_relative_to_the_base_url(upstream: Upstream, base: str) -> None:
    upstream.default = DONE
    async with door(upstream.url + base) as made:
        await made.send()
    assert base.rstrip("/") + "/start" == upstream.log[0].target


async def test_what_is_encoded_stays_encoded(upstream: Upstream, open_door: Door) -> None:
    """R61: one segment is one segment on the wire, too: nothing is decoded, joined or resolved."""
    upstream.default = DONE
    path = "/workflows/..%2F%2e%2e%2Fa%3Fx%23y%0D%0AX:%20y%00%25/run"
    await open_door.send(Call("POST", path, "start", safe=False))
    assert path == upstream.log[0].target


@pytest.mark.parametrize("path", ["", "start", "http://other/", "/a b", "/a\r\nX: y", "/ü", "/a\x00", "/a\n"])
async def test_a_path_that_is_not_encoded_is_not_sent(upstream: Upstream, open_door: Door, path: str) -> None:
    """It would be an adapter's mistake, and must not become a second header or request."""
    with pytest.raises(ValueError, match="not encoded"):
        await open_door.send(Call("POST", path, "start", safe=False))
    assert [] == upstream.connections


async def test_numbers_keep_every_digit_both_ways(upstream: Upstream, open_door: Door) -> None:
    upstream.default = reply(200, {"n": 2**70 + 1})
    answer = await open_door.send(Call("POST", "/start", "start", safe=False, json={"n": 2**70 + 1}))
    assert b'{"n":1180591620717411303425}' == upstream.log[0].body
    assert {"n": 2**70 + 1} == answer.body


async def test_cookies_are_not_kept(upstream: Upstream, open_door: Door) -> None:
    """R27: what a provider hands one client never goes back with another's run."""
    upstream.default = reply(200, {}, [("Set-Cookie", "session=CANARY; Path=/")])
    await open_door.send()
    await open_door.send()
    assert [None, None] == [request.header("cookie") for request in upstream.log]


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_the_environment_has_no_say(upstream: Upstream, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """R62: a proxy in the environment sees nothing."""
    async with Upstream() as proxy:
        monkeypatch.setenv(variable, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        upstream.default = DONE
        async with door(upstream.url) as made:
            await made.send()
        assert ([], 1) == (proxy.connections, len(upstream.log))


# What comes in.


@pytest.mark.parametrize("status", [200, 201, 202, 400, 401, 404, 418, 422, 429, 500, 502, 503, 504, 599, 999])
async def test_an_answer_is_handed_on_whatever_it_says(upstream: Upstream, open_door: Door, status: int) -> None:
    """What a status means is the adapter's to say."""
    upstream.default = reply(status, {"message": "no"})
    assert Reply(status, {"message": "no"}) == await open_door.send()
    assert {"ok": 1} == open_door.results


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": NaN}', b'{"a": 1e999}', b'"\xff"', b"{} {}", b"[" * 5000])
async def test_a_body_that_is_not_json_is_unreadable(upstream: Upstream, open_door: Door, body: bytes) -> None:
    """R17: and no exception."""
    upstream.default = reply(200, body)
    assert UNREADABLE is (await open_door.send()).body


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
async def test_redirects_are_not_followed(upstream: Upstream, open_door: Door, status: int) -> None:
    """R16: the other host sees no connection, and so no key."""
    async with Upstream() as other:
        upstream.default = redirect(other.url + "/start", status)
        assert Cause.INVALID_REPLY is (await open_door.fault()).cause
        assert ([], 1) == (other.connections, len(upstream.log))


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "GZIP", "x-unknown", "identity, gzip"])
async def test_compressed_answers_are_not_opened(upstream: Upstream, open_door: Door, coding: str) -> None:
    """R18: nobody asked for them, and a small one may become a large one."""
    upstream.default = reply(200, b"{}", [("Content-Encoding", coding)])
    assert Cause.INVALID_REPLY is (await open_door.fault()).cause


@pytest.mark.parametrize("coding", ["identity", "Identity"])
async def test_the_identity_is_no_compression(upstream: Upstream, open_door: Door, coding: str) -> None:
    upstream.default = reply(200, {}, [("Content-Encoding", coding)])
    assert Reply(200, {}) == await open_door.send()


FITS = reply(200, b'"' + b"x" * (MAX - 2) + b'"')


@pytest.mark.parametrize("answer", [FITS, chunked(FITS, 100)], ids=["announced", "chunked"])
async def test_a_body_of_the_largest_size_is_read(upstream: Upstream, open_door: Door, answer: Answer) -> None:
    upstream.default = answer
    assert "x" * (MAX - 2) == (await open_door.send()).body


@pytest.mark.parametrize(
    "script", [faults.big(MAX + 1), faults.big_chunked(MAX + 1), faults.big(10**9), faults.big_chunked(10**9)]
)
async def test_a_larger_body_is_not_read(upstream: Upstream, open_door: Door, script: Script) -> None:
    """R18: announced or not; whoever goes on sending is cut off."""
    upstream.default = script
    assert Cause.TOO_LARGE is (await open_door.fault()).cause
    assert {"too_large": 1} == open_door.results


LATER = [
    ("0", 0.0),
    ("1", 1.0),
    (" 7 ", 7.0),
    ("86400", 86_400.0),
    ("Sat, 21 Nov 2026 12:00:05 GMT", 5.0),
    ("Sat, 21 Nov 2026 14:00:05 +0200", 5.0),
    ("Saturday, 21-Nov-26 12:00:05 GMT", 5.0),
    ("Sat Nov 21 12:00:05 2026", 5.0),
]
SENSELESS = ["", "-1", "+1", "1.5", "1e9", "86401", "1000000000", "9" * 400, "soon", "1 2", "1,2", "٣", "0x1", "1_0"]
DATES = ["Fri, 21 Nov 2025 12:00:00 GMT", "Mon, 23 Nov 2026 12:00:00 GMT", "Sat, 99 Nov 2026 12:00:00 GMT", "21 Nov"]


@pytest.mark.parametrize(("hint", "seconds"), LATER)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_hint_is_read_in_either_form(
    upstream: Upstream, open_door: Door, status: int, hint: str, seconds: float
) -> None:
    """R09, RFC 9110, 10.2.3: seconds, or a date in one of the three forms that HTTP ever had."""
    upstream.default = reply(status, {}, [("Retry-After", hint)])
    assert Reply(status, {}, seconds) == await open_door.send()


@pytest.mark.parametrize("hint", SENSELESS + DATES)
async def test_a_senseless_hint_is_none(upstream: Upstream, open_door: Door, hint: str) -> None:
    """R11: empty, negative, in the past, further than a day, or no number at all."""
    raw = reply(429, {}).encode().replace(b"\r\n\r\n", b"\r\nRetry-After: " + hint.encode() + b"\r\n\r\n", 1)
    upstream.default = Raw(raw)
    assert Reply(429, {}) == await open_door.send()


async def test_two_hints_are_none(upstream: Upstream, open_door: Door) -> None:
    """R11: even if they agree, somebody between us and the provider did not."""
    upstream.default = reply(429, {}, [("Retry-After", "1"), ("retry-after", "1")])
    assert (await open_door.send()).retry_after is None


@pytest.mark.parametrize("status", [200, 202, 404, 500, 502])
async def test_other_answers_have_no_hint(upstream: Upstream, open_door: Door, status: int) -> None:
    upstream.default = reply(status, {}, [("Retry-After", "1")])
    assert (await open_door.send()).retry_after is None


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
    upstream: Upstream, open_door: Door, status: int, quoted: bytes
) -> None:
    """R79, R81: some providers quote the key that they refuse, one way or another."""
    upstream.default = reply(status, b'{"message": "bad key %b, %b"}' % (quoted, quoted))
    answer = await open_door.send()
    said = answer.body["message"] if isinstance(answer.body, dict) else answer.body
    assert isinstance(said, str)
    assert "bad key [redacted], [redacted]" == said.replace("=", "")


# What is known when there is no answer.


@pytest.mark.parametrize("dead", [closed_port, silent_port])
@pytest.mark.parametrize("call", [START, POLL])
async def test_whoever_can_not_be_reached_was_sent_nothing(dead: DeadEnd, call: Call) -> None:
    """R02: refused, or nobody answers within the time for connecting."""
    with dead() as url:
        async with door(url, connect_timeout=0.05) as made:
            assert Cause.UNREACHABLE is (await made.fault(call)).cause
            assert {"unreachable": 1} == made.results


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_our_own_want_is_not_the_providers_fault(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """R36: without a file descriptor nothing is sent; the circuit of a sound provider must not open for it."""

    async def create_connection(*_: object, **__: object) -> NoReturn:
        raise OSError(number, "CANARY")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    async with door("http://127.0.0.1:1") as made:
        found = await made.fault()
        assert (Cause.EXHAUSTED, 1, {"exhausted": 1}) == (found.cause, found.retry_after, made.results)


@pytest.mark.parametrize("within", [0.05, 0.0, -1.0])
async def test_a_deadline_that_passes_while_connecting_sent_nothing(within: float) -> None:
    with silent_port() as url:
        async with door(url) as made:
            assert Cause.UNREACHABLE is (await made.fault(within=within)).cause


async def test_a_name_that_nobody_has_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with door("http://provider.test") as made:
        assert Cause.UNREACHABLE is (await made.fault()).cause


async def test_nothing_is_sent_when_the_deadline_has_passed(upstream: Upstream, open_door: Door) -> None:
    """Neither over a new connection nor over one that rests."""
    upstream.default = DONE
    assert Cause.UNREACHABLE is (await open_door.fault(within=0)).cause
    await open_door.send()
    assert Cause.UNREACHABLE is (await open_door.fault(within=0)).cause
    assert 1 == len(upstream.log)
    await until(lambda: not open_door.upstream._all)  # it was taken from the rested ones, and must not be forgotten


@pytest.mark.parametrize("call", [START, POLL])
@pytest.mark.parametrize("script", [faults.rst_after_request, faults.fin_after_request])
async def test_a_lost_answer_is_a_disconnection(
    upstream: Upstream, open_door: Door, call: Call, script: Script
) -> None:
    """R03, R04: and nothing is repeated here, not even what is safe: there is one retry layer."""
    upstream.default = script
    assert Cause.DISCONNECTED is (await open_door.fault(call)).cause
    assert (1, {"disconnected": 1}) == (len(upstream.log), open_door.results)


async def test_a_connection_that_is_reset_at_once_is_a_disconnection(upstream: Upstream, open_door: Door) -> None:
    """R04: by then the request was written."""
    upstream.on_accept([faults.rst_on_accept()])
    assert Cause.DISCONNECTED is (await open_door.fault()).cause


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
        faults.then(faults.interim(20_000), DONE),
        faults.second_answer(DONE, DONE),
        reply(101, {}),
    ],
    ids=lambda script: getattr(script, "__name__", type(script).__name__),
)
async def test_an_answer_that_is_not_whole_and_single_is_invalid(
    upstream: Upstream, open_door: Door, script: Script
) -> None:
    """R05, R06, R19; the next call has a connection of its own, and its own answer."""
    upstream.script("POST", "/start", [script, reply(200, "next")])
    assert Cause.INVALID_REPLY is (await open_door.fault()).cause
    assert "next" == (await open_door.send()).body
    assert 2 == len(upstream.connections)


@pytest.mark.parametrize(
    "script",
    [faults.hang, faults.drip(200.0), faults.drip(200.0, head_first=False)],
    ids=["nothing", "drips a body", "drips a head"],
)
async def test_an_answer_that_is_late_is_not_waited_for(upstream: Upstream, script: Script) -> None:
    """R07, R08: the upstream sees the connection end."""
    upstream.default = script
    async with door(upstream.url, max_response=10**7) as made:
        assert Cause.TIMEOUT is (await made.fault(within=0.1)).cause
        [connection] = upstream.connections
        await until(lambda: connection.eof_at is not None)
        assert {"timeout": 1} == made.results


async def until(condition: Callable[[], bool]) -> None:
    """Let the other side see what happened: it is a socket away."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not come to that")


# Connections.


async def test_a_connection_is_used_again(upstream: Upstream, open_door: Door) -> None:
    upstream.default = DONE
    for call in (START, POLL, START):
        await open_door.send(call)
    assert (1, 3) == (len(upstream.connections), len(upstream.log))


async def test_a_connection_that_rested_too_long_is_not_used(upstream: Upstream, open_door: Door) -> None:
    """R25: the longer it rests, the likelier the other side is closing it just now."""
    upstream.default = DONE
    await open_door.send()
    open_door.clock.advance(14.9)
    await open_door.send()
    assert 1 == len(upstream.connections)
    open_door.clock.advance(15.1)
    await open_door.send()
    assert 2 == len(upstream.connections)
    await until(lambda: upstream.connections[0].eof_at is not None)


@pytest.mark.parametrize("say", [(), (("Connection", "close"),)], ids=["silently", "with a word"])
async def test_a_connection_that_the_other_side_closed_costs_no_run(
    upstream: Upstream, open_door: Door, say: tuple[tuple[str, str], ...]
) -> None:
    """R25: the next call is made over a new one, once."""
    upstream.default = faults.then(DONE.adding(*say), faults.fin_after_request)
    for count in range(1, 4):
        assert 1 == (await open_door.send()).body["result"]  # type: ignore[index,call-overload]  # it is DONE
        await until(lambda: not open_door.upstream._all)
        assert (count, count) == (len(upstream.connections), len(upstream.log))


async def test_calls_at_once_have_their_own_answers(upstream: Upstream, open_door: Door) -> None:
    """R19: each over a connection of its own; afterwards the connections are used again."""

    async def echo(wire: Wire) -> None:
        assert wire.request is not None
        await reply(200, wire.request.body)(wire)

    upstream.default = echo

    async def ask(number: int) -> JsonValue | object:
        return (await open_door.send(Call("POST", "/start", "start", safe=False, json=number))).body

    for _ in range(3):
        assert list(range(50)) == await asyncio.gather(*map(ask, range(50)))
    assert 50 >= len(upstream.connections)


async def test_a_burst_leaves_no_connections_open_for_ever(upstream: Upstream, open_door: Door) -> None:
    """The ones that are not needed any more are closed, one with each call that is."""
    upstream.default = faults.after(0.01, DONE)
    await asyncio.gather(*(open_door.send() for _ in range(20)))
    open_door.clock.advance(20)
    upstream.default = DONE
    await open_door.send()
    await until(lambda: 1 == sum(c.eof_at is None for c in upstream.connections))


async def test_whoever_is_cancelled_leaves_nothing(upstream: Upstream, open_door: Door) -> None:
    """R33: the connection ends, and the call is counted as what it was: not as a success."""
    upstream.default = faults.hang
    asking = asyncio.create_task(open_door.send())
    await until(lambda: len(upstream.log) == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: upstream.connections[0].eof_at is not None)
    assert ({"given_up": 1}, set()) == (open_door.results, open_door.upstream._all)


async def test_whoever_is_cancelled_while_connecting_leaves_nothing() -> None:
    with silent_port() as url:
        async with door(url) as made:
            asking = asyncio.create_task(made.send())
            await asyncio.sleep(0.01)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert {"given_up": 1} == made.results


async def test_closing_ends_every_connection(upstream: Upstream, open_door: Door) -> None:
    """Those that rest, and those that are in use."""
    upstream.script("POST", "/start", [DONE, faults.hang])
    upstream.default = faults.hang
    first = asyncio.create_task(open_door.fault())
    second = asyncio.create_task(open_door.send(POLL))
    await until(lambda: len(upstream.log) == 2)
    first.cancel()
    await open_door.upstream.close()
    assert isinstance((await asyncio.gather(second, return_exceptions=True))[0], ProviderFault)
    await until(lambda: all(c.eof_at is not None for c in upstream.connections))


# TLS.


tls = pytest.mark.skipif(not certificates.available(), reason="there is no openssl program here")


async def test_a_provider_that_speaks_plainly_where_tls_is_due_is_not_spoken_to(upstream: Upstream) -> None:
    """R26: no plain-text fallback."""
    upstream.on_accept([DONE])
    async with door(upstream.url.replace("http:", "https:")) as made:
        assert Cause.MISCONFIGURED is (await made.fault()).cause
    assert [] == upstream.log


@tls
async def test_a_certificate_that_nobody_vouches_for_ends_the_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    """R26: nothing is sent, and the key least of all."""
    authority = certificates.new_authority(tmp_path_factory.mktemp("authority"))
    async with Upstream(tls=authority.trusted()) as fake, door(fake.url) as made:
        assert Cause.MISCONFIGURED is (await made.fault()).cause
        assert [] == fake.log


# What changes while it is open.


def renewed(url: str, key: str) -> HttpUpstream:
    """What a door to the same place would be with another key."""
    origin = Origin(provider="p", base_url=url, key_header=KeyHeader("X-API-KEY"), key=SecretStr(key))
    return HttpUpstream(origin, clock=ManualClock(), metrics=Metrics())


async def test_another_key_goes_out_over_the_same_connection(upstream: Upstream, open_door: Door) -> None:
    """R100: from the next request on; one that is on its way has the old one."""
    release = asyncio.Event()

    async def when_released(wire: Wire) -> None:
        await release.wait()
        await DONE(wire)

    upstream.default = DONE
    upstream.script("POST", "/start", [DONE, when_released])
    await open_door.send()
    on_its_way = asyncio.create_task(open_door.send())
    async with asyncio.timeout(10):
        while len(upstream.log) < 2:
            await asyncio.sleep(0.001)
    open_door.upstream.reconfigure(renewed(upstream.url, "another-key"))
    release.set()
    assert 200 == (await on_its_way).status
    await open_door.send()
    assert [KEY, KEY, "another-key"] == [request.header("X-API-KEY") for request in upstream.log]
    assert 1 == len(upstream.connections)


async def test_another_key_goes_out_with_what_is_passed_on(upstream: Upstream, open_door: Door) -> None:
    """R100."""
    upstream.default = DONE
    open_door.upstream.reconfigure(renewed(upstream.url, "another-key"))
    headers = (("Content-Type", "application/json"),)
    parcel = Parcel("POST", "/x", "", headers, b'{"api_key":"rw_client"}', "rw_client")
    await open_door.upstream.relay(parcel, open_door.clock.monotonic() + 10)
    [request] = upstream.log
    assert ("another-key", b'{"api_key":"another-key"}') == (request.header("X-API-KEY"), request.body)


async def test_replaced_keys_do_not_come_back_either(upstream: Upstream, open_door: Door) -> None:
    """R81, R100: a run that was started with one may fail because of it, long after it was replaced."""
    keys = [KEY, *(f"key-number-{number}" for number in range(5))]
    upstream.default = reply(200, {"result": " ".join(keys)})
    for key in keys[1:]:
        open_door.upstream.reconfigure(renewed(upstream.url, key))
    assert {"result": " ".join(["[redacted]"] * 6)} == (await open_door.send()).body


async def test_a_door_that_retires_keeps_no_connection(upstream: Upstream, open_door: Door) -> None:
    """R100: what rests is closed at once; who was there already may still come, and is not kept."""
    upstream.default = DONE
    upstream.script("POST", "/start", [DONE, faults.after(0.2, DONE)])
    await open_door.send()
    assert 1 == len(upstream.connections)
    in_use = asyncio.create_task(open_door.send())
    async with asyncio.timeout(10):
        while len(upstream.log) < 2:
            await asyncio.sleep(0.001)
    open_door.upstream.retire()
    assert 200 == (await in_use).status
    assert 200 == (await open_door.send(POLL)).status
    async with asyncio.timeout(10):
        while not all(connection.eof_at for connection in upstream.connections):
            await asyncio.sleep(0.001)
    assert 2 == len(upstream.connections)


async def test_what_is_passed_on_goes_out_with_these_headers_and_no_others(upstream: Upstream) -> None:
    """Beneath the base URL's own path; the key is the provider's, and what comes back is cleaned of it."""
    upstream.default = reply(201, {"key": KEY}, {"Retry-After": "3", "X-Own": "1"})
    headers = (("Content-Type", "application/json"), ("Authorization", "Bearer rw_client"), ("accept", "*/*"))
    parcel = Parcel("PATCH", "/rest/x", "a=%20", headers, b'{"api_key":"rw_client"}', "rw_client")
    async with door(upstream.url + "/base") as made:
        returned = await made.upstream.relay(parcel, made.clock.monotonic() + 10)
        assert {"ok": 1} == made.results
    [request] = upstream.log
    body = strictjson.write({"api_key": KEY})
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
    assert (201, {"key": "[redacted]"}) == (returned.status, strictjson.read(returned.body))
    assert (("content-type", "application/json"), ("retry-after", "3")) == returned.headers


async def test_what_must_not_be_passed_on_opens_no_connection(upstream: Upstream, open_door: Door) -> None:
    parcel = Parcel("POST", "/x", "", (), b"rw_client", "rw_client")
    with pytest.raises(Problem):
        await open_door.upstream.relay(parcel, open_door.clock.monotonic() + 10)
    assert ([], {}) == (upstream.connections, open_door.results)
