"""The trace that a request belongs to (W3C Trace Context), carried on to the provider."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.clock import Clock

_VALID_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch


def read_traceparent(values: Sequence[str], clock: Clock) -> str:
    """The header's value where it is valid, a new one where it is not, "" where there is none.

    `tracestate` and `baggage` are not carried on: they hold what other systems wrote for each other.
    """
    if not values:
        return ""
    if len(values) == 1 and _VALID_TRACEPARENT(values[0]):
        return values[0]
    return f"00-{clock.token(16).hex()}-{clock.token(8).hex()}-00"
