"""Webhook sender: request, result, and bounds of a delivery."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.http1_connection import MAX_RESPONSE_BYTES, DeliveryFault, WebhookConnection
from gateway.outbound.webhook.sender import WebhookMessage, WebhookResponse, WebhookSender, WebhookTimeouts
from tests.support.clock import ManualClock
from tests.support.fake_upstream import certificates, faults
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.responses import redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port, unresponsive_port

MESSAGE = WebhookMessage("msg_run_1", 1_795_000_000, "v1,Zmlyc3Q= v1,c2Vjb25k", b'{"type":"run.finished"}')
SHORT_TIMEOUTS = WebhookTimeouts(total=0.4, connect=0.2)


def new_sender(
    *addresses: str, timeouts: WebhookTimeouts | None = None, tls: ssl.SSLContext | None = None
) -> WebhookSender:
    """Return a sender for all loopback targets, whose resolver returns `addresses` for every name."""

    async def look_up(_host: str, _port: int) -> list[str]:
        return list(addresses)

    return WebhookSender(EgressPolicy(["127.0.0.0/8"], resolver=look_up), ManualClock(), timeouts=timeouts, tls=tls)


def url_with_host(receiver: FakeUpstream, host: str) -> str:
    """Return the receiver's URL with this host name."""
    parsed = urlsplit(receiver.url)
    return f"{parsed.scheme}://{host}:{parsed.port}/hook"


async def test_the_request(receiver: FakeUpstream) -> None:
    """Exactly these header fields: neither the client's nor a key of the gateway."""
    assert WebhookResponse(204) == await new_sender().deliver(receiver.url + "/hook?token=a%20b", MESSAGE)
    (request,) = receiver.received
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


async def test_without_a_signature(receiver: FakeUpstream) -> None:
    """Without a secret there is no signature field."""
    await new_sender().deliver(receiver.url, WebhookMessage("msg_run_1", 1, "", b"{}"))
    assert receiver.received[0].header("webhook-signature") is None


async def test_a_large_message(receiver: FakeUpstream) -> None:
    """Larger than any buffer on the way."""
    body = b'"' + b"x" * 8_000_000 + b'"'
    assert WebhookResponse(204) == await new_sender().deliver(receiver.url, WebhookMessage("msg_run_1", 1, "", body))
    assert body == receiver.received[0].body


async def test_the_host_keeps_its_name(receiver: FakeUpstream) -> None:
    """The address is connected, the Host field has the name."""
    assert WebhookResponse(204) == await new_sender("127.0.0.1").deliver(
        url_with_host(receiver, "hooks.example"), MESSAGE
    )
    assert f"hooks.example:{urlsplit(receiver.url).port}" == receiver.received[0].header("host")


@pytest.mark.parametrize("status", [200, 204, 299, 301, 404, 410, 429, 500, 503, 599])
async def test_the_status_is_the_result(receiver: FakeUpstream, status: int) -> None:
    """R52: every status is returned unchanged."""
    receiver.default = reply(status)
    assert WebhookResponse(status) == await new_sender().deliver(receiver.url, MESSAGE)


async def test_retry_after(receiver: FakeUpstream) -> None:
    """R52: returned in seconds from now."""
    receiver.script(
        "POST",
        "/",
        [
            reply(503, headers={"Retry-After": "120"}),
            reply(429, headers={"Retry-After": "Sat, 21 Nov 2026 12:00:30 GMT"}),
        ],
    )
    results = [await new_sender().deliver(receiver.url, MESSAGE) for _ in range(2)]
    assert [WebhookResponse(503, 120.0), WebhookResponse(429, 30.0)] == results


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(receiver: FakeUpstream, status: int) -> None:
    """R59: neither to a metadata service nor to a permitted target."""
    async with FakeUpstream() as elsewhere:
        receiver.script("POST", "/", [redirect(elsewhere.url, status), redirect("http://169.254.169.254/", status)])
        assert WebhookResponse(status) == await new_sender().deliver(receiver.url, MESSAGE)
        assert WebhookResponse(status) == await new_sender().deliver(receiver.url, MESSAGE)
        assert (2, 2, []) == (len(receiver.received), len(receiver.connections), elsewhere.connections)


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        (faults.rst_after_request, DeliveryFault.DISCONNECTED),
        (faults.fin_after_request, DeliveryFault.DISCONNECTED),
        (faults.hang, DeliveryFault.TIMEOUT),
        (faults.drip(50, head_first=False), DeliveryFault.TIMEOUT),
        (faults.GARBAGE, DeliveryFault.INVALID_REPLY),
        (faults.interim_responses(20_000), DeliveryFault.INVALID_REPLY),
        (faults.interim_responses(1, 101), DeliveryFault.INVALID_REPLY),
        (faults.two_lengths(reply(200, {})), DeliveryFault.INVALID_REPLY),
        (faults.long_header(), DeliveryFault.INVALID_REPLY),
    ],
)
async def test_no_status(receiver: FakeUpstream, script: faults.ResponseScript, fault: DeliveryFault) -> None:
    """R52, R53: the delivery and its connection end."""
    receiver.default = script
    timeouts = SHORT_TIMEOUTS if fault is DeliveryFault.TIMEOUT else None
    assert fault is await new_sender(timeouts=timeouts).deliver(receiver.url, MESSAGE)
    await receiver.stop()
    assert 1 == len(receiver.connections)


