"""Tracing of runs: spans from records, and calls to providers within a span."""

from __future__ import annotations

from gateway.errors import RunError
from gateway.limits.blocking_scope import blocking_scope
from gateway.observability.tracing.spans import RunFacts, RunSpan, Tracer
from gateway.runs.catalog import Provider
from gateway.runs.model import RunRecord
from gateway.store.records import Phase
from providers.contract import Call, ProviderFault, Reply

CANCELLED = "cancelled"
"""Error of a call that was given up."""


def start_run(
    tracer: Tracer, record: RunRecord, alias: str, *, linked: bool = False, phase: Phase | None = None
) -> None:
    """Start the span of a run on the workflow `alias`.

    `linked`: the request has ended, maybe in another process, so the span is not a child of its span. `phase`: that of
    an adopted run.
    """
    spec = record.spec
    blocking_scope.set(None)
    facts = RunFacts(record.id, alias, spec.client, spec.api, spec.label, spec.version, spec.replay_of)
    record.span = tracer.start_run(facts, spec.traceparent, linked=linked)
    if phase is not None:
        record.span.add_phase(phase.name.lower())


def end_run(span: RunSpan, record: RunRecord) -> None:
    """End the span of a run that has ended, in the store at least, or that another process continues."""
    outcome, seconds = None, None
    if record.finished_at is not None:
        outcome, seconds = record.ending, None if record.counted else record.duration
    elif span.error_type is not None:  # the store has ended it as cancelled
        outcome = "not_run"
    span.end(outcome, record.provider, record.attempts, seconds)


def trace_abandoned(tracer: Tracer, record: RunRecord, alias: str, error: RunError) -> None:
    """Add the span of a run that this process ends without continuing it."""
    start_run(tracer, record, alias, linked=True)
    if record.span is not None:
        record.span.error_type = error.code
        end_run(record.span, record)


async def send_traced(provider: Provider, call: Call, deadline: float, span: RunSpan, resends: int) -> Reply:
    """Make a call as `Upstream.send`, in a span of its own that the provider receives as `traceparent`.

    `resends`: how often the call was made before.
    """
    status: int | None = None
    error: str | None = CANCELLED
    call_span = span.start_call(call.method, call.operation, provider.address, resends)
    try:
        reply = await provider.upstream.send(call, deadline, call_span.traceparent)
        status, error = reply.status, None
    except ProviderFault as fault:
        error = fault.cause.value
        raise
    finally:
        call_span.end(status, error)
    return reply
