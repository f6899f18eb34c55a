"""Parser of Retry-After, in both forms."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.outbound.retry_after import parse_retry_after

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([b"0"], 0.0),
        ([b" 120 "], 120.0),
        ([b"86400"], 86_400.0),
        ([b"Sat, 21 Nov 2026 12:01:30 GMT"], 90.0),
        ([b"Sat, 21 Nov 2026 12:00:00 GMT"], 0.0),
        ([], None),
        ([b"1", b"2"], None),
        ([b"86401"], None),
        ([b"9999999999"], None),
        ([b"-1"], None),
        ([b"1.5"], 1.5),
        ([b"0.25"], 0.25),
        ([b".5"], None),
        ([b"1,5"], None),
        ([b"1e3"], None),
        ([b"\xb2"], None),
        ([b""], None),
        ([b"soon"], None),
        ([b"Sat, 21 Nov 2026 11:59:59 GMT"], None),
        ([b"Sat Nov 21 12:01:30 2026"], 90.0),  # asctime's form, which is UTC
        ([b"Sat, 99 Nov 2026 12:01:30 GMT"], None),
        ([b"Sat, 21 Nov 9999999 12:01:30 GMT"], None),
    ],
)
def test_retry_after(values: list[bytes], seconds: float | None) -> None:
    """Seconds or a date, up to a day; any other value is ignored."""
    assert seconds == parse_retry_after(values, NOW)