@pytest.mark.parametrize(
    "script",
    [
        faults.drip(50),
        faults.large_response(1_000_000_000),
        faults.large_chunked_response(1_000_000_000),
        faults.compression_bomb(50_000_000),
    ],
)
async def test_an_answer_without_an_end(
    receiver: FakeUpstream, script: faults.ResponseScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R53: at most 20 kB of 1 GB are read, a slow response ends at the timeout, and the status counts."""
    read, left = count_bytes_read(monkeypatch), asyncio.Event()
    receiver.default = until_closed(script, left)
    assert WebhookResponse(200) == await new_sender(timeouts=WebhookTimeouts(total=1.0)).deliver(receiver.url, MESSAGE)
    assert sum(read) <= MAX_RESPONSE_BYTES
    async with asyncio.timeout(5):
        await left.wait()


@pytest.mark.parametrize("script", [faults.headers_then_fin, faults.truncate(3), faults.chunked_cut_off()])
async def test_an_answer_that_is_cut_off_behind_its_status(
    receiver: FakeUpstream, script: faults.ResponseScript
) -> None:
    """The status is final."""
    receiver.default = script
    assert WebhookResponse(200) == await new_sender().deliver(receiver.url, MESSAGE)


def until_closed(script: faults.ResponseScript, left: asyncio.Event) -> faults.ResponseScript:
    """Run the script, then wait until the other side closes the connection."""

    async def run(wire: UpstreamConnection) -> None:
        try:
            await script(wire)
        finally:
            await wire.peer_closed.wait()
            left.set()

    return run


def count_bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the number of bytes of each read."""
    read: list[int] = []
    parse = WebhookConnection.buffer_updated

    def count(self: WebhookConnection, nbytes: int) -> None:
        read.append(nbytes)
        parse(self, nbytes)

    monkeypatch.setattr(WebhookConnection, "buffer_updated", count)
    return read


def after_barrier(barrier: asyncio.Barrier) -> faults.ResponseScript:
    """Wait for the barrier."""

    async def run(_wire: UpstreamConnection) -> None:
        await barrier.wait()

    return run


async def test_a_slow_receiver_delays_no_other(receiver: FakeUpstream) -> None:
    """R53: deliveries are independent."""
    async with FakeUpstream() as slow:
        reached = asyncio.Barrier(51)
        slow.default = faults.sequence(after_barrier(reached), faults.hang)
        one = new_sender()
        waiting = [asyncio.create_task(one.deliver(slow.url, MESSAGE)) for _ in range(50)]
        await reached.wait()
        assert WebhookResponse(204) == await one.deliver(receiver.url, MESSAGE)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        assert 50 == len(await asyncio.gather(*waiting, return_exceptions=True))


async def test_an_unreachable_receiver() -> None:
    """A refused and an unanswered connection are the same fault."""
    with closed_port() as closed, unresponsive_port() as silent:
        faults_seen = [await new_sender(timeouts=SHORT_TIMEOUTS).deliver(url, MESSAGE) for url in (closed, silent)]
    assert [DeliveryFault.UNREACHABLE, DeliveryFault.UNREACHABLE] == faults_seen


async def test_the_next_address_is_tried(receiver: FakeUpstream) -> None:
    """A name may have addresses without a listener; nothing is sent before a connection exists."""
    url = url_with_host(receiver, "hooks.example")
    assert WebhookResponse(204) == await new_sender("127.0.0.3", "127.0.0.2", "127.0.0.1").deliver(url, MESSAGE)
    assert DeliveryFault.UNREACHABLE is await new_sender("127.0.0.4", "127.0.0.3", "127.0.0.2", "127.0.0.1").deliver(
        url, MESSAGE
    )
    assert 1 == len(receiver.received)


async def test_a_silent_address_does_not_use_up_the_timeout() -> None:
    """The other addresses are tried meanwhile (RFC 8305)."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    with unresponsive_port() as silent:
        port = urlsplit(silent).port
        async with await asyncio.start_server(answer, "127.0.0.2", port):
            one = new_sender("127.0.0.1", "127.0.0.2", timeouts=WebhookTimeouts(total=10.0, connect=30.0))
            assert WebhookResponse(204) == await one.deliver(f"http://hooks.example:{port}/", MESSAGE)


@pytest.mark.parametrize("url", ["https://169.254.169.254/", "http://example.com/", "", "https://a\ud800/", "http://["])
async def test_a_target_that_may_not_be_called(url: str) -> None:
    """A target may be refused at the delivery; that is a result, not an error."""
    assert DeliveryFault.REFUSED is await new_sender("10.0.0.1").deliver(url, MESSAGE)


async def test_a_name_that_does_not_resolve_in_time() -> None:
    """The look-up is part of the timeout."""

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    hasty = WebhookSender(EgressPolicy([], resolver=never), ManualClock(), timeouts=SHORT_TIMEOUTS)
    assert DeliveryFault.UNREACHABLE is await hasty.deliver("https://example.com/", MESSAGE)


async def test_a_cancelled_delivery_leaves_nothing_behind(receiver: FakeUpstream) -> None:
    """A shutdown does not wait for receivers."""
    reached, left = asyncio.Barrier(2), asyncio.Event()
    receiver.default = until_closed(after_barrier(reached), left)
    task = asyncio.create_task(new_sender().deliver(receiver.url, MESSAGE))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await left.wait()


async def test_a_proxy_in_the_environment_changes_nothing(
    receiver: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R62: the checked target is the connected one."""
    async with FakeUpstream() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert WebhookResponse(204) == await new_sender().deliver(receiver.url, MESSAGE)
        assert [] == proxy.connections


with_openssl = pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl program here")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> certificates.CertificateAuthority:
    """Authority that the sender of the test trusts."""
    return certificates.new_authority(Path(tmp_path_factory.mktemp("authority")))


def new_trusting_sender(
    authority: certificates.CertificateAuthority, *addresses: str, timeouts: WebhookTimeouts | None = None
) -> WebhookSender:
    tls = ssl.create_default_context(cafile=authority.ca_file)
    return new_sender(*addresses, timeouts=timeouts, tls=tls)


@with_openssl
async def test_a_trusted_certificate(authority: certificates.CertificateAuthority) -> None:
    """Positive control of the next tests."""
    async with FakeUpstream(tls=authority.trusted()) as receiver:
        receiver.default = reply(200)
        assert WebhookResponse(200) == await new_trusting_sender(authority).deliver(receiver.url, MESSAGE)
        assert MESSAGE.body == receiver.received[0].body


@with_openssl
@pytest.mark.parametrize("kind", ["wrong_host", "expired", "self_signed"])
async def test_a_bad_certificate(authority: certificates.CertificateAuthority, kind: str) -> None:
    """Nothing is sent to a receiver without a valid certificate, or without TLS."""
    async with FakeUpstream(tls=getattr(authority, kind)()) as receiver:
        assert DeliveryFault.UNTRUSTED is await new_trusting_sender(authority).deliver(receiver.url, MESSAGE)
        assert [] == receiver.received


@with_openssl
async def test_the_certificate_must_be_the_names(authority: certificates.CertificateAuthority) -> None:
    """The certificate must be valid for the name, although an address is connected."""
    asked: list[str | None] = []
    tls = authority.trusted()
    tls.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with FakeUpstream(tls=tls) as receiver:
        result = await new_trusting_sender(authority, "127.0.0.1").deliver(
            url_with_host(receiver, "hooks.example"), MESSAGE
        )
        assert (DeliveryFault.UNTRUSTED, ["hooks.example"], []) == (result, asked, receiver.received)


@with_openssl
async def test_the_system_certificates_are_the_default(authority: certificates.CertificateAuthority) -> None:
    """By default the authority of the test is not trusted."""
    async with FakeUpstream(tls=authority.trusted()) as receiver:
        assert DeliveryFault.UNTRUSTED is await new_sender().deliver(receiver.url, MESSAGE)


@with_openssl
async def test_no_more_is_read_through_tls(
    authority: certificates.CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R53: the same bound, counted after decryption."""
    read = count_bytes_read(monkeypatch)
    async with FakeUpstream(tls=authority.trusted()) as receiver:
        receiver.default = faults.large_response(1_000_000_000)
        assert WebhookResponse(200) == await new_trusting_sender(
            authority, timeouts=WebhookTimeouts(total=5.0)
        ).deliver(receiver.url, MESSAGE)
    assert MAX_RESPONSE_BYTES == sum(read)


@with_openssl
async def test_plain_http_where_tls_is_spoken(receiver: FakeUpstream) -> None:
    """A receiver without TLS fails for https."""
    url = receiver.url.replace("http:", "https:")
    assert await new_sender(timeouts=SHORT_TIMEOUTS).deliver(url, MESSAGE) in {
        DeliveryFault.UNTRUSTED,
        DeliveryFault.UNREACHABLE,
    }
    assert [] == receiver.received
