"""Durations, sizes and rates."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.settings.types.units import MAX_DURATION, RateSpec, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("10s", 10),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        ("7d", 604800),
        ("15", 15),
        (15, 15),
        (0.25, 0.25),
        (0, 0),
    ],
)
def test_duration(written: object, seconds: float) -> None:
    """Exact seconds; a bare number is in seconds."""
    assert seconds == parse_duration(written)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "s",
        "-1s",
        "+1s",
        "1 s",
        "1m30s",
        "1w",
        "1S",
        "1e3",
        ".5s",
        "5.s",
        "٣s",
        "nan",
        "9999999d",
        -1,
        math.inf,
        math.nan,
        MAX_DURATION + 1,
        True,
        None,
        [1],
        timedelta(seconds=1),
    ],
)
def test_not_a_duration(written: object) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("1MB", 1_000_000),
        ("1MiB", 1_048_576),
        ("64kB", 64_000),
        ("64KB", 64_000),
        ("4KiB", 4096),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("1.5MB", 1_500_000),
        ("512B", 512),
        ("512", 512),
        (512, 512),
    ],
)
def test_size(written: object, count: int) -> None:
    """Bytes, with decimal or binary (i) prefixes."""
    assert count == parse_size(written)


@pytest.mark.parametrize("written", ["", "MB", "1mb", "1Mb", "1M", "-1MB", "1.5B", "2GiB", 0, -1, 1.5, True, None, []])
def test_not_a_size(written: object) -> None:
    """Everything else: lower-case letters could mean bits; fractions of a byte are invalid."""
    with pytest.raises(ValueError, match="must be a size"):
        parse_size(written)


@pytest.mark.parametrize(
    ("written", "count", "per"), [("50/s", 50, 1), ("100/m", 100, 60), ("10/h", 10, 3600), ("0.5/s", 0.5, 1)]
)
def test_rate(written: str, count: float, per: float) -> None:
    """A count per second, minute or hour."""
    assert RateSpec(count, per) == parse_rate(written)


@pytest.mark.parametrize(
    "written", ["", "50", "0/s", "-1/s", "50/d", "50/ s", "50/sec", "/s", "50/s/s", 50, None, True]
)
def test_not_a_rate(written: object) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="must be a rate"):
        parse_rate(written)


@settings(deadline=None)
@given(st.integers(0, 3000), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_any_duration(number: int, unit: tuple[str, float]) -> None:
    """A number with a unit is that multiple of the unit."""
    assert math.isclose(number * unit[1], parse_duration(f"{number}{unit[0]}"))


@settings(deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    """Parsers raise only ValueError, and return finite values."""
    with suppress(ValueError):
        assert 0 <= parse_duration(text) <= MAX_DURATION
    with suppress(ValueError):
        assert parse_size(text) >= 1
    with suppress(ValueError):
        assert parse_rate(text).count > 0
