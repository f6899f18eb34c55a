"""Parser of a callback_url: one interpretation, or a refusal."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallbackUrlRefused
from gateway.outbound.webhook.callback_url import MAX_BYTES, CallbackUrl, parse

INVALID_URLS = [
    "",
    "https://",
    "https:///a",
    "https:/a.example",
    "https:a.example",
    "//a.example",
    "a.example",
    "file:///etc/passwd",
    "ftp://a.example/",
    "gopher://a.example:70/_GET",
    "javascript:alert(1)",
    "https+x://a.example/",
    " https://a.example/",
    "https://a.example/ ",
    "https://a.example/a b",
    "https://a.example/\t",
    "https://a\t.example/",
    "https://a.example/\r\nX-Evil: 1",
    "https://a.example/\n",
    "https://a.example/\0",
    "https://a.example/\x7f",
    "https://a.example/\u2028",
    "https://a.example/\u00a0",
    "https://a.exa\u200bmple/",
    "https://a.exa\u00admple/",
    "https://a.example/\ud800",
    "https://a.example\\@b.example/",
    "https://a.example\\b",
    "https://user@a.example/",
    "https://user:pw@a.example/",
    "https://@a.example/",
    "https://:@a.example/",
    "https://a.example:443@b.example/",
    "https://a.example/#b",
    "https://a.example#",
    "https://a.example#@b.example/",
    "https://a.example:0/",
    "https://a.example:65536/",
    "https://a.example:-1/",
    "https://a.example:+443/",
    "https://a.example:\uff14\uff14\uff13/",
    "https://a.example:443:443/",
    "https://a.example:/",
    "https://:443/",
    "https://./",
    "https://.a.example/",
    "https://a..example/",
    "https://a.example../",
    "https://-a.example/",
    "https://a-.example/",
    "https://a%2eexample/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1%2f.example/",
    "https://a;b.example/",
    "https://a,b/",
    "https://a&b/",
    "https://*.example/",
    "https://℀.example/",
    "https://a\uff0fb.example/",
    "https://a\uff20b.example/",
    "https://a\uff03b.example/",
    f"https://{'a' * 64}.example/",
    f"https://{'a.' * 126}example/",
    "https://127.1/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7F000001./",
    "https://0x7f.0.0.1/",
    "https://127.0.0.0x1/",
    "https://127.0.0.0x/",
    "https://0177.0.0.1/",
    "https://0127.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.1.1/",
    "https://256.0.0.1/",
    "https://a.example.1/",
    "https://1.1.1.1..",
    "https://[::1/",
    "https://::1/",
    "https://[::1]a/",
    "https://a[::1]/",
    "https://[::1]]/",
    "https://[]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[127.0.0.1]/",
    "https://[v1.a]/",
    "https://[1::2::3]/",
    "https://[::ffff:127.1]/",
]


@pytest.mark.parametrize("url", INVALID_URLS)
def test_invalid_urls(url: str) -> None:
    """R56: URLs about which parsers disagree, or with parts that a callback does not need, are refused."""
    with pytest.raises(CallbackUrlRefused) as refused:
        parse(url)
    assert "callback_url_refused" == refused.value.code


@pytest.mark.parametrize(
    ("url", "target", "authority"),
    [
        ("https://a.example", CallbackUrl("https", "a.example", 443, "/", None), "a.example"),
        ("HTTPS://A.Example:443/B", CallbackUrl("https", "a.example", 443, "/B", None), "a.example"),
        ("https://a.example./b", CallbackUrl("https", "a.example", 443, "/b", None), "a.example"),
        ("http://a.example:8080/", CallbackUrl("http", "a.example", 8080, "/", None), "a.example:8080"),
        ("http://a_b.example:80/", CallbackUrl("http", "a_b.example", 80, "/", None), "a_b.example"),
        ("http://a.example:443/", CallbackUrl("http", "a.example", 443, "/", None), "a.example:443"),
        ("https://a.example?b=c", CallbackUrl("https", "a.example", 443, "/?b=c", None), "a.example"),
        ("https://a.example?b@c:d", CallbackUrl("https", "a.example", 443, "/?b@c:d", None), "a.example"),
        ("https://a.example//b/../c", CallbackUrl("https", "a.example", 443, "//b/../c", None), "a.example"),
        (
            "https://bücher.example/",
            CallbackUrl("https", "xn--bcher-kva.example", 443, "/", None),
            "xn--bcher-kva.example",
        ),
        ("https://1.1.1.1/", CallbackUrl("https", "1.1.1.1", 443, "/", ip_address("1.1.1.1")), "1.1.1.1"),
        ("https://1.1.1.1./", CallbackUrl("https", "1.1.1.1", 443, "/", ip_address("1.1.1.1")), "1.1.1.1"),
        ("https://①②⑦.0.0.1/", CallbackUrl("https", "127.0.0.1", 443, "/", ip_address("127.0.0.1")), "127.0.0.1"),
        ("https://127。0。0。1/", CallbackUrl("https", "127.0.0.1", 443, "/", ip_address("127.0.0.1")), "127.0.0.1"),
        ("https://ⓛocalhost/", CallbackUrl("https", "localhost", 443, "/", None), "localhost"),
        (
            "https://[2606:0:0::1]:8443/",
            CallbackUrl("https", "2606::1", 8443, "/", ip_address("2606::1")),
            "[2606::1]:8443",
        ),
    ],
)
def test_valid_urls(url: str, target: CallbackUrl, authority: str) -> None:
    """The host is normalized to one notation."""
    assert (target, authority) == (parse(url), parse(url).authority)


def test_the_path_is_sent_as_it_was_written() -> None:
    """A receiver may have signed its URL: only non-ASCII characters are encoded."""
    assert "/a%20b/%7E~/c+d?e=%2f&f=g%3D&h={i}" == parse("https://a.example/a%20b/%7E~/c+d?e=%2f&f=g%3D&h={i}").path
    assert "/%C3%BC?%E2%98%83" == parse("https://a.example/ü?☃").path


def test_length() -> None:
    """R56: 2 kB, counted in bytes."""
    start = "https://a.example/"
    assert MAX_BYTES - len(start) + 1 == len(parse(start + "b" * (MAX_BYTES - len(start))).path)
    for tail in ("b" * (MAX_BYTES - len(start) + 1), "ü" * (MAX_BYTES // 2)):
        with pytest.raises(CallbackUrlRefused):
            parse(start + tail)


@given(st.text() | st.from_regex(r"https?://[^/]{0,30}(/.{0,20})?", fullmatch=True))
def test_any_text_is_refused_or_valid(url: str) -> None:
    """No text raises another error, and none can inject bytes into the request."""
    try:
        target = parse(url)
    except CallbackUrlRefused:
        return
    for part in (target.path, target.authority):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part
    assert target.path.startswith("/")
