"""Windows of budgets are those of the calendar, in UTC; conditions are all fulfilled or the run does not count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runs.budgets.budget import Budget, Period, window_of


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "at", "label", "starts", "ends"),
    [
        ("day", "2026-11-27T23:59:59.999999", "2026-11-27", "2026-11-27", "2026-11-28"),
        ("day", "2026-11-28", "2026-11-28", "2026-11-28", "2026-11-29"),
        ("day", "2024-02-29T12:00", "2024-02-29", "2024-02-29", "2024-03-01"),
        ("week", "2026-11-29T23:59:59", "2026-W48", "2026-11-23", "2026-11-30"),
        ("week", "2026-11-30", "2026-W49", "2026-11-30", "2026-12-07"),
        ("week", "2027-01-01", "2026-W53", "2026-12-28", "2027-01-04"),
        ("week", "2024-12-30", "2025-W01", "2024-12-30", "2025-01-06"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
        ("month", "2027-02-01", "2027-02", "2027-02-01", "2027-03-01"),
        ("month", "2024-02-10", "2024-02", "2024-02-01", "2024-03-01"),
    ],
)
def test_windows_are_those_of_the_calendar(period: Period, at: str, label: str, starts: str, ends: str) -> None:
    """Leap days, weeks over a change of the year, months of any length."""
    assert (label, utc(starts).timestamp(), utc(ends).timestamp()) == window_of(period, utc(at))


def test_another_time_zone_changes_nothing() -> None:
    at = datetime(2026, 11, 28, 1, tzinfo=timezone(timedelta(hours=2)))
    assert "2026-11-27" == window_of("day", at).label


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 - the time zone follows
    st.sampled_from(["day", "week", "month"]),
)
def test_every_time_is_in_one_window(at: datetime, period: Period) -> None:
    """The next window begins where one ends, with another name."""
    at = at.replace(tzinfo=UTC)
    window = window_of(period, at)
    assert window.starts_at <= at.timestamp() < window.ends_at
    following = window_of(period, datetime.fromtimestamp(window.ends_at, UTC))
    assert window.ends_at == following.starts_at
    assert window.label != following.label
    assert window == window_of(period, datetime.fromtimestamp(window.starts_at, UTC))


@pytest.mark.parametrize(
    ("conditions", "counts"),
    [
        ({}, True),
        ({"client": "one"}, True),
        ({"client": "two"}, False),
        ({"team": "web"}, True),
        ({"team": "ops"}, False),
        ({"workflow": "triage", "provider": "studio"}, True),
        ({"workflow": "triage", "provider": "layer"}, False),
        ({"key": "key_1"}, True),
        ({"key": "key_2"}, False),
        ({"tag": "nightly"}, True),
        ({"tag": "daily"}, False),
        ({"client": "one", "tag": "daily"}, False),
    ],
)
def test_all_conditions_must_be_fulfilled(conditions: dict[str, str], *, counts: bool) -> None:
    budget = Budget("all", 100, "day", **conditions)  # type: ignore[arg-type]
    covers = budget.covers("one", "web", "triage", "studio")
    assert counts == (covers and budget.includes("key_1", ("nightly", "other")))
