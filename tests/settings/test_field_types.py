"""Names, patterns, hashes and times."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from gateway.settings.types.fields import (
    check_key_hash,
    check_name,
    check_provider_workflow_name,
    check_scope,
    parse_timestamp,
)


@pytest.mark.parametrize("text", ["a", "support-triage", "v1.2_b", "7", ".a", "A" * 100])
def test_name(text: str) -> None:
    """Letters, digits, dot, underscore and dash, 1 to 100 of them."""
    assert text == check_name(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/b", "a b", "a*", "é", "a\n", "a\0", "A" * 101])
def test_not_a_name(text: str) -> None:
    """Text that could escape a path segment, a label or a line."""
    with pytest.raises(ValueError, match="a name has"):
        check_name(text)


def test_provider_workflow_name() -> None:
    """Any name of a provider that fits into one path segment."""
    for sound in ("dep_2cP7", "team/flow a?b", "Käse", "x" * 500):
        assert sound == check_provider_workflow_name(sound)
    for wrong in ("", ".", "..", "a\nb", "a\0", "x" * 501):
        with pytest.raises(ValueError, match="printable"):
            check_provider_workflow_name(wrong)


def test_scope() -> None:
    """A scope is a pattern over aliases, or over a provider's own names."""
    for sound in ("*", "support-*", "a?c", "[ab]*", "[!a]*", "promptlayer/*", "promptlayer/team/flow a"):
        assert sound == check_scope(sound)
    for wrong in ("", "a b", "/a", "a/", "pro*/a", "é", "a/\n"):
        with pytest.raises(ValueError, match="must be a pattern"):
            check_scope(wrong)


def test_key_hash() -> None:
    """SHA-256 in hexadecimal, normalized to lower case."""
    assert "sha256:" + "ab" * 32 == check_key_hash("sha256:" + "AB" * 32)
    for wrong in (
        "",
        "ab" * 32,
        "sha256:",
        "sha256:" + "ab" * 31,
        "sha256:" + "gh" * 32,
        "SHA256:" + "ab" * 32,
        "rw_key",
    ):
        with pytest.raises(ValueError, match="never the key"):
            check_key_hash(wrong)


def test_the_hash_of_an_empty_key_is_refused() -> None:
    """R84: it results from an empty variable, and would authenticate every client."""
    with pytest.raises(ValueError, match="the hash of an empty key"):
        check_key_hash("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855")


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:30:00Z", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
        ("2027-01-31 12:30", datetime(2027, 1, 31, 12, 30, tzinfo=UTC)),
        ("2027-01-31T12:30:00+02:00", datetime(2027, 1, 31, 10, 30, tzinfo=UTC)),
        (date(2027, 1, 31), datetime(2027, 1, 31, tzinfo=UTC)),
        (datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=1))), datetime(2027, 1, 31, 11, tzinfo=UTC)),
    ],
)
def test_timestamp(written: object, read: datetime) -> None:
    """A date is 00:00 UTC, a time without a zone is UTC; normalized to UTC."""
    assert (read, UTC) == (parse_timestamp(written), parse_timestamp(written).tzinfo)


@pytest.mark.parametrize(
    "written", ["", "2027", 2027, "20270131", "2027-W05-7", "2027-02-30", "31.01.2027", "soon", None, True]
)
def test_not_a_timestamp(written: object) -> None:
    """Everything else; a number would be ambiguous."""
    with pytest.raises(ValueError, match="must be a date"):
        parse_timestamp(written)


def test_timestamp_before_the_calendar() -> None:
    """A time zone that leads out of the calendar is an invalid date."""
    with pytest.raises(ValueError, match="must be a date"):
        parse_timestamp("0001-01-01T00:00:00+05:00")
