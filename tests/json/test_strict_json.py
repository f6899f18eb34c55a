"""Strict JSON: exact, bounded, and never quoted in error messages."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.json import strict_json
from providers.contract import JsonValue

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(min_value=-(10**300), max_value=10**300) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)

NOT_JSON = {
    "nothing": b"",
    "spaces": b" \n",
    "NaN": b'{"a": NaN}',
    "Infinity": b"[-Infinity]",
    "overflow": b"1e999",
    "negative overflow": b"[-1e999]",
    "an integer that no float can reach": b"1" * 310,
    "5 000 digits": b"9" * 5000,
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without BOM": '{"a": 1}'.encode("utf-16-le"),
    "lone surrogate": rb'"\ud800"',
    "surrogates the wrong way round": rb'"\udc00\ud800"',
    "surrogate in a key": rb'{"\udfff": 1}',
    "bad UTF-8": b'"\xff"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "surrogate in UTF-8": b'"\xed\xa0\x80"',
    "trailing bytes": b"{} x",
    "a second document": b"{}{}",
    "cut off": b'{"a": [1, 2',
    "open text": b'"abc',
    "control character": b'"a\x01b"',
    "line feed in a text": b'"a\nb"',
    "single quotes": b"{'a': 1}",
    "comment": b"{} // no",
    "trailing comma": b"[1,]",
    "leading zero": b"01",
    "plus": b"+1",
    "NUL": b"\x00",
    "deep": b"[" * 200_000,
    "deep, and closed": b"[" * 202 + b"]" * 202,
    "True": b"True",
}


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON)
def test_what_rfc_8259_does_not_have_is_refused(data: bytes) -> None:
    """R67, R68: also if Python's json module accepts it."""
    with pytest.raises(strict_json.NotJson):
        strict_json.read(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """Any input is refused, or parsed as by Python's json module."""
    try:
        value = strict_json.read(data)
    except strict_json.NotJson:
        return
    assert json.loads(data) == value


@given(JSON)
def test_what_is_written_is_what_was_read(value: JsonValue) -> None:
    """Integers keep every digit, floats every bit, texts every character."""
    text = json.dumps(value, ensure_ascii=False).encode()
    assert value == strict_json.read(text)
    assert value == strict_json.read(strict_json.write(value))


@given(JSON, st.sampled_from([None, (",", ":"), (", ", ": "), ("\t, ", " :\r")]), st.sampled_from([None, 1]))
def test_white_space_and_length_change_nothing(
    value: JsonValue, separators: tuple[str, str] | None, indent: int | None
) -> None:
    """A request is read as an answer is: the same types, and the same digits."""
    text = json.dumps(value, ensure_ascii=False, separators=separators, indent=indent).encode()
    for data in (text, text + b" " * 400, b"[%b]" % text):
        assert repr(strict_json.read(data)) == repr(strict_json.read_unique(data))


@pytest.mark.parametrize(
    "text", ["1.10", "1e5", "-0", "-0.0", "0.1", "1E400", "18446744073709551616", "1e16", '"a\\/b"']
)
def test_a_number_or_text_of_another_form_is_read_the_same(text: str) -> None:
    """Also where the written form differs from the one that was read."""
    for data in (text.encode(), f'{{"a": [{text}]}}'.encode()):
        try:
            expected = repr(strict_json.read(data))
        except strict_json.NotJson:
            with pytest.raises(strict_json.NotJson):
                strict_json.read_unique(data)
        else:
            assert expected == repr(strict_json.read_unique(data))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_request_is_nested_200_levels_at_most(opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    assert strict_json.read_unique((opening * 200 + "1" + closing * 200).encode())
    for levels in (201, 254, 1000):
        with pytest.raises(strict_json.NotJson):
            strict_json.read_unique((opening * levels + "1" + closing * levels).encode())


@given(JSON)
def test_escapes_change_nothing(value: JsonValue) -> None:
    assert value == strict_json.read_unique(json.dumps(value, ensure_ascii=True).encode())


def test_an_integer_is_not_turned_into_a_float() -> None:
    """Such as 2**64 + 1, or an integer of 300 digits."""
    for number in (2**53 + 1, 2**63, 2**64 + 1, -(10**300) - 1):
        text = str(number).encode()
        assert number == strict_json.read(text)
        assert text == strict_json.write(strict_json.read(text))


def test_of_a_doubled_key_the_last_value_counts() -> None:
    """Allowed in provider responses, not in requests (see `read_unique`)."""
    assert {"a": 2} == strict_json.read(b'{"a": 1, "a": 2}')


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "b": {"c": [{"d": 1, "d": 2}]}}',
        rb'{"a": 1, "\u0061": 2}',
        rb'{"\u0061": 1, "a": 2}',
        b'{"": 1, "": 2}',
        rb'{"\"": 1, "\u0022": 2}',
        rb'{"\"": 1, "\"": 2}',
        rb'{"a": 1, "a": "\u0022\u0022"}',  # as many quotes as are left when the first member has gone
        rb'{"/": 1, "\/": 2}',
        '{"é": 1, "é": 2}'.encode(),
        rb'{"\n": 1, "\u000a": 2}',
    ],
)
def test_a_doubled_key_is_refused_however_it_is_written(data: bytes) -> None:
    """R68: parsers disagree about such texts."""
    with pytest.raises(strict_json.NotJson):
        strict_json.read_unique(data)


