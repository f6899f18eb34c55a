"""Base URLs, networks, and allowed callback targets."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest

from gateway.settings.types.addresses import (
    check_allowed_target,
    check_base_url,
    check_host,
    check_store_url,
    is_plaintext_remote,
    parse_network,
)

SERVERS = ["redis://cache:6379/0", "rediss://a", "redis://app@[::1]:1/15", "redis://a/"]
NO_SERVERS = ["redis://", "redis://:password@a", "redis://a:b@c", "redis://a/x", "redis://a/0/1", "redis://a/0?b"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://api.promptlayer.com", "https://api.promptlayer.com"),
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("http://prompt_sandbox:8001", "http://prompt_sandbox:8001"),
    ],
)
def test_base_url(written: str, read: str) -> None:
    """Scheme, host, optional port and path; without a trailing slash."""
    assert read == check_base_url(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "api.example.com",
        "https://",
        "https:///v1",
        "https:api.example.com",
        "//api.example.com",
        "file:///etc/passwd",
        "https://a b",
        " https://a",
        "https://a\n",
        "https://a\\@b",
        "https://ⓛocalhost",
        "https://a:0",
        "https://a:99999",
        "https://a:x",
        "https://[::1",
        "https://-a",
        "https://a..b",
        "https://127.1",
        "https://0x7f.1",
        "https://2130706433",
        "https://user@a",
        "https://user:password@a",
        "https://@a",
        "https://a?",
        "https://a/?b=c",
        "https://a#",
        "https://a/#b",
    ],
)
def test_not_a_base_url(written: str) -> None:
    """Ambiguous text, and parts that a base URL does not have."""
    with pytest.raises(ValueError, match=r"must|is not"):
        check_base_url(written)


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("https://api.example.com", False),
        ("http://127.0.0.1:8001", False),
        ("http://127.9.9.9", False),
        ("http://[::1]", False),
        ("http://localhost:8001", False),
        ("http://LOCALHOST", False),
        ("http://localhost.example.com", True),
        ("http://10.0.0.1", True),
        ("http://0.0.0.0", True),
        ("http://sandbox", True),
    ],
)
def test_exposed(url: str, exposed: bool) -> None:  # noqa: FBT001 - the second column
    """Plain http is safe to loopback addresses only."""
    assert exposed is is_plaintext_remote(url)


@pytest.mark.parametrize("url", ["sqlite:///var/a.db", "sqlite:////var/a.db", "memory://", *SERVERS])
def test_store_url(url: str) -> None:
    """A store is a file, this process's memory, or Redis."""
    assert url == check_store_url(url)


@pytest.mark.parametrize(
    "url", ["", "sqlite", "sqlite://", "sqlite:///", "sqlite://u@/a.db", "postgres://a", "memory:", *NO_SERVERS]
)
def test_not_a_store_url(url: str) -> None:
    """Everything else, passwords in particular."""
    with pytest.raises(ValueError, match="must"):
        check_store_url(url)


def test_network() -> None:
    """A network, or an address as a network of one; numbers are not addresses."""
    assert ip_network("10.0.0.0/8") == parse_network("10.0.0.0/8")
    assert ip_network("::1/128") == parse_network("::1")
    for wrong in ("", "10.0.0.1/8", "10.0.0", "example.com", 10, None):
        with pytest.raises(ValueError, match="must be an address or a network"):
            parse_network(wrong)


@pytest.mark.parametrize(
    "entry",
    [
        "hooks.example.com",
        "*.example.com",
        "hooks.internal.example.com:8443",
        "10.1.0.0/16",
        "10.1.2.3",
        "10.1.2.3:80",
        "fd00::/8",
        "[::1]:8443",
        "localhost:8080",
    ],
)
def test_allowed(entry: str) -> None:
    """Host, *.host, host:port or network."""
    assert entry in {check_allowed_target(entry), check_allowed_target(entry).removesuffix("/32")}


@pytest.mark.parametrize(
    "entry", ["", "*", "https://a", "a/b", "a:0", "a:65536", "a:b", "*.*.a", "a.*", "user@a", "a b", "10.0.0.1/8"]
)
def test_not_allowed(entry: str) -> None:
    """A pattern can allow only names below a host."""
    with pytest.raises(ValueError, match="must be a host"):
        check_allowed_target(entry)


def test_host() -> None:
    """A listening address is an address or a host name."""
    for sound in ("127.0.0.1", "0.0.0.0", "::", "::1", "localhost", "gateway.internal"):
        assert sound == check_host(sound)
    for wrong in ("", "a b", "[::1]", "127.0.0.1:80", "256.0.0.1"):
        with pytest.raises(ValueError, match="must be an address"):
            check_host(wrong)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("redis+sentinel://host", "must be such as redis+sentinel"),
        ("redis+sentinel://host/", "must be such as redis+sentinel"),
        ("redis+sentinel://host/name/x", "must be such as redis+sentinel"),
        ("redis+sentinel://host/name?db=1", "must be such as redis+sentinel"),
        ("sqlite+sentinel://host/name", "must be such as redis+sentinel"),
        ("redis+sentinel://user:word@host/name", "must not contain a password"),
        ("redis+sentinel://host,/name", "must name at most 20 hosts"),
        ("redis+sentinel:///name", "must name at most 20 hosts"),
        ("redis+sentinel://" + ",".join(["host"] * 21) + "/name", "must name at most 20 hosts"),
    ],
)
def test_an_invalid_sentinel_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check_store_url(url)


def test_a_sentinel_url_is_accepted_as_it_is() -> None:
    url = "rediss+sentinel://app@sentinel-0,sentinel-1:7000/orders/3"
    assert url == check_store_url(url)
