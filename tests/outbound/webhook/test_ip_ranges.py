"""Classification of IP addresses: public, private, local."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_address
from typing import NoReturn

import pytest

from gateway.outbound.webhook.ip_ranges import is_local, is_private, is_public

PUBLIC = ["1.1.1.1", "93.184.215.14", "172.15.255.255", "172.32.0.1", "192.169.0.1", "223.255.255.255"]
PUBLIC_6 = ["2606:4700::1111", "2a00:1450::1", "2001:200::1", "2620:fe::fe"]
PRIVATE = ["10.1.2.3", "100.64.0.1", "127.0.0.1", "127.9.9.9", "172.16.0.1", "172.31.255.255", "192.168.1.1"]
PRIVATE_6 = ["::1", "fc00::1", "fd12:3456::1"]
NEITHER_PUBLIC_NOR_PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "100.100.100.200",
    "168.63.129.16",
    "169.254.169.254",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:1.1.1.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::101:101",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fd00:42::42",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("text", [*PUBLIC, *PUBLIC_6])
def test_public(text: str) -> None:
    """Global addresses, up to the bounds of the special ranges."""
    assert (True, False) == (is_public(ip_address(text)), is_private(ip_address(text)))


@pytest.mark.parametrize("text", [*PRIVATE, *PRIVATE_6])
def test_private(text: str) -> None:
    """Ranges that an operator may allow."""
    assert (False, True) == (is_public(ip_address(text)), is_private(ip_address(text)))


@pytest.mark.parametrize("text", NEITHER_PUBLIC_NOR_PRIVATE)
def test_neither(text: str) -> None:
    """R56: metadata, multicast, documentation, and addresses that embed others, public ones too."""
    assert (False, False) == (is_public(ip_address(text)), is_private(ip_address(text)))


def test_local_addresses() -> None:
    """Local addresses are those that can be bound."""
    assert is_local(ip_address("127.0.0.1"))
    assert is_local(ip_address("0.0.0.0"))
    assert not is_local(ip_address("192.0.2.1"))
    assert not is_local(ip_address("2001:db8::1"))


def test_an_address_is_local_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that cannot be probed counts as local, and is refused; a missing family has no local address."""

    def failing(error: int) -> Callable[..., NoReturn]:
        def fail(*_: object) -> NoReturn:
            raise OSError(error, "no socket")

        return fail

    monkeypatch.setattr("socket.socket", failing(errno.EMFILE))
    assert is_local(ip_address("192.0.2.1"))
    monkeypatch.setattr("socket.socket", failing(errno.EAFNOSUPPORT))
    assert not is_local(ip_address("::1"))
