"""Every refusal and fault that a client can see: one table, one document (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway import strictjson
from gateway.errors import RunError

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A row of the table. `retryable`: the same request may succeed later and can not cost a second run."""

    status: int
    title: str
    retryable: bool = False


PROBLEMS: Mapping[str, ProblemType] = MappingProxyType(
    {
        "malformed_json": ProblemType(400, "The body is not valid JSON"),
        "malformed_request": ProblemType(400, "The request is not valid HTTP"),
        "invalid_idempotency_key": ProblemType(400, "The Idempotency-Key is not acceptable"),
        "unauthorized": ProblemType(401, "A valid gateway key is required"),
        "forbidden": ProblemType(403, "This key may not do that"),
        "not_found": ProblemType(404, "There is no such thing"),
        "unknown_route": ProblemType(404, "There is no such route"),
        "workflow_not_found": ProblemType(404, "There is no such workflow"),
        "method_not_allowed": ProblemType(405, "The route has other methods"),
        "request_timeout": ProblemType(408, "The request did not arrive in time", retryable=True),
        "idempotency_in_flight": ProblemType(409, "The first request with this key is still running", retryable=True),
        "payload_too_large": ProblemType(413, "The body is too large"),
        "unsupported_media_type": ProblemType(415, "The body's type is not supported"),
        "invalid_request": ProblemType(422, "The request is not acceptable"),
        "idempotency_mismatch": ProblemType(422, "The Idempotency-Key was used with another body"),
        "callback_url_refused": ProblemType(422, "The callback_url is not acceptable"),
        "rejected_by_provider": ProblemType(422, "The provider does not accept this run"),
        "client_closed_request": ProblemType(499, "The client left before its run was started"),
        "rate_limited": ProblemType(429, "The client's limit is reached", retryable=True),
        "too_many_failures": ProblemType(429, "Too many failed attempts", retryable=True),
        "internal": ProblemType(500, "Runward made a mistake"),
        "run_failed": ProblemType(502, "The run failed at the provider"),
        "upstream_unreachable": ProblemType(502, "The provider can not be reached", retryable=True),
        "upstream_misconfigured": ProblemType(502, "No safe connection to the provider is possible"),
        "upstream_credentials": ProblemType(502, "The provider does not accept Runward's key"),
        "upstream_disconnected": ProblemType(502, "The connection ended before the provider answered"),
        "upstream_error": ProblemType(502, "The provider answered with an error"),
        "upstream_invalid_response": ProblemType(502, "The provider's answer makes no sense"),
        "upstream_too_large": ProblemType(502, "The provider's answer is too large"),
        "overloaded": ProblemType(503, "Too much is going on", retryable=True),
        "draining": ProblemType(503, "This replica is shutting down", retryable=True),
        "circuit_open": ProblemType(503, "The provider failed too often and is being left alone", retryable=True),
        "upstream_throttled": ProblemType(503, "The provider's own limit is reached", retryable=True),
        "upstream_unavailable": ProblemType(503, "The provider is not available", retryable=True),
        "store_unavailable": ProblemType(503, "The store can not be reached", retryable=True),
        "upstream_timeout": ProblemType(504, "The provider did not answer in time"),
        "deadline_exceeded": ProblemType(504, "The deadline passed"),
    }
)


@dataclass(frozen=True, slots=True)
class FieldError:
    """Where in the body something is wrong: a JSON pointer (RFC 6901), and what, without the value."""

    pointer: str
    detail: str


@dataclass(slots=True, eq=False)
class Problem(Exception):
    """A refusal or fault on its way to the client.

    `detail` and `extra` hold our own words or cleaned ones, never an input value, a key or an upstream's raw text.
    `retry_after` is in seconds; the header rounds it up. `extra` has the members of a run: `run_id`, `provider`,
    `attempts`, `outcome`; an `outcome` of "unknown" or "failed" takes the word `retryable` back, unless `extra` has it.
    """

    code: str
    detail: str = ""
    retry_after: float | None = None
    errors: tuple[FieldError, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return PROBLEMS[self.code].status

    def document(self, request_id: str) -> bytes:
        """The answer's body."""
        problem_type = PROBLEMS[self.code]
        members: dict[str, object] = {
            "type": f"urn:runward:problem:{self.code}",
            "title": problem_type.title,
            "status": problem_type.status,
            "code": self.code,
            "detail": self.detail or problem_type.title + ".",
            "request_id": request_id,
            "retryable": problem_type.retryable and self.extra.get("outcome", "not_run") == "not_run",
        }
        if self.errors:
            members["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in self.errors]
        return strictjson.write(members | dict(self.extra))


def problem_from_error(error: RunError) -> Problem:
    """Return the problem of a typed error of the limits, for callers that still catch `Problem`."""
    extra = {"outcome": error.ending} if error.code != "rate_limited" else {}
    return Problem(error.code, error.detail, error.retry_after, headers=error.headers, extra=extra)
