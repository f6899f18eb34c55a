"""What a delivery sends, what it makes of the answer, and that it always ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.upstream.courier import Answered, Courier, Message, Patience
from gateway.upstream.egress import Egress
from gateway.upstream.exchange import MOST_READ, Exchange, Fault
from tests.faults import certificates, faults
from tests.faults.answers import redirect, reply
from tests.faults.upstream import Upstream, closed_port, silent_port
from tests.faults.wire import Wire
from tests.manual_clock import ManualClock

MESSAGE = Message("msg_run_1", 1_795_000_000, "v1,Zmlyc3Q= v1,c2Vjb25k", b'{"type":"run.finished"}')
HASTE = Patience(whole=0.4, connect=0.2)


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody on 127.0.0.1 who takes everything."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running


def courier(*addresses: str, patience: Patience | None = None, tls: ssl.SSLContext | None = None) -> Courier:
    """One that may go anywhere on this machine, and finds every name at `addresses`."""

    async def look_up(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return Courier(Egress(["127.0.0.0/8"], look_up=look_up), ManualClock(), patience=patience, tls=tls)


def at(receiver: Upstream, host: str) -> str:
    """The receiver's URL under a name."""
    where = urlsplit(receiver.url)
    return f"{where.scheme}://{host}:{where.port}/hook"


async def test_the_request(receiver: Upstream) -> None:
    """These header fields and no others: nothing of a client's, no key of ours."""
    assert Answered(204) == await courier().deliver(receiver.url + "/hook?token=a%20b", MESSAGE)
    (request,) = receiver.log
    assert ("POST", "/hook?token=a%20b", MESSAGE.body) == (request.method, request.target, request.body)
    assert {
        "Host": urlsplit(receiver.url).netloc,
        "User-Agent": "runward",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": "23",
        "webhook-id": "msg_run_1",
        "webhook-timestamp": "1795000000",
        "webhook-signature": "v1,Zmlyc3Q= v1,c2Vjb25k",
    } == dict(request.headers)
    assert 9 == len(request.headers)


async def test_without_a_signature(receiver: Upstream) -> None:
    """Where there is no secret, there is no such field."""
    await courier().deliver(receiver.url, Message("msg_run_1", 1, "", b"{}"))
    assert receiver.log[0].header("webhook-signature") is None


async def test_a_large_message(receiver: Upstream) -> None:
    """What a run made may be larger than any buffer on the way."""
    body = b'"' + b"x" * 8_000_000 + b'"'
    assert Answered(204) == await courier().deliver(receiver.url, Message("msg_run_1", 1, "", body))
    assert body == receiver.log[0].body


async def test_the_host_keeps_its_name(receiver: Upstream) -> None:
    """The address is dialled, the name is asked for."""
    assert Answered(204) == await courier("127.0.0.1").deliver(at(receiver, "hooks.example"), MESSAGE)
    assert f"hooks.example:{urlsplit(receiver.url).port}" == receiver.log[0].header("host")


@pytest.mark.parametrize("status", [200, 204, 299, 301, 404, 410, 429, 500, 503, 599])
async def test_the_status_is_the_result(receiver: Upstream, status: int) -> None:
    """R52: every status is told as it is; what follows from it is decided elsewhere."""
    receiver.default = reply(status)
    assert Answered(status) == await courier().deliver(receiver.url, MESSAGE)


async def test_retry_after(receiver: Upstream) -> None:
    """R52: the receiver's wish is handed on, in seconds from now."""
    receiver.script(
        "POST",
        "/",
        [
            reply(503, headers={"Retry-After": "120"}),
            reply(429, headers={"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}),
        ],
    )
    results = [await courier().deliver(receiver.url, MESSAGE) for _ in range(2)]
    assert [Answered(503, 120.0), Answered(429, 30.0)] == results


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: Upstream, status: int) -> None:
    """R59: neither to the metadata service nor to a place that would be fine."""
    async with Upstream() as elsewhere:
        receiver.script("POST", "/", [redirect(elsewhere.url, status), redirect("http://169.254.169.254/", status)])
        assert Answered(status) == await courier().deliver(receiver.url, MESSAGE)
        assert Answered(status) == await courier().deliver(receiver.url, MESSAGE)
        assert (2, 2, []) == (len(receiver.log), len(receiver.connections), elsewhere.connections)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (faults.rst_after_request, Fault.DISCONNECTED),
        (faults.fin_after_request, Fault.DISCONNECTED),
        (faults.hang, Fault.TIMEOUT),
        (faults.drip(50, head_first=False), Fault.TIMEOUT),
        (faults.GARBAGE, Fault.INVALID_REPLY),
        (faults.interim(20_000), Fault.INVALID_REPLY),
        (faults.interim(1, 101), Fault.INVALID_REPLY),
        (faults.two_lengths(reply(200, {})), Fault.INVALID_REPLY),
        (faults.long_header(), Fault.INVALID_REPLY),
    ],
)
async def test_no_status(receiver: Upstream, script: faults.Script, fault: Fault) -> None:
    """R52, R53: whatever a receiver does in place of a status, the delivery ends, and its connection too."""
    receiver.default = script
    patience = HASTE if fault is Fault.TIMEOUT else None
    assert fault is await courier(patience=patience).deliver(receiver.url, MESSAGE)
    await receiver.down()
    assert 1 == len(receiver.connections)


