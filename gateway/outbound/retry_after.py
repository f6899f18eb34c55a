"""Retry-After of a response (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_SECONDS = 86_400.0


def parse_retry_after(values: Sequence[bytes], now: datetime) -> float | None:
    """Return the Retry-After field of a response as seconds from `now`.

    The value is whole seconds, decimals (not in the RFC) or a date.

    Returns None for several fields, a past date, more than a day, or an invalid value.
    """
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1").strip()
    try:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text):
            seconds = float(text)
        else:
            date = parsedate_to_datetime(text)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)  # the asctime form is UTC (RFC 9110, 5.6.7)
            seconds = (date - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_SECONDS else None
