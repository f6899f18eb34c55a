"""Typed errors of the domain, independent of HTTP.

`limits/`, `runs/`, `outbound/` and `auth/` raise them. `http/problem_mapping.py` is the one place that makes a problem
document (RFC 9457) of an error. Control flow reads the class or its attributes, never `code`: `code` is for documents,
logs and metrics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Ending: TypeAlias = Literal["succeeded", "failed", "not_run", "unknown"]
HeaderFields: TypeAlias = tuple[tuple[str, str], ...]


def as_sentence(text: str) -> str:
    """Return the text with a full stop at its end, unless it ends in a mark that closes a sentence."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", "\u2026")) else text + "."


class GatewayError(Exception):
    """A refusal or fault.

    `detail`: one sentence without input values, keys or the provider's raw text; empty: the title of the code.
    `retry_after`: seconds. `headers`: header fields of the response.
    """

    code: str = "internal"

    def __init__(self, detail: str = "", *, retry_after: float | None = None, headers: HeaderFields = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class InvalidRequest(GatewayError):
    """The request is not valid."""

    code = "invalid_request"


class MalformedJson(GatewayError):
    """The body is not valid JSON."""

    code = "malformed_json"


class InvalidIdempotencyKey(GatewayError):
    """The Idempotency-Key is not valid."""

    code = "invalid_idempotency_key"


class IdempotencyInFlight(GatewayError):
    """The first request with this key has no response yet."""

    code = "idempotency_in_flight"


class IdempotencyMismatch(GatewayError):
    """The key was used with another request."""

    code = "idempotency_mismatch"


class CallbackUrlRefused(GatewayError):
    """The callback URL is not allowed."""

    code = "callback_url_refused"


class RunNotFound(GatewayError):
    """The client has no such run."""

    code = "not_found"


class ReplayRefused(GatewayError):
    """A run is not replayed. `run_id` and `run_status` are those of the run that was to be replayed."""

    def __init__(self, detail: str = "", *, run_id: str, run_status: str) -> None:
        super().__init__(detail)
        self.run_id = run_id
        self.run_status = run_status


class RunUnfinished(ReplayRefused):
    """The run has not ended."""

    code = "run_unfinished"


class OutcomeUnknown(ReplayRefused):
    """The run may have been executed, and the request does not include such runs."""

    code = "outcome_unknown"


class InputNotKept(ReplayRefused):
    """The store does not have the input of the run."""

    code = "input_not_kept"


class WorkflowNotFound(GatewayError):
    """No workflow has this name."""

    code = "workflow_not_found"


class WorkflowForbidden(GatewayError):
    """The client's scope does not include the workflow."""

    code = "forbidden"


class PassthroughForbidden(GatewayError):
    """The client's configuration does not list this request for passthrough."""

    code = "forbidden"


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Facts of a run for the document of its error. None: the document has no such member."""

    run_id: str
    provider: str | None = None
    attempts: int | None = None
    provider_run_id: str | None = None


class RunError(GatewayError):
    """A run did not succeed.

    `ending`: the run's ending as far as this error alone tells; the executor replaces it by the ending of the record.
    `falls_back`: another workflow may succeed, provided that nothing was started. `run`: known once the run has ended.
    """

    falls_back: bool = True

    def __init__(
        self,
        detail: str = "",
        *,
        ending: Ending = "not_run",
        retry_after: float | None = None,
        headers: HeaderFields = (),
    ) -> None:
        super().__init__(detail, retry_after=retry_after, headers=headers)
        self.ending: Ending = ending
        self.run: RunSummary | None = None


class RateLimited(RunError):
    """A limit of the client is reached: rate, daily quota or concurrency."""

    code = "rate_limited"
    falls_back = False


class BudgetExhausted(RunError):
    """A budget has no room for the price of the run."""

    code = "budget_exhausted"
    falls_back = False


class Overloaded(RunError):
    """Load shedding: a wait queue, the background or this process is at its limit."""

    code = "overloaded"


class DeadlineExceeded(RunError):
    """The run's deadline passed."""

    code = "deadline_exceeded"
    falls_back = False


class RunCancelled(RunError):
    """The client or an operator cancelled the run before a start was sent."""

    code = "cancelled"
    falls_back = False


class StartExpired(RunError):
    """No start was sent by the time that the client has set."""

    code = "expired"
    falls_back = False


class ClientDisconnected(RunError):
    """The client disconnected before the run was started."""

    code = "client_closed_request"
    falls_back = False


class CircuitOpen(RunError):
    """The circuit breaker of the workflow is open."""

    code = "circuit_open"


class ProviderSuspended(RunError):
    """An operator has suspended the provider."""

    code = "provider_suspended"


class StoreError(RunError):
    """The store is unavailable, so the run is not started."""

    code = "store_unavailable"


class AcceptanceUnknown(StoreError):
    """The store did not confirm a run whose client does not wait, so another replica may start it.

    `same_key_is_safe`: the request has an Idempotency-Key, so that sending it again starts no second run.
    """

    def __init__(self, detail: str, *, run_id: str, same_key_is_safe: bool) -> None:
        super().__init__(detail, ending="unknown", retry_after=1.0 if same_key_is_safe else None)
        self.same_key_is_safe = same_key_is_safe
        if not same_key_is_safe:
            self.run = RunSummary(run_id)


class Draining(RunError):
    """The replica shuts down before the run has ended."""

    code = "draining"


class WorkflowRemoved(RunError):
    """The configuration no longer has the workflow of a stored run."""

    code = "workflow_not_found"


class RunFailed(RunError):
    """The provider executed the run and it failed.

    `outputs`: the provider's nodes, if any; `shows_outputs`: the client asked for them.
    """

    code = "run_failed"

    def __init__(
        self, detail: str = "", *, outputs: Mapping[str, object] | None = None, shows_outputs: bool = False
    ) -> None:
        super().__init__(detail, ending="failed")
        self.outputs = outputs
        self.shows_outputs = shows_outputs


class ProviderError(RunError):
    """The provider could not be used. `code` and `falls_back` come from the retry table."""

    def __init__(
        self, code: str, detail: str = "", *, ending: Ending, falls_back: bool = True, retry_after: float | None = None
    ) -> None:
        super().__init__(detail, ending=ending, retry_after=retry_after)
        self.code = code
        self.falls_back = falls_back


class InternalError(RunError):
    """A defect of the gateway or of an adapter; `__cause__` has the exception."""

    code = "internal"
