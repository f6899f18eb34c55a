"""Egress policy: permitted callback targets, and no connection to any other (SSRF)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallbackUrlRefused
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.outbound.webhook.egress_policy import EgressPolicy
from gateway.outbound.webhook.fair_resolver import Resolver, SystemResolver
from gateway.outbound.webhook.http1_connection import DeliveryFault
from gateway.outbound.webhook.ip_ranges import is_public
from gateway.outbound.webhook.sender import WebhookMessage, WebhookResponse, WebhookSender
from tests.support.clock import ManualClock
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port, unresponsive_port

MESSAGE = WebhookMessage("msg_run_1", 1_795_000_000, "v1,c2lnbmF0dXJl", b"{}")
PUBLIC = "93.184.215.14"


@dataclass(slots=True)
class ScriptedResolver:
    """Resolver with a script: each look-up uses the next answer, and the last one repeats."""

    answers: list[Sequence[str]] = field(default_factory=list)
    lookups: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.lookups.append((host, port))
        if not self.answers:
            raise OSError
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
async def permitted_receiver(receiver: FakeUpstream) -> AsyncIterator[list[bytes]]:
    """Receiver on 127.0.0.2 with the same port; yields the request lines."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.2", port_of(receiver)):
        yield seen


def port_of(receiver: FakeUpstream) -> int:
    port = urlsplit(receiver.url).port
    assert port is not None
    return port


def refusal_text(refusing: Callable[[], object]) -> str:
    with pytest.raises(CallbackUrlRefused) as refused:
        refusing()
    return refused.value.detail


async def verdict(egress: EgressPolicy, url: str) -> str:
    """Return the text of the refusal, or "fine"."""
    try:
        await egress.resolve(egress.check(url))
    except CallbackUrlRefused as refused:
        return refused.detail
    return "fine"


REFUSED = [
    *("127.0.0.1", "127.9.9.9", "localhost", "localhost.", "LOCALHOST", "a.localhost", "0.0.0.0", "[::]", "[::1]"),
    *("169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255"),
    *("192.168.0.1", "100.64.0.1", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]"),
    *("[2002:a9fe:a9fe::1]", "[::7f00:1]", "0x7f000001", "2130706433", "127.1", "0177.0.0.1", "①②⑦.0.0.1"),
    *("ⓛocalhost", "127。0。0。1", "metadata.google.internal", "metadata.google.internal.", "metadata", "receiver"),
    *("printer.local", "a.localdomain", "router.lan", "files.intranet", "a.default.svc", "1.0.0.127.in-addr.arpa"),
    *("user:pw@example.com", "user@example.com", "example.com:22", "example.com:80", "example.com:8080"),
    *("1.1.1.1:22", "[fe80::1]", "224.0.0.1", "255.255.255.255", "168.63.129.16", "127.0.0.1:8443"),
    *("a\\@example.com", "exam\tple.com", "exam\r\nple.com", f"example.com/{'a' * 2048}", "example.com/#a"),
]


@pytest.mark.parametrize("place", REFUSED)
def test_refused(place: str) -> None:
    """R56: refused by the URL alone, without a look-up."""
    names = ScriptedResolver()
    with pytest.raises(CallbackUrlRefused) as refused:
        EgressPolicy([], resolver=names).check(f"https://{place}")
    assert ("callback_url_refused", []) == (refused.value.code, names.lookups)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "http://example.com:443/",
        "http://1.1.1.1/",
        "file:///etc/passwd",
        "ftp://example.com/",
        "gopher://example.com/",
        "https:example.com",
    ],
)
def test_refused_schemes(url: str) -> None:
    """R56: https only, unless plain http is allowed."""
    assert "The callback_url must be" in refusal_text(lambda: EgressPolicy([]).check(url))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?a=b",
        "https://example.com:8443/",
        "https://1.1.1.1/",
        "https://[2606:4700::1111]/",
        "https://bücher.example/",
    ],
)
async def test_public_https_is_permitted(url: str) -> None:
    """A public target is accepted."""
    assert await verdict(EgressPolicy([], resolver=ScriptedResolver([[PUBLIC]])), url) == "fine"


@given(st.from_regex(r"https://(\[[0-9a-f:.]{2,20}\]|[0-9a-fx.①。]{1,20}|[a-z.]{1,12})(:[0-9]{1,4})?/", fullmatch=True))
def test_no_notation_gets_through(url: str) -> None:
    """R56: every accepted address is public, in any notation."""
    try:
        target = EgressPolicy([]).check(url)
    except CallbackUrlRefused:
        return
    assert target.port in {443, 8443}
    assert is_public(target.address) if target.address else "." in target.host


