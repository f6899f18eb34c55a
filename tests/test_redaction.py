"""Redaction: values by their place and by their form, in bounded time."""

from __future__ import annotations

import pytest

from gateway.redaction import MAX_PATTERN, MAX_POINTER, compile_pattern, parse_pointer, parse_redaction
from providers.contract import JsonValue

CONTENT: dict[str, JsonValue] = {
    "input": {"customer": {"email": "a@b.example", "name": "Ann"}, "rows": [{"id": 1, "note": "x"}, {"id": 2}]},
    "output": {"a/b": 1, "m~n": 2, "": 3, "list": [[1, 2], [3]]},
}


def redacted(*entries: str | dict[str, str], **members: JsonValue) -> dict[str, JsonValue]:
    return parse_redaction(entries).redact(members or CONTENT)


@pytest.mark.parametrize(
    ("pointer", "member", "expected"),
    [
        ("/input/customer/email", "input", {"customer": {"email": "[redacted]", "name": "Ann"}}),
        ("/input/customer", "input", {"customer": "[redacted]"}),
        ("/input/rows/1", "input", {"rows": [{"id": 1, "note": "x"}, "[redacted]"]}),
        ("/input/rows/*/id", "input", {"rows": [{"id": "[redacted]", "note": "x"}, {"id": "[redacted]"}]}),
        ("/input/*/email", "input", {"customer": {"email": "[redacted]", "name": "Ann"}}),
        ("/input/rows/01", "input", {}),
        ("/input/rows/-", "input", {}),
        ("/input/missing/email", "input", {}),
        ("/output/a~1b", "output", {"a/b": "[redacted]"}),
        ("/output/m~0n", "output", {"m~n": "[redacted]"}),
        ("/output/", "output", {"": "[redacted]"}),
        ("/output/list/*/0", "output", {"list": [["[redacted]", 2], ["[redacted]"]]}),
    ],
)
def test_a_pointer_redacts_a_whole_value(pointer: str, member: str, expected: dict[str, JsonValue]) -> None:
    original = CONTENT[member]
    assert isinstance(original, dict)
    assert {**CONTENT, member: {**original, **expected}} == redacted(pointer)


def test_everything_can_be_redacted() -> None:
    assert {"input": "[redacted]", "output": "[redacted]"} == redacted("/input", "/output")


def test_the_content_itself_is_not_changed() -> None:
    """What is sent and answered is never redacted."""
    given: JsonValue = {"rows": [{"id": "a@b.example"}]}
    redacted("/input/rows/*/id", "email", input=given)
    assert {"rows": [{"id": "a@b.example"}]} == given


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("email", "write to ann.b+c@mail.example.com, please", "write to [redacted], please"),
        ("email", "<mailto:ä@ö.example>", "<mailto:[redacted]>"),
        ("email", "a @ b, @you", "a @ b, @you"),
        ("card", "card 4111 1111-1111 1111!", "card [redacted]!"),
        ("card", "4111111111111111", "[redacted]"),
        ("card", "room 123456789012", "room 123456789012"),
        ("iban", "to DE89 3704 0044 0532 0130 00.", "to [redacted]."),
        ("iban", "gb82west12345698765432", "[redacted]"),
        ("iban", "order AB12-3", "order AB12-3"),
    ],
)
def test_named_patterns(name: str, text: str, expected: str) -> None:
    assert {"input": [expected]} == redacted(name, input=[text])


def test_patterns_apply_to_names_and_numbers_and_deep_values() -> None:
    given: JsonValue = {
        "a@b.example": [{"n": 4111111111111111, "m": 12, "f": 4111111111111111.5, "t": True, "u": None}]
    }
    expected: JsonValue = {"[redacted]": [{"n": "[redacted]", "m": 12, "f": "[redacted]", "t": True, "u": None}]}
    assert {"input": expected} == redacted("email", "card", input=given)


def test_deeper_values_than_can_be_examined_are_redacted() -> None:
    given: JsonValue = "a@b.example"
    for _ in range(5_000):
        given = [given]
    value = redacted("email", input=given)["input"]
    depth = 0
    while isinstance(value, list):
        value, depth = value[0], depth + 1
    assert ("[redacted]", 250) == (value, depth)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        (r"KD-\d{6,10}", "KD-1234567 KD-1", "[redacted] KD-1"),
        (r"sk-[A-Za-z0-9_\-]{20,60}", "key sk-" + "a" * 30 + ".", "key [redacted]."),
        (r"\b[A-Z]{2}\d{2} ?\d{4}\b", "x AB12 3456 y", "x [redacted] y"),
        (r"[^\s]{4}\?", "who? you", "who? you"),
    ],
)
def test_own_patterns(pattern: str, text: str, expected: str) -> None:
    assert {"input": expected} == redacted({"pattern": pattern}, input=text)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "a" * (MAX_PATTERN + 1),
        "(a{1,3}){1,3}",
        "a+b",
        "a*",
        "a{2,}",
        ".{3}",
        "a|b",
        "^a",
        "a$",
        r"\1",
        "(?=a)",
        "[a",
        "[z-a]",
        "[[a]]",
        "[a--b]",
        "a{5,2}",
        "a{1,9}b{1,9}",
        "a?b?c?d?e?f?g?",
        "[a-z]{1,64}[a-z]{900}b",
        "[a-z]{999}[a-z]{999}b",
        "a?b?c?d?e?f?g{20}",
        "a{0,3}",
        "a?",
        r"\q",
        "a{1,2}{3}",
    ],
)
def test_patterns_that_are_wrong_or_could_be_slow_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"pattern|slow|may have|empty text") as caught:
        compile_pattern(pattern)
    assert not pattern or len(pattern) < 3 or pattern not in str(caught.value)


@pytest.mark.parametrize(
    "pointer", ["", "/", "input/a", "/metadata/a", "/input/~2", "/inputs", "/input" + "/a" * MAX_POINTER]
)
def test_wrong_pointers_are_refused(pointer: str) -> None:
    with pytest.raises(ValueError, match="must be a JSON pointer"):
        parse_pointer(pointer)
