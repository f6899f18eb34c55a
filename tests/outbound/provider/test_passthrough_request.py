"""Passthrough requests: the client's key is replaced by the provider's key, or nothing is sent."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from gateway.errors import InvalidRequest
from gateway.json import strict_json
from gateway.outbound.provider.passthrough_request import PassthroughRequest, percent_decoded, with_provider_key
from providers.contract import JsonValue

CLIENT_KEY, OTHER_CLIENT_KEY = new_key(SystemClock()), new_key(SystemClock())
PROVIDER_KEY = "pl_provider&key"
JSON_HEADERS = (("content-TYPE", "application/json; charset=utf-8"),)


def new_request(
    body: JsonValue | bytes = None,
    *,
    path: str = "/log-request",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = JSON_HEADERS,
) -> PassthroughRequest:
    """Return a POST with this body."""
    raw = body if isinstance(body, bytes) else strict_json.write(body)
    return PassthroughRequest("POST", path, query, headers, raw, CLIENT_KEY)


def raw_deflate(body: bytes) -> bytes:
    """Compress without a header."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(body) + compressor.flush()


def test_the_key_of_the_body_is_replaced() -> None:
    """As in PromptLayer's older calls."""
    sent = with_provider_key(new_request({"api_key": CLIENT_KEY, "score": 1, "big": 2**70, "text": "ü"}), PROVIDER_KEY)
    assert {"api_key": PROVIDER_KEY, "score": 1, "big": 2**70, "text": "ü"} == strict_json.read(sent.body)


def test_the_key_of_the_query_is_replaced() -> None:
    sent = with_provider_key(new_request(b"", query=f"a=1&api%5Fkey={CLIENT_KEY}&b=%20"), PROVIDER_KEY)
    assert f"a=1&api_key={quote(PROVIDER_KEY, safe='')}&b=%20" == sent.query


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"api_key": CLIENT_KEY}},
        {"input_variables": {"api_key": CLIENT_KEY}, "api_key": CLIENT_KEY},
        [{"api_key": CLIENT_KEY}],
        {"API_KEY": CLIENT_KEY},
        {"api_key": [CLIENT_KEY]},
        {"api_key": f"Bearer {CLIENT_KEY}"},
        {CLIENT_KEY: 1},
        {"text": f"my key is {CLIENT_KEY}."},
        {"text": b64encode(b"x" + CLIENT_KEY.encode()).decode()},
        {"api_key": OTHER_CLIENT_KEY},
        {"text": OTHER_CLIENT_KEY},
        ('{"a":"' + "".join(f"\\u{ord(c):04x}" for c in CLIENT_KEY) + '"}').encode(),
        ('{"a":"' + CLIENT_KEY + '","a":1}').replace('"a":1', '"b":1').encode(),
    ],
    ids=lambda _: "body",  # the same in every process: the keys differ
)
def test_a_gateway_key_anywhere_else_is_refused(body: JsonValue | bytes) -> None:
    """Below the top level, `api_key` is data: a template could render a replaced key."""
    with pytest.raises(InvalidRequest) as refused:
        with_provider_key(new_request(body), PROVIDER_KEY)
    assert CLIENT_KEY not in refused.value.detail


@pytest.mark.parametrize(
    "sent",
    [
        new_request(b"", path=f"/prompt-templates/{CLIENT_KEY}"),
        new_request(b"", path="/" + "".join(f"%{byte:02X}" for byte in CLIENT_KEY.encode())),
        new_request(b"", query=f"key={CLIENT_KEY}"),
        new_request(b"", query=f"api_key=x{CLIENT_KEY}"),
        new_request(b"", query="x=" + "".join(f"%{byte:02x}" for byte in CLIENT_KEY.encode())),
        new_request(b"", query=f"api_key={OTHER_CLIENT_KEY}"),
        new_request(b"", query="a\r\nb"),
        new_request(b"", query="ü"),
        new_request(b"", headers=(("Accept", CLIENT_KEY),)),
        new_request(f"a={CLIENT_KEY}".encode(), headers=(("Content-Type", "application/x-www-form-urlencoded"),)),
        new_request(
            f"a=%72{CLIENT_KEY[1:]}".encode(), headers=(("Content-Type", "application/x-www-form-urlencoded"),)
        ),
        new_request(strict_json.write({"api_key": CLIENT_KEY}), headers=(("Content-Type", "text/plain"),)),
        new_request(strict_json.write({"api_key": CLIENT_KEY}), headers=()),
        new_request(b"\x00\xff" + CLIENT_KEY.encode(), headers=(("Content-Type", "application/x-protobuf"),)),
    ],
)
def test_a_gateway_key_is_found_wherever_it_stands(sent: PassthroughRequest) -> None:
    with pytest.raises(InvalidRequest):
        with_provider_key(sent, PROVIDER_KEY)


