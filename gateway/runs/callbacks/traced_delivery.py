"""Delivery of a callback in a span of its own, which is linked to the span of the run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from gateway.observability.tracing.spans import Tracer
from gateway.outbound.webhook.sender import DeliveryResult, WebhookMessage, WebhookResponse, WebhookSender
from gateway.runs.durable.codec import decode_details
from gateway.runs.run_tracing import CANCELLED
from gateway.store.contract import ContentUnreadable, Store, StoreUnavailable
from gateway.store.records import Delivery

_PORTS = {"http": 80, "https": 443}


async def deliver_traced(
    tracer: Tracer, store: Store, sender: WebhookSender, delivery: Delivery, message: WebhookMessage
) -> DeliveryResult:
    """Deliver a message as `WebhookSender.deliver`; the receiver gets the `traceparent` of the span."""
    address, origin = _address(delivery.url), await _trace_of_run(store, delivery.run_id)
    span = tracer.start_delivery(delivery.run_id, address, delivery.attempts, origin)
    status: int | None = None
    error: str | None = CANCELLED
    try:
        result = await sender.deliver(delivery.url, replace(message, traceparent=span.traceparent), delivery.client)
        if isinstance(result, WebhookResponse):
            status, error = result.status, None
        else:
            error = result.value
    finally:
        span.end(status, error)
    return result


async def _trace_of_run(store: Store, run_id: str) -> str:
    """Return the `traceparent` of the run's span; empty if it is not known, or cannot be read now."""
    with suppress(StoreUnavailable, ContentUnreadable):
        run = await store.get_overview(run_id)
        trace = decode_details(run).get("trace") if run is not None else None
        return trace if isinstance(trace, str) else ""
    return ""


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
