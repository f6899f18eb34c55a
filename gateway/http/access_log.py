"""Access log: one line for each request, or for a share of the successful ones."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.clock import Clock
from gateway.http.request import Request
from gateway.observability.json_logging import log_fields
from gateway.observability.logger_protocol import Logger

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_GOOD_STATUSES = frozenset({"succeeded", "queued", "running"})


@dataclass(slots=True)
class AccessSampling:
    """Share of the lines that are written of requests that succeeded within `slow` seconds.

    Always written are the lines of errors, of runs that did not succeed, and of requests that change something other
    than by a run, such as a cancellation.
    """

    clock: Clock
    share: float = 1.0
    slow: float = 30.0

    def reconfigure(self, share: float, slow: float) -> None:
        """Use these for subsequent requests."""
        self.share, self.slow = share, slow

    def applies_to(self, request: Request, status: int, code: str, seconds: float) -> bool:
        """Return whether a line is of those of which a share is written."""
        if code or status >= 400 or seconds >= self.slow:
            return False
        run = request.run
        return request.method in _SAFE_METHODS if run is None else run.status in _GOOD_STATUSES


def write_access_line(
    log: Logger, sampling: AccessSampling, request: Request, status: int, code: str, *, seconds: float
) -> None:
    """Write the line of a request, unless it is of the share that is left out. `code`: "" without an error."""
    sampled = False
    if sampling.share < 1.0:
        sampled = sampling.applies_to(request, status, code, seconds)
        if sampled and sampling.clock.random() >= sampling.share:
            return
    run = request.run
    fields: dict[str, object] = {
        "request_id": request.request_id,
        "route": request.route.name,
        "client": request.client_name,
        "status": status,
        "ms": round(seconds * 1e6) / 1e3,  # a third of the time of `round` with digits
    }
    if sampled:
        fields["sample_rate"] = sampling.share
    if code:
        fields["code"] = code
    if request.ops_caller is not None and request.ops_caller.name is not None:
        fields["actor"] = request.ops_caller.name
    if run is not None:
        fields["run_id"] = run.id
        fields["workflow"] = run.spec.workflow
        fields["provider"] = run.provider
        fields["attempts"] = run.attempts
        fields["outcome"] = run.status
        fields["provider_run_id"] = run.provider_run_id
        fields["api"] = run.spec.api
        fields["waited_ms"] = round(run.external_wait * 1e6) / 1e3
        if run.spec.traceparent:
            fields["trace_id"] = run.spec.traceparent[3:35]
    if request.span is not None:
        fields |= request.span.log_fields
    log_fields(log, "request", fields)