@pytest.mark.parametrize(
    ("allow", "url", "addresses", "fine"),
    [
        # a name may be private and plain http, at its port
        ("hooks.corp.example", "http://hooks.corp.example:8080/", ["10.1.2.3"], True),
        ("hooks.corp.example:8443", "http://hooks.corp.example:8443/", ["127.0.0.1"], True),
        ("hooks.corp.example:8443", "http://hooks.corp.example:8444/", ["10.1.2.3"], False),
        ("hooks.corp.example:8443", "https://hooks.corp.example/", ["10.1.2.3"], False),
        ("hooks.corp.example:8443", "https://hooks.corp.example/", [PUBLIC], True),
        ("*.corp.example", "http://a.corp.example/", ["fd12::1"], True),
        ("*.corp.example", "http://corp.example/", ["10.1.2.3"], False),
        ("localhost:8080", "http://localhost:8080/", ["::1", "127.0.0.1"], True),
        ("localhost:8080", "http://127.0.0.1:8080/", [], False),
        ("receiver", "http://receiver/", ["172.18.0.2"], True),
        # but an allowed name never permits link-local, multicast or metadata addresses
        ("*.corp.example", "https://a.corp.example/", ["169.254.169.254"], False),
        ("*.corp.example", "https://a.corp.example/", ["fd00:ec2::254"], False),
        ("*.corp.example", "https://a.corp.example/", ["0.0.0.0"], False),
        ("*.corp.example", "https://a.corp.example/", ["64:ff9b::a01:203"], False),
        # a network may be reached under every name and port, and in plain http
        ("10.1.0.0/16", "http://10.1.2.3:5000/", [], True),
        ("10.1.0.0/16", "https://10.2.2.3/", [], False),
        ("10.1.0.0/16", "http://receiver:5000/", ["10.1.2.3"], True),
        ("10.1.0.0/16", "http://receiver:5000/", ["10.2.2.3"], False),
        ("10.1.0.0/16", "http://example.com/", [PUBLIC], False),
        ("10.1.0.0/16", "https://example.com:22/", [PUBLIC], False),
        ("10.1.0.0/16", "https://localhost/", [PUBLIC], False),
        ("10.1.2.3:8080", "http://10.1.2.3:8080/", [], True),
        ("10.1.2.3:8080", "http://10.1.2.3/", [], False),
        ("[fd12::1]:8080", "http://[fd12::1]:8080/", [], True),
        ("169.254.0.0/16", "http://169.254.169.254/", [], True),
        # an entry has no effect on other targets
        ("10.1.0.0/16", "https://example.com/", [PUBLIC], True),
        ("hooks.corp.example", "http://example.com/", [PUBLIC], False),
    ],
)
async def test_allow(allow: str, url: str, addresses: list[str], fine: bool) -> None:  # noqa: FBT001 - the last column
    """Only allowed targets may be private or plain http."""
    assert fine is (await verdict(EgressPolicy([allow], resolver=ScriptedResolver([addresses])), url) == "fine")


