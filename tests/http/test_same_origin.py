"""The origin of a page is compared with the address that its browser used."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, cast

import pytest
from multidict import CIMultiDict

from gateway.http.request import CompleteRequest, RequestHead
from gateway.http.router import UNKNOWN_ROUTE
from gateway.http.same_origin import has_literal_host, is_same_origin, is_secure

PROXIES = [ip_network("10.0.0.0/8")]


class Transport:
    """A connection from `peer`, with TLS or without."""

    def __init__(self, peer: str, *, tls: bool = False) -> None:
        self.extra: dict[str, object] = {"peername": (peer, 1), "ssl_object": object() if tls else None}

    def get_extra_info(self, name: str) -> object:
        return self.extra.get(name)


def request(
    headers: dict[str, str] | list[tuple[str, str]], *, peer: str = "192.0.2.1", tls: bool = False
) -> CompleteRequest:
    transport = cast("Any", Transport(peer, tls=tls))
    return CompleteRequest(RequestHead("POST", ("/", ""), CIMultiDict(headers), UNKNOWN_ROUTE), b"", transport)


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://127.0.0.1:9090", "127.0.0.1:9090", True),
        ("https://console.example", "console.example", True),
        ("https://console.example", "console.example:443", True),
        ("https://Console.example", "CONSOLE.example", True),
        ("http://[::1]:9090", "[::1]:9090", True),
        ("http://127.0.0.1:9091", "127.0.0.1:9090", False),
        ("https://console.example", "console.example:80", False),
        ("https://evil.example", "console.example", False),
        ("https://console.example.evil.example", "console.example", False),
        ("https://evil@console.example", "console.example", False),
        ("https://console.example/", "console.example", False),
        ("null", "console.example", False),
        ("file://", "", False),
        ("https://:443", ":443", False),
        ("ftp://console.example", "console.example", False),
        ("", "console.example", False),
    ],
)
def test_the_origin_is_that_of_the_host(origin: str, host: str, *, expected: bool) -> None:
    assert expected == is_same_origin(request({"Origin": origin, "Host": host}), [])


def test_over_tls_the_page_has_to_be_https() -> None:
    headers = {"Origin": "http://console.example", "Host": "console.example"}
    assert is_same_origin(request(headers), PROXIES)
    assert not is_same_origin(request(headers, tls=True), PROXIES)
    forwarded = {**headers, "X-Forwarded-Proto": "https"}
    assert not is_same_origin(request(forwarded, peer="10.0.0.1"), PROXIES)
    assert is_same_origin(request(forwarded), PROXIES)


def test_two_origins_are_none() -> None:
    twice = request([("Host", "a"), ("Origin", "http://a"), ("Origin", "http://a")])
    assert not is_same_origin(twice, [])


def test_only_trusted_proxies_say_what_the_browser_used() -> None:
    headers = {
        "Origin": "https://console.example",
        "Host": "runward:9090",
        "X-Forwarded-Host": "console.example",
        "X-Forwarded-Proto": "https",
    }
    assert is_same_origin(request(headers, peer="10.0.0.1"), PROXIES)
    assert not is_same_origin(request(headers), PROXIES)
    assert is_secure(request(headers, peer="10.0.0.1"), PROXIES)
    assert not is_secure(request(headers), PROXIES)
    assert not is_secure(request({"X-Forwarded-Proto": "http"}, peer="10.0.0.1"), PROXIES)


@pytest.mark.parametrize("host", ["127.0.0.1:9090", "[::1]:9090", "localhost:9090", "LOCALHOST", "10.1.2.3"])
def test_no_other_site_has_a_literal_host(host: str) -> None:
    assert has_literal_host(request({"Host": host}), [])


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9090", "", "127.0.0.1.evil.example", "localhost.evil"])
def test_a_name_can_be_of_another_site(host: str) -> None:
    assert not has_literal_host(request({"Host": host}), [])
