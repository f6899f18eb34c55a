"""Idempotency-Key: syntax, and fingerprints of requests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.problems import PROBLEMS
from gateway.runs.durable.idempotency_key import fingerprint, parse_key
from gateway.store.records import IdempotencyKey
from providers.contract import JsonValue

BODY = b'{"workflow":"w","input":{"a":1,"b":"\xc3\xa9"}}'

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text('aé"\\')
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abé", max_size=3), inner, max_size=3)
)


def key_of(body: bytes) -> bytes:
    """Return the fingerprint of a request with this body."""
    key = parse_key("one", ["k"], body)
    assert key is not None
    return key.fingerprint


@pytest.mark.parametrize("text", ["a", "~", "a b", "x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", '"quoted"'])
def test_a_key_is_printable_ascii_of_up_to_255_characters(text: str) -> None:
    """R42: it is used unchanged, per client."""
    assert IdempotencyKey("one", text, key_of(BODY)) == parse_key("one", [text], BODY)


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["x" * 256],
        [" a"],
        ["a "],
        [" "],
        ["a\tb"],
        ["a\x00b"],
        ["a\x7f"],
        ["a\n"],
        ["a\r\nb"],
        ["é"],
        ["\udce9"],
        ["a", "b"],
        ["a", "a"],
    ],
)
def test_everything_else_is_refused(values: list[str]) -> None:
    """R42: several keys, or a key that other parsers might read differently."""
    with pytest.raises(GatewayError) as refused:
        parse_key("one", values, BODY)
    assert (400, "invalid_idempotency_key") == (PROBLEMS[refused.value.code].status, refused.value.code)


def test_no_header_is_no_key() -> None:
    """A request without a key has no idempotency record."""
    assert None is parse_key("one", [], BODY)


@pytest.mark.parametrize(
    "other",
    [
        b'{"input":{"b":"\xc3\xa9","a":1},"workflow":"w"}',
        b'  {\t"workflow" : "w",\r\n"input": {"a": 1, "b": "\xc3\xa9"} }\n',
        b'{"workflow":"\\u0077","input":{"a":1,"b":"\\u00e9"}}',
    ],
    ids=["order", "white space", "escapes"],
)
def test_the_same_value_is_the_same_request(other: bytes) -> None:
    """R39: in any notation."""
    assert key_of(BODY) == key_of(other)


@pytest.mark.parametrize(
    "other",
    [
        b'{"workflow":"w","input":{"a":2,"b":"\xc3\xa9"}}',
        b'{"workflow":"w","input":{"a":"1","b":"\xc3\xa9"}}',
        b'{"workflow":"w","input":{"a":true,"b":"\xc3\xa9"}}',
        b'{"workflow":"w","input":{"a":1,"b":"e\xcc\x81"}}',
        b'{"workflow":"w","input":{"a":1,"b":"\xc3\xa9","c":null}}',
        b'{"workflow":"w","input":{"a":[1],"b":"\xc3\xa9"}}',
        b'{"workflow":"w","input":{"a":123456789012345678901234567890,"b":"\xc3\xa9"}}',
    ],
)
def test_another_value_is_another_request(other: bytes) -> None:
    """R39: types, members and every digit count."""
    assert key_of(BODY) != key_of(other)


def test_what_the_path_says_belongs_to_the_request() -> None:
    """If the path has the workflow, the same body for another workflow is another request."""
    keys = [parse_key("one", ["k"], BODY, path_name=at) for at in ("", "a", "b", "a")]
    assert (3, True) == (len(set(keys)), keys[1] == keys[3])


def test_integers_beyond_64_bits_keep_every_digit() -> None:
    """They would be equal as floats."""
    assert fingerprint(2**70) != fingerprint(2**70 + 1)
    assert fingerprint({"a": 2**70, "b": 1}) == fingerprint({"b": 1, "a": 2**70})


@given(VALUES)
def test_a_fingerprint_does_not_depend_on_how_a_value_was_written(value: JsonValue) -> None:
    """R39: pretty-printed, compact, escaped or sorted."""
    written = [
        json.dumps(value),
        json.dumps(value, indent=2, ensure_ascii=False),
        json.dumps(value, sort_keys=True, separators=(",", ":")),
    ]
    assert 1 == len({key_of(text.encode()) for text in written})


@given(VALUES, VALUES)
def test_equal_fingerprints_are_equal_values(one: JsonValue, other: JsonValue) -> None:
    """R39: different requests have different fingerprints."""
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert same == (fingerprint(one) == fingerprint(other))