def test_a_doubled_key_does_not_hide_it() -> None:
    with pytest.raises(InvalidRequest):
        with_provider_key(new_request(f'{{"a":"{CLIENT_KEY}","a":1}}'.encode()), PROVIDER_KEY)


UNCHANGED = [
    b"{", b"\xff", b"[NaN]", b"\xef\xbb\xbf{}", b'{"a": 1.10, "b" : 1e400, "c": 1E2}',
    b'{"a":"\\ud83d","b":"\xed\xa0\xbd"}',
    b'{"a":1,"a":2}', b' \n{ "a" : "\\u00e9\\/" }\r\n', b"[" * 5000, b'{"api_key":"pl_other","x":1.0}', b'"\\u0072w_"',
]  # fmt: skip


@pytest.mark.parametrize("body", UNCHANGED)
def test_a_body_without_the_key_goes_as_it_came(body: bytes) -> None:
    """Numbers, cut emojis, duplicates and text that is no JSON: byte for byte."""
    assert body == with_provider_key(new_request(body), PROVIDER_KEY).body


@pytest.mark.parametrize(
    "template",
    [
        '{"a": 1.10, "api_key" : "%s", "b":"\\ud83d", "n": NaN}',
        '\ufeff {"api_key":"%s","c":[{"api_key":"x"},"\\"api_key\\":"],"d":1e400}',
        '{"x":{"y":[1,{"z":"}]"}]},"api_key":\n"%s"}',
        '{"api_key":"%s","api_key":"%s"}',
        '{"\\u0061pi_key":"%s"}',
        '{"api_key":"\\u0072w%s"}',
    ],
)
def test_only_the_bytes_of_the_key_are_replaced(template: str) -> None:
    shown = CLIENT_KEY.removeprefix("rw") if "u0072w" in template else CLIENT_KEY
    body = template.replace("%s", shown).encode(errors="surrogatepass")
    expected = template.replace("\\u0072w%s", PROVIDER_KEY).replace("%s", PROVIDER_KEY).encode()
    assert expected == with_provider_key(new_request(body), PROVIDER_KEY).body


@pytest.mark.parametrize(
    "body",
    [
        '{/* " */"api_key":{"api_key":"%s"}}',
        '{\'"\': 1, \'m\': {"api_key":"%s"}}',
        '{"a":"b" # "\n,"api_key":"%s"}',
        '[{"api_key":"%s"}]',
        '{"a":{"api_key":"%s"}}',
        '{"a":["api_key","%s"]}',
        '{"api_key":["%s"]}',
        '{"api_key":1 "%s"}',
        '{"a":1}{"api_key":"%s"}',
        '{"api_key":"x" "%s"}',
    ],
)
def test_a_key_is_not_replaced_where_parsers_may_differ(body: str) -> None:
    """The provider's key must not become data of the application."""
    with pytest.raises(InvalidRequest):
        with_provider_key(new_request(body.replace("%s", CLIENT_KEY).encode()), PROVIDER_KEY)


