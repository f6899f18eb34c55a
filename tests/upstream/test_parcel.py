"""A client's request on its way through: the provider's key takes the place of the client's, or nothing is sent."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import strictjson
from gateway.access.keys import new_key
from gateway.clock import SystemClock
from gateway.problems import Problem
from gateway.upstream.parcel import Parcel, addressed, unescaped
from providers.contract import JsonValue

CLIENT, OTHER = new_key(SystemClock()), new_key(SystemClock())
KEY = "pl_provider&key"
JSON = (("content-TYPE", "application/json; charset=utf-8"),)


def parcel(
    body: JsonValue | bytes = None,
    *,
    path: str = "/log-request",
    query: str = "",
    headers: tuple[tuple[str, str], ...] = JSON,
) -> Parcel:
    """A POST with this body."""
    raw = body if isinstance(body, bytes) else strictjson.write(body)
    return Parcel("POST", path, query, headers, raw, CLIENT)


def test_the_key_of_the_body_is_replaced() -> None:
    """As PromptLayer's older calls have it."""
    sent = addressed(parcel({"api_key": CLIENT, "score": 1, "big": 2**70, "text": "ü"}), KEY)
    assert {"api_key": KEY, "score": 1, "big": 2**70, "text": "ü"} == strictjson.read(sent.body)


def test_the_key_of_the_query_is_replaced() -> None:
    sent = addressed(parcel(b"", query=f"a=1&api%5Fkey={CLIENT}&b=%20"), KEY)
    assert f"a=1&api_key={quote(KEY, safe='')}&b=%20" == sent.query


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"api_key": CLIENT}},
        {"input_variables": {"api_key": CLIENT}, "api_key": CLIENT},
        [{"api_key": CLIENT}],
        {"API_KEY": CLIENT},
        {"api_key": [CLIENT]},
        {"api_key": f"Bearer {CLIENT}"},
        {CLIENT: 1},
        {"text": f"my key is {CLIENT}."},
        {"text": b64encode(b"x" + CLIENT.encode()).decode()},
        {"api_key": OTHER},
        {"text": OTHER},
        ('{"a":"' + "".join(f"\\u{ord(c):04x}" for c in CLIENT) + '"}').encode(),
        ('{"a":"' + CLIENT + '","a":1}').replace('"a":1', '"b":1').encode(),
    ],
)
def test_a_gateway_key_anywhere_else_is_refused(body: JsonValue | bytes) -> None:
    """Below the top, `api_key` is data: with the provider's key in its place, a template could render that key."""
    with pytest.raises(Problem) as refused:
        addressed(parcel(body), KEY)
    assert "invalid_request" == refused.value.code
    assert CLIENT not in refused.value.detail


@pytest.mark.parametrize(
    "sent",
    [
        parcel(b"", path=f"/prompt-templates/{CLIENT}"),
        parcel(b"", path="/" + "".join(f"%{byte:02X}" for byte in CLIENT.encode())),
        parcel(b"", query=f"key={CLIENT}"),
        parcel(b"", query=f"api_key=x{CLIENT}"),
        parcel(b"", query="x=" + "".join(f"%{byte:02x}" for byte in CLIENT.encode())),
        parcel(b"", query=f"api_key={OTHER}"),
        parcel(b"", query="a\r\nb"),
        parcel(b"", query="ü"),
        parcel(b"", headers=(("Accept", CLIENT),)),
        parcel(f"a={CLIENT}".encode(), headers=(("Content-Type", "application/x-www-form-urlencoded"),)),
        parcel(f"a=%72{CLIENT[1:]}".encode(), headers=(("Content-Type", "application/x-www-form-urlencoded"),)),
        parcel(strictjson.write({"api_key": CLIENT}), headers=(("Content-Type", "text/plain"),)),
        parcel(strictjson.write({"api_key": CLIENT}), headers=()),
        parcel(b"\x00\xff" + CLIENT.encode(), headers=(("Content-Type", "application/x-protobuf"),)),
    ],
)
def test_wherever_it_stands(sent: Parcel) -> None:
    with pytest.raises(Problem) as refused:
        addressed(sent, KEY)
    assert "invalid_request" == refused.value.code


def test_a_doubled_key_does_not_hide_it() -> None:
    """What was looked at is what is sent: one member, the last."""
    sent = addressed(parcel(f'{{"a":"{CLIENT}","a":1}}'.encode()), KEY)
    assert b'{"a":1}' == sent.body


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[NaN]", b"\xef\xbb\xbf{}"])
def test_json_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        addressed(parcel(body), KEY)
    assert "malformed_json" == refused.value.code


@pytest.mark.parametrize("body", [b"", b"\x00\xffanything%zz"])
def test_other_bodies_go_as_they_are(body: bytes) -> None:
    assert body == addressed(parcel(body, headers=(("Content-Type", "application/x-protobuf"),)), KEY).body


def test_someone_elses_key_in_the_body_is_left_alone() -> None:
    """Whatever `api_key` is, if it is not the gateway's it is none of our business."""
    body: JsonValue = {"api_key": "pl_mine", "kwargs": {"api_key": "sk-openai"}}
    assert body == strictjson.read(addressed(parcel(body), KEY).body)


def test_few_header_fields_go_on() -> None:
    headers = (
        *JSON,
        ("Accept", "*/*"),
        ("X-SDK-Version", "1.5.16"),
        ("traceparent", ""),
        ("Authorization", CLIENT),
        ("X-API-KEY", CLIENT),
        ("Cookie", "a"),
        ("Host", "gateway"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("Accept", "\udcff"),
    )
    assert [*JSON, ("Accept", "*/*"), ("X-SDK-Version", "1.5.16")] == addressed(
        parcel(b"", headers=headers), KEY
    ).fields


def test_the_key_is_not_in_what_is_printed_of_it() -> None:
    assert CLIENT not in repr(parcel(b""))


@given(st.lists(st.sampled_from([b"%", b"4", b"a", b"F", b"%41", b"%fF", b"+", b"\xff", b"x"])).map(b"".join))
def test_escapes_are_read_as_everybody_reads_them(text: bytes) -> None:
    """Or a key could hide behind them."""
    assert unquote_to_bytes(text) == unescaped(text)