@pytest.mark.parametrize(
    "script",
    [
        faults.drip(50),
        faults.big(1_000_000_000),
        faults.big_chunked(1_000_000_000),
        faults.bomb(50_000_000),
    ],
)
async def test_an_answer_without_an_end(
    receiver: Upstream, script: faults.Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R53: of 1 GB no more than 20 kB are read, a drip ends with the patience, and then we leave; the status counts."""
    read, left = counted(monkeypatch), asyncio.Event()
    receiver.default = until_left(script, left)
    assert Answered(200) == await courier(patience=Patience(whole=1.0)).deliver(receiver.url, MESSAGE)
    assert sum(read) <= MOST_READ
    async with asyncio.timeout(5):
        await left.wait()


@pytest.mark.parametrize("script", [faults.headers_then_fin, faults.truncate(3), faults.chunked_cut_off()])
async def test_an_answer_that_is_cut_off_behind_its_status(receiver: Upstream, script: faults.Script) -> None:
    """The receiver has said that it has the message."""
    receiver.default = script
    assert Answered(200) == await courier().deliver(receiver.url, MESSAGE)


def until_left(script: faults.Script, left: asyncio.Event) -> faults.Script:
    """The script, and then the end of the connection by its other side."""

    async def run(wire: Wire) -> None:
        try:
            await script(wire)
        finally:
            await wire.left.wait()
            left.set()

    return run


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes are read at a time, by every exchange."""
    read: list[int] = []
    parse = Exchange.buffer_updated

    def count(self: Exchange, nbytes: int) -> None:
        read.append(nbytes)
        parse(self, nbytes)

    monkeypatch.setattr(Exchange, "buffer_updated", count)
    return read


def met(barrier: asyncio.Barrier) -> faults.Script:
    """Wait until the test is there as well."""

    async def run(_wire: Wire) -> None:
        await barrier.wait()

    return run


async def test_a_slow_receiver_delays_nobody_else(receiver: Upstream) -> None:
    """R53: deliveries have nothing in common."""
    async with Upstream() as slow:
        reached = asyncio.Barrier(51)
        slow.default = faults.then(met(reached), faults.hang)
        one = courier()
        waiting = [asyncio.create_task(one.deliver(slow.url, MESSAGE)) for _ in range(50)]
        await reached.wait()
        assert Answered(204) == await one.deliver(receiver.url, MESSAGE)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        assert 50 == len(await asyncio.gather(*waiting, return_exceptions=True))


async def test_nobody_there() -> None:
    """Refused and silent are the same fault."""
    with closed_port() as closed, silent_port() as silent:
        faults_seen = [await courier(patience=HASTE).deliver(url, MESSAGE) for url in (closed, silent)]
    assert [Fault.UNREACHABLE, Fault.UNREACHABLE] == faults_seen


async def test_the_next_address_is_tried(receiver: Upstream) -> None:
    """A name may have addresses where nobody is; nothing is sent before one of them answers."""
    url = at(receiver, "hooks.example")
    assert Answered(204) == await courier("127.0.0.3", "127.0.0.2", "127.0.0.1").deliver(url, MESSAGE)
    assert Fault.UNREACHABLE is await courier("127.0.0.4", "127.0.0.3", "127.0.0.2", "127.0.0.1").deliver(url, MESSAGE)
    assert 1 == len(receiver.log)


async def test_a_silent_address_does_not_use_up_the_patience() -> None:
    """Each address has its own share of it."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    with silent_port() as silent:
        port = urlsplit(silent).port
        async with await asyncio.start_server(answer, "127.0.0.2", port):
            one = courier("127.0.0.1", "127.0.0.2", patience=Patience(whole=10.0, connect=0.3))
            assert Answered(204) == await one.deliver(f"http://hooks.example:{port}/", MESSAGE)


@pytest.mark.parametrize("url", ["https://169.254.169.254/", "http://example.com/", "", "https://a\ud800/", "http://["])
async def test_a_target_that_may_not_be_called(url: str) -> None:
    """What was fine when the run was ordered may be refused later; it is a result, not an error."""
    assert Fault.REFUSED is await courier("10.0.0.1").deliver(url, MESSAGE)


async def test_a_name_that_does_not_resolve_in_time() -> None:
    """The look-up is a part of the delivery."""

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    hasty = Courier(Egress([], look_up=never), ManualClock(), patience=HASTE)
    assert Fault.UNREACHABLE is await hasty.deliver("https://example.com/", MESSAGE)


async def test_a_cancelled_delivery_leaves_nothing_behind(receiver: Upstream) -> None:
    """A gateway that stops does not wait for receivers."""
    reached, left = asyncio.Barrier(2), asyncio.Event()
    receiver.default = until_left(met(reached), left)
    task = asyncio.create_task(courier().deliver(receiver.url, MESSAGE))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await left.wait()


async def test_a_proxy_in_the_environment_changes_nothing(receiver: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """R62: what is judged is what is dialled."""
    async with Upstream() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert Answered(204) == await courier().deliver(receiver.url, MESSAGE)
        assert [] == proxy.connections


with_openssl = pytest.mark.skipif(not certificates.available(), reason="there is no openssl program here")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificates.Authority:
    """An authority which the courier of the test trusts."""
    return certificates.new_authority(Path(tmp_path_factory.mktemp("authority")))


def trusting(authority: certificates.Authority, *addresses: str, patience: Patience | None = None) -> Courier:
    tls = ssl.create_default_context(cafile=authority.ca_file)
    return courier(*addresses, patience=patience, tls=tls)


@with_openssl
async def test_a_trusted_certificate(authority: certificates.Authority) -> None:
    """The next tests would pass for any reason without this one."""
    async with Upstream(tls=authority.trusted()) as receiver:
        receiver.default = reply(200)
        assert Answered(200) == await trusting(authority).deliver(receiver.url, MESSAGE)
        assert MESSAGE.body == receiver.log[0].body


@with_openssl
@pytest.mark.parametrize("kind", ["wrong_host", "expired", "self_signed"])
async def test_a_bad_certificate(authority: certificates.Authority, kind: str) -> None:
    """Nothing is sent to who can not prove who it is, and not without TLS either."""
    async with Upstream(tls=getattr(authority, kind)()) as receiver:
        assert Fault.UNTRUSTED is await trusting(authority).deliver(receiver.url, MESSAGE)
        assert [] == receiver.log


@with_openssl
async def test_the_certificate_must_be_the_names(authority: certificates.Authority) -> None:
    """The name is what the receiver is asked to prove, though an address is dialled."""
    asked: list[str | None] = []
    tls = authority.trusted()
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with Upstream(tls=tls) as receiver:
        result = await trusting(authority, "127.0.0.1").deliver(at(receiver, "hooks.example"), MESSAGE)
        assert (Fault.UNTRUSTED, ["hooks.example"], []) == (result, asked, receiver.log)


@with_openssl
async def test_the_system_decides_whom_to_trust(authority: certificates.Authority) -> None:
    """Without a word from the operator our own authority is a stranger."""
    async with Upstream(tls=authority.trusted()) as receiver:
        assert Fault.UNTRUSTED is await courier().deliver(receiver.url, MESSAGE)


@with_openssl
async def test_no_more_is_read_through_tls(authority: certificates.Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """R53: the same bound, counted after decryption."""
    read = counted(monkeypatch)
    async with Upstream(tls=authority.trusted()) as receiver:
        receiver.default = faults.big(1_000_000_000)
        assert Answered(200) == await trusting(authority, patience=Patience(whole=5.0)).deliver(receiver.url, MESSAGE)
    assert MOST_READ == sum(read)


@with_openssl
async def test_plain_http_where_tls_is_spoken(receiver: Upstream) -> None:
    """A receiver without TLS is not one for https."""
    url = receiver.url.replace("http:", "https:")
    assert await courier(patience=HASTE).deliver(url, MESSAGE) in {Fault.UNTRUSTED, Fault.UNREACHABLE}
    assert [] == receiver.log
