"""Redaction: the provider's key is removed from responses, in all its encodings (R79, R81)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.json import lenient_json, strict_json
from gateway.outbound.provider.redaction import Redaction

KEY = 'sk/Ab+"9\\=%canary&0'


def escaped(text: str) -> str:
    """Return the text with every character as a JSON escape."""
    return "".join(f"\\u{ord(character):04x}" for character in text)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": lambda key: json.dumps(key)[1:-1],
    "slashes escaped": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "one character escaped": lambda key: json.dumps(key)[1:-1].replace("+", "\\u002B"),
    "every character escaped": escaped,
    "in a URL": lambda key: quote(key, safe=""),
    "in a URL, escaped": lambda key: escaped(quote(key, safe="")),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "base64 behind one byte": lambda key: base64.b64encode(b":" + key.encode()).decode(),
    "base64 between others": lambda key: base64.b64encode(b"user:" + key.encode() + b":more").decode(),
    "base64, escaped slashes": lambda key: base64.b64encode(b"?" + key.encode()).decode().replace("/", "\\/"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", ['"%s"', '{"message": "bad key %s, really"}', '{"%s": [1, "%s"]}'])
def test_the_key_is_gone(spelling: str, shape: str) -> None:
    quoted = SPELLINGS[spelling](KEY)
    read = strict_json.write(Redaction(KEY).parse_response(shape.replace("%s", quoted).encode()).value).decode()
    assert "[redacted]" in read
    for each in SPELLINGS.values():
        assert each(KEY) not in read


@pytest.mark.parametrize("spelling", ["plain", "every character escaped", "in a URL"])
def test_only_the_key_is_gone(spelling: str) -> None:
    text = f'{{"message": "bad key {SPELLINGS[spelling](KEY)}, really\\n", "code": 1.50}}'
    assert {"message": "bad key [redacted], really\n", "code": 1.5} == Redaction(KEY).parse_response(
        text.encode()
    ).value


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_everything_else_is_read_as_it_is(value: object) -> None:
    for written in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        content = written.encode("utf-8", "surrogatepass")
        assert lenient_json.read(content) == Redaction(KEY).parse_response(content)


@pytest.mark.parametrize("content", [b"", b"not JSON", KEY.encode(), b'{"a": NaN', b'"\\u00'])
def test_content_that_is_not_json_is_not_parsed(content: bytes) -> None:
    """The exception quotes nothing."""
    with pytest.raises(strict_json.NotJson) as refused:
        Redaction(KEY).parse_response(content)
    assert KEY not in str(refused.value)


def test_a_later_one_knows_earlier_keys() -> None:
    """R100: the last eight, so that key changes do not slow down responses."""
    keys = [f"key-number-{number:02}" for number in range(12)]
    redaction = Redaction(keys[0])
    for key in keys[1:]:
        redaction = Redaction(key).with_keys_of(redaction)
    read = str(redaction.parse_response(json.dumps(keys).encode()).value)
    assert keys[:3] == [key for key in keys if key in read]
    assert 9 == read.count("[redacted]")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_answer_that_is_passed_back_has_no_key_either(spelling: str) -> None:
    """R81: in JSON, in every notation."""
    answer = b'{"a":"%b"}' % SPELLINGS[spelling](KEY).encode()
    stripped = Redaction(KEY).redact(answer)
    assert strict_json.read(answer) != strict_json.read(stripped)
    assert not Redaction(KEY).contains_key(strict_json.write(strict_json.read(stripped)))


@pytest.mark.parametrize("repaired", [r'"\ud83d"', "NaN", '"\x01"'])
def test_a_key_behind_escapes_is_redacted_beside_what_is_not_strict_json(repaired: str) -> None:
    content = f'{{"a": "{escaped(KEY)}", "b": {repaired}}}'.encode()
    for text in (strict_json.write(Redaction(KEY).parse_response(content).value), Redaction(KEY).redact(content)):
        assert b"[redacted]" in text
        assert not Redaction(KEY).contains_key(text)


@pytest.mark.parametrize("text", [b"", b"\x00\xff", b'{"a": "\\u0041 \\/"}', b"\\u no json", b" [1, 2]\n"])
def test_an_answer_without_the_key_comes_back_byte_for_byte(text: bytes) -> None:
    assert text == Redaction(KEY).redact(text)


def test_a_key_is_found_in_content_that_is_not_json() -> None:
    redaction = Redaction(KEY)
    assert (True, False) == (redaction.contains_key(b"<b>" + KEY.encode()), redaction.contains_key(KEY[:-1].encode()))
    assert b"<b>[redacted]" == redaction.redact(b"<b>" + KEY.encode())
