"""`Tracer` of the OpenTelemetry SDK. Spans have explicit parents: nothing is kept in context variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.clock import Clock
from gateway.observability.tracing import span_table
from gateway.observability.tracing.otel_providers import NO_CONTEXT, OtelProviders
from gateway.observability.tracing.span_table import Convention
from gateway.observability.tracing.spans import RunFacts

_NANOSECONDS = 1_000_000_000
_FLAGS = 0x03  # sampled, random: those that W3C Trace Context defines
_MIN_WAIT = 0.01  # seconds; a shorter wait is no span
_KINDS = {"server": SpanKind.SERVER, "internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_PROPAGATOR = TraceContextTextMapPropagator()
_MAX_STATE = 512  # characters of `tracestate` (W3C Trace Context, 3.3.1.5); a longer one is left out
_KEPT_STATES = 10_000  # requests whose `tracestate` is kept for the span of their run

Attributes: TypeAlias = dict[str, "str | int"]


class OtelTracer:
    """Starts the spans of the table, and records the metric."""

    def __init__(self, providers: OtelProviders, clock: Clock, convention: Convention) -> None:
        self._providers = providers
        self._tracer = providers.tracer
        self._clock = clock
        self._names = span_table.NAMES_OF_WORKFLOW[convention]
        self._states: dict[str, TraceState] = {}

    def start_request(
        self, method: str, route: str, context: tuple[Sequence[str], Sequence[str]], seconds_ago: float
    ) -> OtelRequestSpan:
        """Start the span of a request, as `Tracer.start_request`."""
        attributes: Attributes = {span_table.HTTP_METHOD: method}
        name = method
        if route != "*":
            path = "/" + route.lstrip("/")
            attributes[span_table.HTTP_ROUTE] = path
            name = f"{method} {path}"
        started = self._start(span_table.REQUEST, name, _caller(*context), attributes, seconds_ago=seconds_ago)
        span = OtelRequestSpan(started, self)
        if span.context.trace_state and len(self._states) < _KEPT_STATES:
            self._states[span.traceparent] = span.context.trace_state
        return span

    def start_run(self, run: RunFacts, traceparent: str, *, linked: bool) -> OtelRunSpan:
        """Start the span of a run, as `Tracer.start_run`."""
        attributes: Attributes = {
            span_table.OPERATION: span_table.INVOKE_WORKFLOW,
            **dict.fromkeys(self._names, run.alias),
            span_table.RUN_ID: run.run_id,
            span_table.CLIENT: run.client,
            span_table.API: run.api,
        }
        optional = (
            (span_table.LABEL, run.label),
            (span_table.VERSION, run.version),
            (span_table.REPLAY_OF, run.replay_of),
        )
        attributes |= {name: value for name, value in optional if value is not None}
        name = f"{span_table.INVOKE_WORKFLOW} {run.alias}"
        origin = _span_context(traceparent, self._states.get(traceparent))
        if origin is None:
            span = self._start(span_table.RUN, name, NO_CONTEXT, attributes)
        elif linked:
            span = self._start(span_table.RUN, name, NO_CONTEXT, attributes, links=[Link(origin)])
        else:
            span = self._start(
                span_table.RUN, name, trace.set_span_in_context(NonRecordingSpan(origin), NO_CONTEXT), attributes
            )
        return OtelRunSpan(span, self, run.alias)

    def start_delivery(self, run_id: str, address: tuple[str, int], attempts: int, traceparent: str) -> OtelCallSpan:
        """Start the span of a delivery, as `Tracer.start_delivery`."""
        attributes: Attributes = {span_table.RUN_ID: run_id}
        origin = _span_context(traceparent)
        links = [] if origin is None else [Link(origin)]
        return self.start_call(
            span_table.DELIVERY, NO_CONTEXT, ("POST", address, attempts), attributes, error_from=300, links=links
        )

    async def close(self) -> None:
        """Export what is left, within `SHUTDOWN_SECONDS`."""
        await self._providers.close()

    def start_call(
        self,
        kind: span_table.SpanType,
        parent: Context,
        request: tuple[str, tuple[str, int], int],
        attributes: Attributes,
        *,
        error_from: int,
        links: Sequence[Link] = (),
    ) -> OtelCallSpan:
        """Start the span of an outgoing request: its method, its address, and how often it was sent before.

        `error_from`: the lowest status that is an error.
        """
        method, (host, port), resends = request
        attributes[span_table.HTTP_METHOD] = method
        attributes[span_table.SERVER_ADDRESS] = host
        attributes[span_table.SERVER_PORT] = port
        if resends:
            attributes[span_table.HTTP_RESEND_COUNT] = resends
        return OtelCallSpan(self._start(kind, method, parent, attributes, links=links), self, error_from)

    def add_wait(self, parent: Context, seconds: float, cause: str) -> None:
        """Add the span of a wait that has just ended."""
        span = self._start(
            span_table.WAIT, span_table.WAIT.name, parent, {span_table.WAIT_FOR: cause}, seconds_ago=seconds
        )
        span.end(self.now())

    def record_duration(self, seconds: float, alias: str, error: str | None, span: Context) -> None:
        """Record the duration of a run; its span is the exemplar."""
        histogram = self._providers.histogram
        if histogram is not None:
            attributes: Attributes = {
                span_table.OPERATION: span_table.INVOKE_WORKFLOW,
                **dict.fromkeys(self._names, alias),
            }
            if error is not None:
                attributes[span_table.ERROR_TYPE] = error
            histogram.record(seconds, attributes, context=span)

    def request_ended(self, traceparent: str) -> None:
        """Forget the `tracestate` of a request."""
        self._states.pop(traceparent, None)

    def now(self) -> int:
        """Return the time in nanoseconds since 1970."""
        return int(self._clock.now().timestamp() * _NANOSECONDS)

    def _start(
        self,
        kind: span_table.SpanType,
        name: str,
        parent: Context,
        attributes: Attributes,
        *,
        links: Sequence[Link] = (),
        seconds_ago: float = 0.0,
    ) -> trace.Span:
        return self._tracer.start_span(
            name,
            context=parent,
            kind=_KINDS[kind.kind],
            attributes=attributes,
            links=links,
            start_time=self.now() - int(seconds_ago * _NANOSECONDS),
        )


class _OtelSpan:
    """A span of the SDK, and what identifies it."""

    __slots__ = ("_tracer", "context", "span")

    def __init__(self, span: trace.Span, tracer: OtelTracer) -> None:
        self.span = span
        self.context = span.get_span_context()
        self._tracer = tracer

    @property
    def traceparent(self) -> str:
        """The span in the format of W3C Trace Context."""
        context = self.context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & _FLAGS:02x}"

    @property
    def log_fields(self) -> Mapping[str, str]:
        """trace_id and span_id."""
        return {"trace_id": f"{self.context.trace_id:032x}", "span_id": f"{self.context.span_id:016x}"}

    def _end(self, attributes: Attributes, *, failed: bool) -> None:
        if not self.span.is_recording():
            return
        self.span.set_attributes(attributes)
        if failed:
            self.span.set_status(StatusCode.ERROR)
        self.span.end(self._tracer.now())


class OtelRequestSpan(_OtelSpan):
    """Span of a request. A status below 500 is no error of the server."""

    __slots__ = ()

    def end(self, status: int, code: str) -> None:
        """End the span, as `RequestSpan.end`."""
        attributes: Attributes = {span_table.HTTP_STATUS: status}
        failed = status >= 500
        if failed:
            attributes[span_table.ERROR_TYPE] = code or str(status)
        self._end(attributes, failed=failed)
        if self.context.trace_state:
            self._tracer.request_ended(self.traceparent)


class OtelCallSpan(_OtelSpan):
    """Span of an outgoing request. `error_from`: the lowest status that is an error."""

    __slots__ = ("_error_from",)

    def __init__(self, span: trace.Span, tracer: OtelTracer, error_from: int) -> None:
        super().__init__(span, tracer)
        self._error_from = error_from

    def end(self, status: int | None, error: str | None = None) -> None:
        """End the span, as `CallSpan.end`."""
        attributes: Attributes = {}
        if status is not None:
            attributes[span_table.HTTP_STATUS] = status
            if status >= self._error_from:
                error = str(status)
        if error is not None:
            attributes[span_table.ERROR_TYPE] = error
        self._end(attributes, failed=error is not None)


class OtelRunSpan(_OtelSpan):
    """Span of a run in this process."""

    __slots__ = ("_alias", "_as_parent", "error_type")

    def __init__(self, span: trace.Span, tracer: OtelTracer, alias: str) -> None:
        super().__init__(span, tracer)
        self.error_type: str | None = None
        self._alias = alias
        self._as_parent = trace.set_span_in_context(span, NO_CONTEXT)

    def add_wait(self, seconds: float, cause: str) -> None:
        """Add a span for the wait, unless it was short."""
        if seconds >= _MIN_WAIT:
            self._tracer.add_wait(self._as_parent, seconds, cause)

    def add_phase(self, phase: str) -> None:
        """Add an event for the phase."""
        self.span.add_event(span_table.PHASE, {span_table.PHASE: phase}, self._tracer.now())

    def start_call(self, method: str, operation: str, address: tuple[str, int], resends: int) -> OtelCallSpan:
        """Start the span of a call, as `RunSpan.start_call`."""
        return self._tracer.start_call(
            span_table.UPSTREAM_CALL,
            self._as_parent,
            (method, address, resends),
            {span_table.CALL: operation},
            error_from=400,
        )

    def end(self, outcome: str | None, provider: str, attempts: int, seconds: float | None) -> None:
        """End the span and record the metric, as `RunSpan.end`."""
        attributes: Attributes = {span_table.PROVIDER: provider, span_table.ATTEMPTS: attempts}
        if outcome is None:
            self._end(attributes, failed=False)
            return
        attributes[span_table.OUTCOME] = outcome
        error = None if outcome == "succeeded" else self.error_type or span_table.UNFINISHED
        if error is not None:
            attributes[span_table.ERROR_TYPE] = error
        self._end(attributes, failed=span_table.is_error(outcome, error))
        if seconds is not None:
            self._tracer.record_duration(seconds, self._alias, error, self._as_parent)


def _caller(traceparents: Sequence[str], tracestates: Sequence[str]) -> Context:
    """Return the context of the caller's span; without a valid one, that of a new trace."""
    if len(traceparents) != 1:
        return NO_CONTEXT
    state = ",".join(tracestates)
    carrier = {"traceparent": traceparents[0].strip(" \t"), "tracestate": state if len(state) <= _MAX_STATE else ""}
    return _PROPAGATOR.extract(carrier, NO_CONTEXT)


def _span_context(traceparent: str, state: TraceState | None = None) -> SpanContext | None:
    """Return the span of a `traceparent` that this gateway wrote or has checked; None if it is empty."""
    parts = traceparent.split("-")
    if len(parts) != 4:
        return None
    flags = trace.TraceFlags(int(parts[3], 16))
    return SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=False, trace_flags=flags, trace_state=state)
