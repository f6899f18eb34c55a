"""Entries of callbacks.allow."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.outbound.webhook.allowlist import CallbackAllowlist


@pytest.mark.parametrize(
    ("entry", "host", "port", "named"),
    [
        ("hooks.example.com", "hooks.example.com", 80, True),
        ("Hooks.Example.com", "hooks.example.com", 80, True),
        ("hooks.example.com", "a.hooks.example.com", 443, False),
        ("hooks.example.com", "example.com", 443, False),
        ("*.example.com", "a.example.com", 443, True),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "evilexample.com", 443, False),
        ("*.example.com:8443", "a.example.com", 8443, True),
        ("*.example.com:8443", "a.example.com", 443, False),
        ("localhost:8080", "localhost", 8080, True),
        ("localhost:8080", "localhost", 8081, False),
        ("10.0.0.0/8", "10.1.2.3", 443, False),
    ],
)
def test_host_entries(entry: str, host: str, port: int, named: bool) -> None:  # noqa: FBT001 - the last column
    """A name matches itself, a pattern its subdomains; a port that port only."""
    assert named is CallbackAllowlist([entry]).allows_host(host, port)


@pytest.mark.parametrize(
    ("entry", "address", "port", "covered"),
    [
        ("10.1.0.0/16", "10.1.255.255", 22, True),
        ("10.1.0.0/16", "10.2.0.0", 22, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3", "10.1.2.4", 80, False),
        ("10.1.2.3:80", "10.1.2.3", 80, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("fd00::/8", "fd12::1", 80, True),
        ("fd00::/8", "10.1.2.3", 80, False),
        ("::1/128", "::1", 80, True),
        ("[::1]:8443", "::1", 8443, True),
        ("[::1]:8443", "::1", 443, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 443, False),
        ("example.com", "10.1.2.3", 443, False),
    ],
)
def test_address_entries(entry: str, address: str, port: int, covered: bool) -> None:  # noqa: FBT001 - the last column
    """An address is in a network, in one notation; a port is that port only."""
    assert covered is CallbackAllowlist([entry]).allows_address(ip_address(address), port)


def test_networks() -> None:
    """Only network entries require the addresses of a name."""
    allowance = CallbackAllowlist(["hooks.example.com", "10.1.2.3:8080"])
    assert (True, False) == (allowance.has_networks(8080), allowance.has_networks(443))
