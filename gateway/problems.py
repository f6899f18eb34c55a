"""Problem types: the table of every error code, and the problem document of a response (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.json import strict_json

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """A row of the table. `retryable`: the same request may succeed later and cannot cause a second run."""

    status: int
    title: str
    retryable: bool = False


PROBLEMS: Mapping[str, ProblemType] = MappingProxyType(
    {
        "malformed_json": ProblemType(400, "The request body is not valid JSON"),
        "malformed_request": ProblemType(400, "Malformed HTTP request"),
        "invalid_idempotency_key": ProblemType(400, "Invalid Idempotency-Key"),
        "unauthorized": ProblemType(401, "A valid gateway key is required"),
        "budget_exhausted": ProblemType(402, "A budget is exhausted", retryable=True),
        "forbidden": ProblemType(403, "Forbidden"),
        "not_found": ProblemType(404, "Run not found"),
        "unknown_route": ProblemType(404, "Route not found"),
        "workflow_not_found": ProblemType(404, "Workflow not found"),
        "replay_not_found": ProblemType(404, "Replay not found"),
        "provider_not_found": ProblemType(404, "Provider not found"),
        "key_not_found": ProblemType(404, "Key not found"),
        "method_not_allowed": ProblemType(405, "Method not allowed"),
        "request_timeout": ProblemType(408, "Request timeout", retryable=True),
        "idempotency_in_flight": ProblemType(409, "The first request with this key is in progress", retryable=True),
        "cancelled": ProblemType(409, "The run was cancelled before it was started"),
        "run_ended": ProblemType(409, "The run has ended"),
        "run_not_unknown": ProblemType(409, "The run has not ended as unknown"),
        "run_unfinished": ProblemType(409, "The run has not ended"),
        "outcome_unknown": ProblemType(409, "It is unknown whether the run was executed"),
        "input_not_kept": ProblemType(409, "The input of the run was not kept"),
        "key_ended": ProblemType(409, "The key is revoked or has expired"),
        "rotation_in_progress": ProblemType(409, "The previous text of the key is still valid"),
        "too_many_keys": ProblemType(409, "There are too many stored keys"),
        "payload_too_large": ProblemType(413, "The request body is too large"),
        "unsupported_media_type": ProblemType(415, "Unsupported media type"),
        "invalid_request": ProblemType(422, "Invalid request"),
        "idempotency_mismatch": ProblemType(422, "The Idempotency-Key was used with a different request"),
        "callback_url_refused": ProblemType(422, "The callback URL is not allowed"),
        "rejected_by_provider": ProblemType(422, "The provider rejected the request"),
        "client_closed_request": ProblemType(499, "Client closed request"),
        "header_too_large": ProblemType(431, "The request header is too large"),
        "rate_limited": ProblemType(429, "The client's limit is exceeded", retryable=True),
        "too_many_failures": ProblemType(429, "Too many failed authentication attempts", retryable=True),
        "internal": ProblemType(500, "Internal server error"),
        "run_failed": ProblemType(502, "The run failed at the provider"),
        "upstream_unreachable": ProblemType(502, "The provider cannot be reached", retryable=True),
        "upstream_misconfigured": ProblemType(502, "TLS error: cannot connect to the provider securely"),
        "upstream_credentials": ProblemType(502, "The provider rejected the gateway's API key"),
        "upstream_disconnected": ProblemType(502, "The provider closed the connection before it responded"),
        "upstream_error": ProblemType(502, "The provider returned an error"),
        "upstream_invalid_response": ProblemType(502, "Invalid response from the provider"),
        "upstream_too_large": ProblemType(502, "The provider's response is too large"),
        "overloaded": ProblemType(503, "Too many requests in progress", retryable=True),
        "draining": ProblemType(503, "This replica is shutting down", retryable=True),
        "circuit_open": ProblemType(503, "Circuit breaker open: the provider is failing", retryable=True),
        "provider_suspended": ProblemType(503, "The provider is suspended by an operator", retryable=True),
        "upstream_throttled": ProblemType(503, "The provider's rate limit is exceeded", retryable=True),
        "upstream_unavailable": ProblemType(503, "The provider is unavailable", retryable=True),
        "issuer_unavailable": ProblemType(503, "The issuer of the token is unavailable", retryable=True),
        "store_unavailable": ProblemType(503, "The store is unavailable", retryable=True),
        "upstream_timeout": ProblemType(504, "The provider did not respond in time"),
        "deadline_exceeded": ProblemType(504, "The deadline was exceeded"),
        "expired": ProblemType(504, "The run was not started in time"),
    }
)

_OF_GATEWAY = (
    *("internal", "overloaded", "draining", "issuer_unavailable", "store_unavailable"),
    *("upstream_credentials", "upstream_misconfigured"),  # faults of its configuration
)
_OF_PROVIDER = (
    *("upstream_unreachable", "upstream_disconnected", "upstream_error", "upstream_invalid_response"),
    *("upstream_too_large", "upstream_throttled", "upstream_unavailable", "upstream_timeout"),
    *("circuit_open", "deadline_exceeded"),
)
_FAULTS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(_OF_GATEWAY, "gateway") | dict.fromkeys(_OF_PROVIDER, "provider")
)


def fault_of(code: str) -> str:
    """Return what a failed run counts against: `gateway`, `provider`, or `none` (its client, workflow or operator)."""
    return _FAULTS.get(code, "none")


@dataclass(frozen=True, slots=True)
class FieldError:
    """Location and description of an invalid value, without the value.

    `pointer`: a JSON pointer into the body (RFC 6901), or `?name` for a parameter of the query string.
    """

    pointer: str
    detail: str


@dataclass(slots=True, eq=False)
class Problem(Exception):
    """A refusal or fault, rendered as a problem document (RFC 9457).

    `code`: a key of PROBLEMS. `detail` and `extra` never contain input values, keys or raw text of a provider.
    `retry_after`: seconds, rounded up in the header field. `extra`: members of a run (`run_id`, `provider`, `attempts`,
    `outcome`). An `outcome` of "unknown" or "failed" makes the problem not retryable, unless `extra` has `retryable`.
    """

    code: str
    detail: str = ""
    retry_after: float | None = None
    errors: tuple[FieldError, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """HTTP status code."""
        return PROBLEMS[self.code].status

    @property
    def text(self) -> str:
        """The detail, or the title as a sentence if there is none."""
        return self.detail or PROBLEMS[self.code].title + "."

    def document(self, request_id: str) -> bytes:
        """JSON body of the response."""
        problem_type = PROBLEMS[self.code]
        members: dict[str, object] = {
            "type": f"urn:runward:problem:{self.code}",
            "title": problem_type.title,
            "status": problem_type.status,
            "code": self.code,
            "detail": self.text,
            "request_id": request_id,
            "retryable": problem_type.retryable and self.extra.get("outcome", "not_run") == "not_run",
        }
        if self.errors:
            members["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in self.errors]
        return strict_json.write(members | dict(self.extra))


def invalid_body(*errors: FieldError, count: int | None = None) -> Problem:
    """Problem `invalid_request` for a body. `count`: the number of errors if not all of them are listed."""
    return _invalid("request body", errors, len(errors) if count is None else count)


def invalid_parameter(name: str, detail: str) -> Problem:
    """Problem `invalid_request` for one parameter of the query string."""
    return _invalid("query string", (FieldError(f"?{name}", detail),), 1)


def _invalid(part: str, errors: tuple[FieldError, ...], count: int) -> Problem:
    detail = f"The {part} is invalid: {count} error{'s' * (count != 1)}."
    return Problem("invalid_request", detail, errors=errors)
