"""Header field parsers: lists, case, quoted strings, parameters, quality values."""

from __future__ import annotations

import time

import pytest
from multidict import CIMultiDict

from gateway.http import headers
from gateway.http.headers import Element, parse_list

EVENTS, JSON = "text/event-stream", "application/json"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_TEXT_FIRST = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"


def fields(name: str, *values: str) -> CIMultiDict[str]:
    return CIMultiDict([(name, value) for value in values])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        ([""], []),
        ([" , ,"], []),
        (["a"], [Element("a")]),
        (["A, b", "C"], [Element("a"), Element("b"), Element("c")]),
        (["a;q=0.5"], [Element("a", {"q": "0.5"})]),
        (["a ; Q = 0.5 ; x"], [Element("a", {"q": "0.5", "x": ""})]),
        (['a;x="1,2;3", b'], [Element("a", {"x": "1,2;3"}), Element("b")]),
        (['a;x="\\"q\\""'], [Element("a", {"x": '"q"'})]),
        (["a;x=1;x=2"], [Element("a", {"x": "1"})]),
        (['a;x="1'], []),
        (["a;@, b"], [Element("b")]),
    ],
)
def test_a_list_has_its_elements(lines: list[str], expected: list[Element]) -> None:
    """RFC 9110, 5.6.1, 5.6.4 and 5.6.6."""
    assert expected == parse_list(lines)


@pytest.mark.parametrize(
    "text", ['"' * 8191, '"' + '\\"' * 4000, '"' + '\\"' * 4000 + "\\", "a;" * 4000, ";" * 8000, "a;x=" + '"\\' * 4000]
)
def test_hostile_lists_are_parsed_in_linear_time(text: str) -> None:
    """A line of 8 kB costs about eight times as much as one of 1 kB; the square would be 64 times as much."""

    def cost(sample: str) -> float:
        started = time.process_time()
        for _ in range(20):
            parse_list([sample])
        return time.process_time() - started

    parse_list([text])
    assert min(cost(text) for _ in range(3)) < 30 * min(cost(text[:1000]) for _ in range(3)) + 0.01


@pytest.mark.parametrize(
    ("text", "quality"),
    [
        ("a", 1),
        ("a;q=1", 1),
        ("a;q=1.000", 1),
        ("a;q=0.25", 0.25),
        ("a;q=0", 0),
        ("a;q=0.", 0),
        ("a;q=2", 0),
        ("a;q=-1", 0),
        ("a;q=x", 0),
        ("a;q=nan", 0),
        ("a;q=0.1234", 0),
        ("a;q=", 0),
    ],
)
def test_a_quality_is_a_decimal_from_0_to_1(text: str, quality: float) -> None:
    """RFC 9110, 12.4.2."""
    [element] = parse_list([text])
    assert quality == element.quality


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ([], False),
        (["*/*"], False),
        ([JSON], False),
        (["text/*"], False),
        ([EVENTS], True),
        (["Text/Event-Stream"], True),
        ([f"{EVENTS};charset=utf-8"], True),
        ([f"{EVENTS}, */*"], True),
        ([f"{JSON}, {EVENTS}"], True),
        ([JSON, EVENTS], True),
        ([f"{EVENTS};q=0.5, {JSON}"], False),
        ([f"{EVENTS};q=0.5, */*;q=0.1"], True),
        ([f"{EVENTS};q=0"], False),
        ([f'{JSON};x="{EVENTS}"'], False),
        ([f"{EVENTS}2"], False),
    ],
)
def test_events_are_sent_if_accept_prefers_them(accept: list[str], *, expected: bool) -> None:
    """RFC 9110, 12.5.1."""
    assert expected is headers.prefers_media_type(fields("Accept", *accept), EVENTS, JSON)


@pytest.mark.parametrize(
    ("accept", "expected"), [([], False), ([PROMETHEUS_2], True), ([PROMETHEUS_TEXT_FIRST], False), (["*/*"], False)]
)
def test_openmetrics_is_sent_if_prometheus_prefers_it(accept: list[str], *, expected: bool) -> None:
    found = headers.prefers_media_type(fields("Accept", *accept), "application/openmetrics-text", "text/plain")
    assert expected is found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["gzip"], True),
        (["GZIP"], True),
        (["x-gzip"], True),
        (["br, gzip;q=0.1"], True),
        (["*"], True),
        (["br", "gzip"], True),
        ([], False),
        ([""], False),
        (["gzip;q=0"], False),
        (["gzip; Q=0.000"], False),
        (["gzip;q=0, *"], False),
        (["*;q=0"], False),
        (["identity"], False),
        (["notgzip"], False),
    ],
)
def test_gzip_is_sent_if_it_is_acceptable(values: list[str], *, expected: bool) -> None:
    """RFC 9110, 12.5.3."""
    assert expected is headers.accepts_gzip(fields("Accept-Encoding", *values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["respond-async"], True),
        (["Respond-Async"], True),
        (["respond-async, wait=10"], True),
        (["wait=10", "respond-async"], True),
        (["respond-async; x=1"], True),
        (['respond-async=""'], True),
        (["respond-async ="], True),
        ([], False),
        (["respond-sync"], False),
        (["respond-async=1"], False),
        (['x="a, respond-async"'], False),
        (["wait=10; respond-async"], False),
    ],
)
def test_prefer_is_read_by_its_grammar(values: list[str], *, expected: bool) -> None:
    """RFC 7240, 2: a list of preferences with parameters, whose values may be quoted; an empty value is none."""
    assert expected is headers.prefers_async(fields("Prefer", *values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["Bearer k"], "k"),
        (["bearer   k "], "k"),
        (["BEARER k"], "k"),
        (["Basic k"], ""),
        (["Bearer"], ""),
        (["Bearerk"], ""),
        (["k"], ""),
        (["Bearer k", "Bearer j"], ""),
        ([], ""),
    ],
)
def test_the_bearer_token_is_that_of_one_field(values: list[str], expected: str) -> None:
    """RFC 9110, 11.4, and RFC 6750, 2.1. Two fields are ambiguous and authenticate no client."""
    assert expected == headers.bearer_token(fields("Authorization", *values))


@pytest.mark.parametrize(("values", "expected"), [(["k"], "k"), ([" k\t"], "k"), (["k", "k"], ""), ([], "")])
def test_a_repeated_single_field_has_no_value(values: list[str], expected: str) -> None:
    assert expected == headers.single_value(fields("X-API-KEY", *values), "X-API-KEY")
