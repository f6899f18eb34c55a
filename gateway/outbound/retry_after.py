"""Retry-After of a response (RFC 9110, 10.2.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_SECONDS = 86_400.0


def parse_retry_after(values: Sequence[bytes], now: datetime) -> float | None:
    """Seconds from `now` that the Retry-After field asks to wait: whole seconds, decimals (not in the RFC) or a date.

    None for several fields, a past date, more than a day, or any other value.
    """
    if len(values) != 1:
        return None
    text = values[0].decode("latin-1").strip()
    try:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{0,9})?", text):
            seconds = float(text)
        else:
            date = parsedate_to_datetime(text)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)  # asctime's form is UTC (RFC 9110, 5.6.7)
            seconds = (date - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_SECONDS else None
