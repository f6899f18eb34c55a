"""Interface of tracing for the rest of the gateway. Without tracing there is no tracer, and every span is None.

Each span has a `traceparent`, which is sent on or stored, and `log_fields`, its trace_id and span_id for log entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class TraceContext(Protocol):
    """What identifies a span, also after its end."""

    @property
    def traceparent(self) -> str:
        """The span in the format of W3C Trace Context."""

    @property
    def log_fields(self) -> Mapping[str, str]:
        """trace_id and span_id."""


class RequestSpan(TraceContext, Protocol):
    """Span of a request."""

    def end(self, status: int, code: str) -> None:
        """End the span; `code` is that of the problem document, or empty."""


class CallSpan(TraceContext, Protocol):
    """Span of a call to a provider, or of a delivery."""

    def end(self, status: int | None, error: str | None = None) -> None:
        """End the span with the status of the response, if there was one, or the cause of the failure."""


class RunSpan(TraceContext, Protocol):
    """Span of a run in this process. `error_type`: the code of the error that the run ended with."""

    error_type: str | None

    def add_wait(self, seconds: float, cause: str) -> None:
        """Add the span of a wait that has just ended."""

    def add_phase(self, phase: str) -> None:
        """Add the event that the stored run has reached a phase."""

    def start_call(self, method: str, operation: str, address: tuple[str, int], resends: int) -> CallSpan:
        """Start the span of a call to a provider at `address` (host, port)."""

    def end(self, outcome: str | None, provider: str, attempts: int, seconds: float | None) -> None:
        """End the span. `outcome`: None if another process continues the run; `seconds`: its duration, if it counts."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known of a run at the start of its span. `alias`: its workflow."""

    run_id: str
    alias: str
    client: str
    api: str
    label: str | None
    version: int | None
    replay_of: str | None


class Tracer(Protocol):
    """Starts spans. `traceparent` may be empty: no trace is known."""

    def start_request(
        self, method: str, route: str, context: tuple[Sequence[str], Sequence[str]], seconds_ago: float
    ) -> RequestSpan:
        """Start the span of a request that arrived `seconds_ago`; its parent is the caller's span.

        `context`: the values of the fields `traceparent` and `tracestate`.
        """

    def start_run(self, run: RunFacts, traceparent: str, *, linked: bool) -> RunSpan:
        """Start the span of a run: a child of the request's span, or in a trace of its own that is linked to it."""

    def start_delivery(self, run_id: str, address: tuple[str, int], attempts: int, traceparent: str) -> CallSpan:
        """Start the span of a delivery after `attempts` earlier ones, linked to the span of the run."""

    async def close(self) -> None:
        """Export what is left, within a few seconds at most."""
