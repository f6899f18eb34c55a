"""Lenient JSON of provider responses: repairs, reports, and round trips."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.json import lenient_json, strict_json
from gateway.json.lenient_json import (
    BOM_SKIPPED,
    CONTROL_CHARACTERS_KEPT,
    DEEPLY_NESTED,
    NUMBERS_REPLACED,
    UNICODE_REPLACED,
)
from providers.contract import JsonValue, NodeOutput

REPAIRED: dict[str, tuple[bytes, JsonValue, str]] = {
    "BOM": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}, BOM_SKIPPED),
    "half a surrogate pair": (rb'["\ud83d"]', ["\ufffd"], UNICODE_REPLACED),
    "second half alone": (rb'"a\udE00b"', "a\ufffdb", UNICODE_REPLACED),
    "wrong order": (rb'"\udc00\ud800"', "\ufffd\ufffd", UNICODE_REPLACED),
    "before a pair": (rb'"\ud83d\ud83d\ude00"', "\ufffd😀", UNICODE_REPLACED),
    "behind an escaped backslash": (rb'"\\ud83d \ud83d"', r"\ud83d " + "\ufffd", UNICODE_REPLACED),
    "in a key": (rb'{"\ud83d": 1}', {"\ufffd": 1}, UNICODE_REPLACED),
    "truncated UTF-8": (b'"a\xf0\x9f"', "a\ufffd", UNICODE_REPLACED),
    "NaN": (b'{"a": NaN}', {"a": None}, NUMBERS_REPLACED),
    "Infinity": (b"[Infinity, -Infinity]", [None, None], NUMBERS_REPLACED),
    "1e400": (b"[1e400, -1E400, 1.5]", [None, None, 1.5], NUMBERS_REPLACED),
    "310 digits": (b"[" + b"1" * 310 + b"]", [None], NUMBERS_REPLACED),
    "5 000 digits": (b"-" + b"9" * 5000, None, NUMBERS_REPLACED),
    "line feed in a string": (b'"a\nb"', "a\nb", CONTROL_CHARACTERS_KEPT),
}


def nested(depth: int, leaf: JsonValue = 1) -> JsonValue:
    """Return alternating lists and objects of this depth."""
    value: JsonValue = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"a": value, "b": []}
    return value


def nested_text(depth: int, leaf: str = "1") -> str:
    """Return `nested` as JSON."""
    opening, closing = '[{"a":' * (depth // 2), ',"b":[]}]' * (depth // 2)
    return opening + leaf + closing


@pytest.mark.parametrize("name", REPAIRED)
def test_what_is_not_strict_json_is_repaired_and_reported(name: str) -> None:
    data, value, repair = REPAIRED[name]
    with pytest.raises(strict_json.NotJson):
        strict_json.read(data)
    assert (value, (repair,)) == lenient_json.read(data)


def test_all_repairs_are_reported_once_each() -> None:
    data = b'\xef\xbb\xbf{"a": [NaN, NaN, "\\ud83d", "\\ud83d", "\n"]}'
    value, repairs = lenient_json.read(data)
    assert {"a": [None, None, "\ufffd", "\ufffd", "\n"]} == value
    assert {BOM_SKIPPED, NUMBERS_REPLACED, UNICODE_REPLACED, CONTROL_CHARACTERS_KEPT} == set(repairs)
    assert 4 == len(repairs)


@pytest.mark.parametrize("depth", [202, 400, 2_000, 20_000])
def test_nesting_has_no_limit_and_survives_every_way_on(depth: int) -> None:
    """Parsed, wrapped in the document of a run, serialized, stored, read back."""
    value, repairs = lenient_json.read(nested_text(depth).encode())
    assert (DEEPLY_NESTED,) == repairs
    written = strict_json.write({"output": value, "outputs": {"Node": NodeOutput("succeeded", value)}})
    text = nested_text(depth)
    assert text.encode() in written
    again = strict_json.write(strict_json.read_stored(written))
    assert written == again
    assert 2 == again.count(text.encode())


def test_a_large_text_of_extreme_depth_is_not_json() -> None:
    """The slow parser blocks the event loop, so its input size is limited."""
    with pytest.raises(strict_json.NotJson):
        lenient_json.read(b"[" * 100_001 + b"]" * 100_001)


def test_a_large_text_with_one_deep_branch_is_read() -> None:
    """The limit applies to extreme depth, not to large outputs with a depth of 400."""
    value, repairs = lenient_json.read(b'["%b", %b]' % (b"x" * 1_000_000, nested_text(400).encode()))
    assert (DEEPLY_NESTED,) == repairs
    assert ["x" * 1_000_000, nested(400)] == value


@pytest.mark.parametrize(
    "leaf", ['"\\ud83d"', "NaN", "1e400", '"é\\u0041\\"\\\\"', "12345678901234567890123", "true", "{}", "[ ]", "-0.5"]
)
def test_leaves_are_read_alike_at_any_depth(leaf: str) -> None:
    expected = strict_json.write(lenient_json.read(leaf.encode()).value)
    deep = strict_json.write(lenient_json.read(nested_text(3_000, leaf).encode()).value)
    assert nested_text(3_000, expected.decode()).encode() == deep


@pytest.mark.parametrize(
    "data",
    [b"", b" ", b"<html>", b"{", b'{"a"', b'{"a": 1', b'"abc', b"{} x", b"{}{}", b"'a'", b"[1,]", b"[,1]", b"01", b"+1",
     b"NaN x", b'{"a": NaN', b"\xef\xbb\xbf", b"\x00", b'{"a" 1}', b"{1: 2}", b"True", b"\xff\xfe{\x00}\x00"],
)  # fmt: skip
@pytest.mark.parametrize("depth", [0, 2_000])
def test_what_cannot_be_repaired_is_not_json(data: bytes, depth: int) -> None:
    with pytest.raises(strict_json.NotJson):
        lenient_json.read(nested_text(depth, "@").encode().replace(b"@", data))


@pytest.mark.parametrize("tail", ["", ",", "]", "}", ":", "1", '"'])
def test_a_deep_text_that_is_cut_or_continued_is_not_json(tail: str) -> None:
    text = nested_text(2_000)
    for data in (text[:-1] + tail, text + tail + "]"):
        if data not in {text, text[:-1] + "]"}:
            with pytest.raises(strict_json.NotJson):
                lenient_json.read(data.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**300), 10**300) | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.booleans())
def test_whatever_python_writes_is_read_and_strict_afterwards(value: JsonValue, bom: bool, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    text = json.dumps(value, ensure_ascii=ascii_only)
    data = b"\xef\xbb\xbf" * bom + text.encode("utf-8", "surrogatepass")
    read = lenient_json.read(data).value
    assert read == strict_json.read(strict_json.write(read))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    try:
        value, repairs = lenient_json.read(data)
    except strict_json.NotJson:
        return
    assert bool(repairs) == (not _is_strict(data))
    assert value == strict_json.read(strict_json.write(value))


def _is_strict(data: bytes) -> bool:
    try:
        strict_json.read(data)
    except strict_json.NotJson:
        return False
    return True
