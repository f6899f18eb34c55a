"""Trace context of a request (W3C Trace Context): read, propagated to the provider, and the request's own span."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.clock import Clock
from gateway.http.request import Request
from gateway.observability.tracing.spans import Tracer

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


def request_traceparent(request: Request, clock: Clock) -> str:
    """The `traceparent` of the request's span, or without tracing that of the client, as `read_traceparent`."""
    if request.span is not None:
        return request.span.traceparent
    return read_traceparent(request.head.traceparents, clock)


def start_span(tracer: Tracer, request: Request, seconds_ago: float = 0.0) -> None:
    """Start the span of a request that arrived `seconds_ago`, unless its route needs no key."""
    route = request.route
    if route.requires_key:
        context = request.head.traceparents, request.headers.getall("tracestate", ())
        request.span = tracer.start_request(request.method, route.path, context, seconds_ago)
