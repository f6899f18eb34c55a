"""Client address: X-Forwarded-For counts only from trusted proxies (R82)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest
from multidict import CIMultiDict

from gateway.http.forwarded import client_address, path_prefix

PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@dataclass
class ForwardedRequest:
    """Stub of the parts of a request that are read."""

    remote: str | None
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)


def address_of(remote: str | None, *forwarded: str) -> str:
    """Return the client address of a request from `remote` with these X-Forwarded-For lines."""
    fields = CIMultiDict([("X-Forwarded-For", line) for line in forwarded])
    return client_address(ForwardedRequest(remote, fields), PROXIES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # sent by an untrusted client
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the first was sent by the client
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # two proxies of ours
        ("10.0.0.1", ["198.51.100.1", "10.0.0.2, 10.0.0.3"], "198.51.100.1"),  # in two lines
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.5, 10.0.0.2"], "10.0.0.5"),  # from within
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7,fd00::2"], "2001:db8::7"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, CANARY"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:1234"], "198.51.100.1"),  # with the port, as Azure's gateway writes it
        ("10.0.0.1", ["[2001:db8::7]:443, [fd00::2]"], "2001:db8::7"),
        ("10.0.0.1", ['"[2001:db8::7]:443"'], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.1:x"], "10.0.0.1"),
        ("10.0.0.1", ["[198.51.100.1"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, , 10.0.0.2,"], "198.51.100.1"),  # empty elements do not count (RFC 9110, 5.6.1)
        ("10.0.0.1", [",", "198.51.100.1", ""], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),  # the socket listens on IPv6, the proxy uses IPv4
        ("10.0.0.1", ["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        (None, ["198.51.100.1"], ""),
    ],
)
def test_the_client_address_is_the_last_untrusted_hop(remote: str | None, forwarded: list[str], expected: str) -> None:
    assert expected == address_of(remote, *forwarded)


def test_without_trusted_proxies_the_header_is_not_looked_at() -> None:
    fields = CIMultiDict({"X-Forwarded-For": "198.51.100.1"})
    assert "10.0.0.1" == client_address(ForwardedRequest("10.0.0.1", fields), [])  # type: ignore[arg-type]


def test_a_long_chain_is_not_followed_for_ever() -> None:
    """A field may have 8 kB, and there may be a hundred fields."""
    hops = ", ".join(["198.51.100.1"] + ["10.0.0.2"] * 100)
    assert "10.0.0.2" == address_of("10.0.0.1", hops)


@pytest.mark.parametrize(
    ("remote", "lines", "expected"),
    [
        ("10.0.0.1", [], ""),
        ("10.0.0.1", ["/ai"], "/ai"),
        ("::ffff:10.0.0.1", ["/ai"], "/ai"),
        ("10.0.0.1", ["/ai/"], "/ai"),
        ("10.0.0.1", ["/"], ""),
        ("10.0.0.1", ["/outer, /inner/"], "/outer/inner"),
        ("10.0.0.1", ["/outer", "/inner"], "/outer/inner"),
        ("203.0.113.9", ["/ai"], ""),  # no trusted proxy
        (None, ["/ai"], ""),
        ("10.0.0.1", ["//evil.example"], ""),
        ("10.0.0.1", ["https://evil.example"], ""),
        ("10.0.0.1", ["ai"], ""),
        ("10.0.0.1", ["/a/../b"], ""),
        ("10.0.0.1", ["/a\\b"], ""),
        ("10.0.0.1", ["/a b"], ""),
        ("10.0.0.1", ["/a?b"], ""),
        ("10.0.0.1", ["/" + "a" * 500], ""),
    ],
)
def test_the_prefix_that_a_proxy_has_removed(remote: str | None, lines: list[str], expected: str) -> None:
    """Only a trusted proxy may set it, and only to a path."""
    fields = CIMultiDict([("X-Forwarded-Prefix", line) for line in lines])
    assert expected == path_prefix(ForwardedRequest(remote, fields), PROXIES)  # type: ignore[arg-type]