async def test_a_name_without_a_permitted_address_is_refused() -> None:
    """R60: private, unknown, without address or unresponsive name servers: the refusal is the same."""

    async def never(_host: str, _port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    look_ups: list[Resolver] = [
        ScriptedResolver([["10.0.0.1"]]),
        ScriptedResolver([["169.254.169.254", "::1"]]),
        ScriptedResolver([[]]),
        ScriptedResolver(),
        never,
    ]
    verdicts = {
        await verdict(EgressPolicy([], resolver=each, lookup_timeout=0.01), "https://example.com/") for each in look_ups
    }
    assert 1 == len(verdicts - {"fine"})


async def test_a_refusal_does_not_reveal_a_private_target(receiver: FakeUpstream) -> None:
    """R60: listening, refusing, silent or elsewhere: the same text, and no connection."""
    egress = EgressPolicy([], resolver=SystemResolver())
    with closed_port() as closed, unresponsive_port() as silent:
        places = [receiver.url, closed, silent, "http://127.0.0.1:443", "http://10.9.8.7", "http://localhost:8443"]
        documents = {await verdict(egress, place.replace("http:", "https:")) for place in places}
    assert 1 == len(documents - {"fine"})
    assert [] == receiver.connections


async def test_the_text_of_a_refusal_does_not_depend_on_the_network() -> None:
    """R60: with an allowed network, a private name and an unknown one get the same text."""
    hidden, missing = (
        EgressPolicy(["10.1.0.0/16"], resolver=ScriptedResolver([["10.9.9.9"]])),
        EgressPolicy(["10.1.0.0/16"], resolver=ScriptedResolver()),
    )
    assert await verdict(hidden, "http://db:5432/") == await verdict(missing, "http://db:5432/") != "fine"


async def test_rebinding(receiver: FakeUpstream) -> None:
    """R57: a name that was permitted at the start of the run is checked again at the delivery."""
    names = ScriptedResolver([["198.51.100.7"], ["127.0.0.1"]])
    egress = EgressPolicy(["198.51.100.0/24"], resolver=names)
    url = f"http://rebind.example:{port_of(receiver)}/"
    assert await verdict(egress, url) == "fine"
    assert DeliveryFault.REFUSED is await WebhookSender(egress, ManualClock()).deliver(url, MESSAGE)
    assert (2, []) == (len(names.lookups), receiver.connections)


async def test_the_checked_address_is_connected_to(receiver: FakeUpstream, permitted_receiver: list[bytes]) -> None:
    """R57: one look-up for each delivery; later answers of the name server have no effect."""
    names = ScriptedResolver([["127.0.0.2"], ["127.0.0.1"]])
    courier = WebhookSender(EgressPolicy(["127.0.0.2"], resolver=names), ManualClock())
    assert WebhookResponse(204) == await courier.deliver(f"http://rebind.example:{port_of(receiver)}/", MESSAGE)
    assert (1, 1, []) == (len(names.lookups), len(permitted_receiver), receiver.connections)


@pytest.mark.parametrize("records", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"]])
async def test_a_private_record_beside_a_permitted_one(
    receiver: FakeUpstream, permitted_receiver: list[bytes], records: list[str]
) -> None:
    """R58: only the permitted one of two records is connected, in any order."""
    courier = WebhookSender(EgressPolicy(["127.0.0.2"], resolver=ScriptedResolver([records])), ManualClock())
    assert WebhookResponse(204) == await courier.deliver(f"http://two.example:{port_of(receiver)}/", MESSAGE)
    assert (1, []) == (len(permitted_receiver), receiver.connections)


async def test_the_listener_of_these_tests_can_be_reached(receiver: FakeUpstream) -> None:
    """R57, R58: positive control: without the policy the name leads to it."""
    courier = WebhookSender(EgressPolicy(["127.0.0.0/8"], resolver=ScriptedResolver([["127.0.0.1"]])), ManualClock())
    assert WebhookResponse(204) == await courier.deliver(f"http://rebind.example:{port_of(receiver)}/", MESSAGE)
    assert 1 == len(receiver.connections)


async def test_only_permitted_addresses_come_back() -> None:
    """R58: the public record of two is returned, and each address once."""
    egress = EgressPolicy([], resolver=ScriptedResolver([["10.0.0.1", PUBLIC, "::1", PUBLIC, "2606:4700::1111"]]))
    assert (ip_address(PUBLIC), ip_address("2606:4700::1111")) == await egress.resolve(
        egress.check("https://a.example")
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "[::ffff:127.0.0.1]", "0.0.0.0", "[::]"])
async def test_the_gateway_itself_is_refused(host: str) -> None:
    """R62: every listening address, even if allowed; neighbouring addresses are permitted."""
    egress = EgressPolicy(
        ["0.0.0.0/0", "::/0", "localhost"],
        own_addresses=lambda: [("0.0.0.0", 8080)],
        resolver=ScriptedResolver([["127.0.0.1"]]),
    )
    assert await verdict(egress, f"http://{host}:8080/") != "fine"
    assert await verdict(egress, f"http://{host}:8081/") == "fine"
    assert await verdict(egress, "http://192.0.2.1:8080/") == "fine"


async def test_the_gateway_at_one_address() -> None:
    """R62: a gateway that listens at one address refuses only that one, and 0.0.0.0."""
    egress = EgressPolicy(["0.0.0.0/0", "::/0"], own_addresses=lambda: [("127.0.0.1", 8080), ("::1", 8080)])
    verdicts = [
        await verdict(egress, f"http://{host}:8080/") == "fine"
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "[::1]", "127.0.0.2", "10.0.0.1")
    ]
    assert [False, False, False, False, True, True] == verdicts


async def test_the_gateway_by_its_name() -> None:
    """R62: a known name of the gateway is refused without a look-up."""
    names = ScriptedResolver([[PUBLIC]])
    egress = EgressPolicy(["gateway.example"], own_addresses=lambda: [("gateway.example", 443)], resolver=names)
    assert await verdict(egress, "https://Gateway.example./") != "fine"
    assert [] == names.lookups


async def test_the_systems_names() -> None:
    """The system resolver returns addresses, and raises OSError for an impossible name."""
    assert {"127.0.0.1"} == set(await SystemResolver()("127.0.0.1", 443))
    assert set(await SystemResolver()("localhost", 443)) & {"127.0.0.1", "::1"}
    with pytest.raises(OSError, match=r".+"):
        await SystemResolver()("fe80::1%no-such-link", 443)


async def test_the_allowlist_can_be_changed() -> None:
    """R100: from the next decision on."""
    egress = EgressPolicy(["10.1.0.0/16"], resolver=ScriptedResolver([["10.1.0.1"]]))
    egress.reconfigure(CallbackAllowlist(["10.2.0.0/16"]))
    verdicts = [await verdict(egress, f"https://10.{network}.0.1/") for network in (1, 2)]
    assert [False, True] == [each == "fine" for each in verdicts]