@pytest.mark.parametrize(
    "encode",
    [gzip.compress, zlib.compress, raw_deflate, lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])],
)
def test_a_compressed_body_goes_as_it_came_unless_the_key_is_in_it(encode: Callable[[bytes], bytes]) -> None:
    plain = encode(b'{"a": 1.10, "b": "more"}')
    sent = with_provider_key(replace(new_request(plain), coding="gzip"), PROVIDER_KEY)
    assert (plain, "gzip", ("Content-Encoding", "gzip")) == (sent.body, sent.coding, sent.forwarded_headers[-1])
    with_key = replace(new_request(encode(f'{{"a": 1.10, "api_key": "{CLIENT_KEY}"}}'.encode())), coding="gzip")
    sent = with_provider_key(with_key, PROVIDER_KEY)
    assert (f'{{"a": 1.10, "api_key": "{PROVIDER_KEY}"}}'.encode(), "") == (sent.body, sent.coding)
    assert "Content-Encoding" not in dict(sent.forwarded_headers)


@pytest.mark.parametrize(
    "body",
    [
        gzip.compress(f'{{"text":"{CLIENT_KEY}"}}'.encode()),
        gzip.compress(b"x" * 2000),
        gzip.compress(b"{}")[:-9],
        gzip.compress(b"{}") + b"trailing",
        b"{}",
    ],
    ids=["key", "too large", "cut", "trailing", "none"],
)
def test_a_compressed_body_is_refused_if_it_cannot_be_searched_or_has_the_key(body: bytes) -> None:
    """At most 1000 bytes once decoded."""
    with pytest.raises(InvalidRequest):
        with_provider_key(replace(new_request(body), coding="gzip"), PROVIDER_KEY, 1000)


@pytest.mark.parametrize("body", [b"", b"\x00\xffanything%zz"])
def test_other_bodies_go_as_they_are(body: bytes) -> None:
    assert (
        body
        == with_provider_key(
            new_request(body, headers=(("Content-Type", "application/x-protobuf"),)), PROVIDER_KEY
        ).body
    )


def test_another_key_in_the_body_is_left_alone() -> None:
    """An `api_key` that is not a gateway key is unchanged."""
    body: JsonValue = {"api_key": "pl_mine", "kwargs": {"api_key": "sk-openai"}}
    assert body == strict_json.read(with_provider_key(new_request(body), PROVIDER_KEY).body)


def test_few_header_fields_go_on() -> None:
    headers = (
        *JSON_HEADERS,
        ("Accept", "*/*"),
        ("X-SDK-Version", "1.5.16"),
        ("traceparent", ""),
        ("Authorization", CLIENT_KEY),
        ("X-API-KEY", CLIENT_KEY),
        ("Cookie", "a"),
        ("Host", "gateway"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Accept", "\udcff"),
    )
    assert [*JSON_HEADERS, ("Accept", "*/*"), ("X-SDK-Version", "1.5.16")] == with_provider_key(
        new_request(b"", headers=headers), PROVIDER_KEY
    ).forwarded_headers


def test_the_key_is_not_in_what_is_printed_of_it() -> None:
    assert CLIENT_KEY not in repr(new_request(b""))


@given(st.lists(st.sampled_from([b"%", b"4", b"a", b"F", b"%41", b"%fF", b"+", b"\xff", b"x"])).map(b"".join))
def test_escapes_are_decoded_as_the_standard_library_does(text: bytes) -> None:
    """Otherwise escapes could hide a key."""
    assert unquote_to_bytes(text) == percent_decoded(text)


def test_a_client_with_a_certificate_has_no_key_to_replace() -> None:
    """A placeholder is no key of the gateway, and what is empty gets the provider's key."""
    for body in (b'{"a": 1}', b'{"api_key": "none", "a": 1}'):
        assert body == with_provider_key(replace(new_request(body), client_key=""), PROVIDER_KEY).body
    sent = with_provider_key(replace(new_request(b'{"api_key": ""}'), client_key=""), PROVIDER_KEY)
    assert f'{{"api_key": "{PROVIDER_KEY}"}}'.encode() == sent.body
    gateway_key = f'{{"text": "{CLIENT_KEY}"}}'.encode()
    with pytest.raises(InvalidRequest):
        with_provider_key(replace(new_request(gateway_key), client_key=""), PROVIDER_KEY)
