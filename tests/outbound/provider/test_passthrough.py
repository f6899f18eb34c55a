"""Passthrough requests: the client's key is replaced by the provider's key, or nothing is sent."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import strict_json
from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from gateway.errors import InvalidRequest, MalformedJson
from gateway.outbound.provider.passthrough import PassthroughRequest, percent_decoded, with_provider_key
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
    """The checked text equals the sent text: one member, the last."""
    sent = with_provider_key(new_request(f'{{"a":"{CLIENT_KEY}","a":1}}'.encode()), PROVIDER_KEY)
    assert b'{"a":1}' == sent.body


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[NaN]", b"\xef\xbb\xbf{}"])
def test_json_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedJson):
        with_provider_key(new_request(body), PROVIDER_KEY)


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