@pytest.mark.parametrize(
    "data", [b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}', rb'{"\"": "\"\"", "\\u0061": "\u0022"}', b'"a\\u0022"']
)
def test_equal_keys_of_different_objects_are_in_order(data: bytes) -> None:
    assert json.loads(data) == strict_json.read_unique(data)


@given(
    st.lists(
        st.tuples(st.sampled_from(['"a"', r'"\u0061"', '"a "', '"b"', r'"\""']), st.sampled_from(['"x"', "1", "{}"]))
    )
)
def test_doubled_keys_are_found_in_any_object(pairs: list[tuple[str, str]]) -> None:
    """`read_unique` refuses exactly the objects with duplicate keys after parsing."""
    text = "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
    keys = [json.loads(key) for key, _ in pairs]
    if len(keys) == len(set(keys)):
        assert json.loads(text) == strict_json.read_unique(text.encode())
    else:
        with pytest.raises(strict_json.NotJson):
            strict_json.read_unique(text.encode())


@pytest.mark.parametrize("data", [*NOT_JSON.values(), b'{"CANARY": 1, "CANARY": 2}', b"CANARY", b'["CANARY"'])
def test_what_is_said_about_bad_json_never_quotes_it(data: bytes) -> None:
    """The text is part of the response."""
    with pytest.raises(strict_json.NotJson) as caught:
        strict_json.read_unique(data)
    assert str(caught.value) in {"not valid JSON", "not acceptable: an object has a duplicate key"}
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("leaf", [b"1", b"1" * 40], ids=["small", "beyond 64 bits"])
def test_whatever_could_be_read_can_be_written_inside_an_answer(leaf: bytes) -> None:
    """A response wraps a provider's value in objects, so the serializer must nest deeper than the parser."""
    document: JsonValue = strict_json.read(b"[" * 200 + leaf + b"]" * 200)
    for _ in range(50):
        document = [document]
    assert json.dumps(document).encode() == strict_json.write(document)


@dataclass(frozen=True, slots=True)
class Node:
    """Same fields as in `providers.contract`."""

    value: JsonValue
    error: str | None = None


@pytest.mark.parametrize("value", [1, 2**64, "é\u2028", 1.5])
def test_dataclasses_are_written_as_objects(value: JsonValue) -> None:
    """Big integers use another code path with the same result."""
    assert {"n": {"value": value, "error": None}} == json.loads(strict_json.write({"n": Node(value)}))


def test_what_was_taken_can_be_read_back_from_deeper_down() -> None:
    """R48: a result is nested deeper in the document of its run."""
    taken = strict_json.read(b"[" * 199 + b"12345678901234567890123" + b"]" * 199)
    written = strict_json.write({"outputs": {"Node": {"value": taken}}})
    with pytest.raises(strict_json.NotJson):
        strict_json.read(written)
    assert {"outputs": {"Node": {"value": taken}}} == strict_json.read_stored(written)
