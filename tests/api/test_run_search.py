"""Query of `GET /runs`: every condition, what has no meaning, and cursors that belong to one list."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from datetime import UTC, datetime

import pytest
from yarl import URL

from gateway.api.run_search import encode_cursor, parse_run_filter
from gateway.problems import PROBLEMS, Problem
from gateway.store.run_filter import RunFilter

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
ID = "run_" + "0123456789abcdef" * 2


def parse(query: str, client: str = "one") -> RunFilter:
    """Return the filter of a query as it is in a request target."""
    return parse_run_filter(URL.build(path="/", query_string=query, encoded=True).query, client)


def refused(query: str) -> list[str]:
    """Return the pointers of the errors of a query that is refused; the value is not in the problem."""
    with pytest.raises(Problem) as caught:
        parse(query)
    assert "invalid_request" == caught.value.code
    assert b"CANARY" not in caught.value.document("")
    return [error.pointer for error in caught.value.errors]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", RunFilter("one")),
        ("limit=7", RunFilter("one", limit=7)),
        ("status=failed&workflow=triage", RunFilter("one", status="failed", workflow="triage")),
        ("provider=layer&provider_run_id=98765", RunFilter("one", provider="layer", provider_run_id="98765")),
        ("code=upstream_error", RunFilter("one", code="upstream_error")),
        ("tag=team:a%2Fb", RunFilter("one", tags=("team:a/b",))),
        ("tag=b&tag=a&tag=b", RunFilter("one", tags=("a", "b"))),
        ("meta.ticket=4711", RunFilter("one", metadata=(("ticket", "4711"),))),
        ("meta.b=&meta.a.c=%C3%A9+%26", RunFilter("one", metadata=(("a.c", "é &"), ("b", "")))),
        ("id=run_01234567", RunFilter("one", id_prefix="run_01234567")),
        (f"id={ID}", RunFilter("one", id_prefix=ID)),
        (f"replay_of={ID}", RunFilter("one", replay_of=ID)),
        ("created_after=2026-11-21T12:00:00Z", RunFilter("one", created_from=NOON)),
        ("created_before=2026-11-21T13:30:00.250%2B01:30", RunFilter("one", created_until=NOON + 0.25)),
        ("created_before=2026-11-21t12:00:00.123456789z", RunFilter("one", created_until=NOON + 0.123456)),
        ("min_duration=30&max_duration=30.5", RunFilter("one", min_duration=30.0, max_duration=30.5)),
        ("min_duration=0&max_duration=0", RunFilter("one", min_duration=0.0, max_duration=0.0)),
    ],
)
def test_every_condition(query: str, expected: RunFilter) -> None:
    assert expected == parse(query)


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_code_can_be_searched(code: str) -> None:
    assert code == parse(f"code={code}").code


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("unknown=CANARY", "?unknown"),
        ("Status=failed", "?Status"),
        ("metadata=CANARY", "?metadata"),
        ("client=two", "?client"),
        ("x" * 500 + "=1", "?" + "x" * 100),
        ("=CANARY", "?"),
        ("status=failed&status=failed", "?status"),
        ("limit=1&limit=2", "?limit"),
        ("cursor=x&cursor=y", "?cursor"),
        ("workflow=", "?workflow"),
        (f"workflow={'CANARY' * 100}", "?workflow"),
        ("provider=", "?provider"),
        ("provider_run_id=", "?provider_run_id"),
        ("code=CANARY", "?code"),
        ("code=", "?code"),
        ("code=Internal", "?code"),
        ("tag=", "?tag"),
        ("tag=CANARY%20", "?tag"),
        ("tag=CANARY%0A", "?tag"),
        ("tag=a,CANARY", "?tag"),
        (f"tag={'x' * 65}", "?tag"),
        ("&".join(f"tag=t{number}" for number in range(11)), "?tag"),
        ("meta.=CANARY", "?meta."),
        ("meta.a=1&meta.a=CANARY", "?meta.a"),
        ("&".join(f"meta.m{number}=1" for number in range(11)), "?meta.m10"),
        ("id=run_0123456", "?id"),
        ("id=01234567", "?id"),
        ("id=run_0123456G", "?id"),
        ("id=RUN_01234567", "?id"),
        (f"id={ID}0", "?id"),
        ("id=run_01234567%0A", "?id"),
        ("created_after=2026-11-21", "?created_after"),
        ("created_after=2026-11-21T12:00:00", "?created_after"),
        ("created_after=2026-11-21T12:00:00+01:00", "?created_after"),
        ("created_after=2026-13-21T12:00:00Z", "?created_after"),
        ("created_after=2026-11-21T12:00:60Z", "?created_after"),
        ("created_after=1795262400", "?created_after"),
        ("created_before=CANARY", "?created_before"),
        ("created_before=", "?created_before"),
        ("created_after=2026-11-21T12:00:00Z&created_before=2026-11-21T12:00:00Z", "?created_before"),
        ("created_after=2026-11-21T12:00:01Z&created_before=2026-11-21T12:00:00Z", "?created_before"),
        ("min_duration=-1", "?min_duration"),
        ("min_duration=1e3", "?min_duration"),
        ("min_duration=nan", "?min_duration"),
        ("min_duration=%D9%A1", "?min_duration"),
        ("max_duration=", "?max_duration"),
        ("max_duration=9999999999", "?max_duration"),
        ("min_duration=2&max_duration=1", "?max_duration"),
    ],
)
def test_what_has_no_meaning_is_refused(query: str, pointer: str) -> None:
    """Nothing is ignored: the list would have runs that were not asked for."""
    assert [pointer] == refused(query)


CONDITIONS = ("", "status=failed", "workflow=a", "tag=a", "tag=a&tag=b", "meta.a=b", "meta.a=c", "min_duration=1")


@pytest.mark.parametrize("query", CONDITIONS)
def test_a_cursor_is_valid_for_the_same_conditions_only(query: str) -> None:
    """The limit may change, and so may the order of the parameters."""
    position = (1_795_000_000.25, ID)
    cursor = "cursor=" + encode_cursor(position, parse(query))
    assert position == parse(f"{cursor}&{query}").before
    assert position == parse("&".join([*reversed(query.split("&")), cursor, "limit=3"]).lstrip("&")).before
    for other in CONDITIONS:
        if other != query:
            assert ["?cursor"] == refused(f"{other}&{cursor}")
    with pytest.raises(Problem):
        parse(f"{query}&{cursor}", client="two")


def test_a_cursor_goes_on_with_its_own_list() -> None:
    second = parse("tag=a&cursor=" + encode_cursor((2.0, ID), parse("tag=a")))
    third = parse("tag=a&cursor=" + encode_cursor((1.0, ID), second))
    assert (1.0, ID) == third.before


@pytest.mark.parametrize("text", ["1.0:" + ID, f"nan:{ID}:0", "x:y:z", ":::", ""])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    assert ["?cursor"] == refused("cursor=" + urlsafe_b64encode(text.encode()).decode())
