"""Trace context of a request (W3C Trace Context), propagated to the provider."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.clock import Clock

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?"
).fullmatch
_SAMPLED = 0x01


def read_traceparent(values: Sequence[str], clock: Clock) -> str:
    """The `traceparent` to propagate, in version 00. A new trace if the field is invalid, empty if there is none.

    A later version is read as far as version 00 defines it: trace id, parent id and the flag `sampled` (section 4.3).
    `tracestate` and `baggage` are not propagated: their contents are private to the systems that wrote them.
    """
    if not values:
        return ""
    match = _TRACEPARENT(values[0].strip(" \t")) if len(values) == 1 else None
    if match is None or (match[1] == "00" and match[4] is not None):
        return f"00-{clock.token(16).hex()}-{clock.token(8).hex()}-00"
    if match[1] == "00":
        return match[0]
    return f"00-{match[2]}-{int(match[3], 16) & _SAMPLED:02x}"
