"""Typed errors of the domain: what a request or a run ended with, without a word about HTTP.

`limits/`, `runs/`, `outbound/` and `auth/` raise them; `http/problem_mapping.py` makes the problem document of one
(RFC 9457). Control flow looks at the class or at its attributes, never at `code`, which is for documents, logs and
metrics alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

Ending: TypeAlias = Literal["succeeded", "failed", "not_run", "unknown"]


class GatewayError(Exception):
    """A refusal or fault.

    `detail`: one sentence without input values, keys or a provider's raw text. `retry_after`: seconds. `headers`: fields
    that its answer carries.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self, detail: str = "", *, retry_after: float | None = None, headers: tuple[tuple[str, str], ...] = ()
    ) -> None:
        """See the class."""
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.headers = headers


class InvalidRequest(GatewayError):
    """The request is not acceptable as it stands."""

    code = "invalid_request"


class MalformedJson(GatewayError):
    """A body is not valid JSON."""

    code = "malformed_json"


class InvalidIdempotencyKey(GatewayError):
    """The Idempotency-Key cannot be used."""

    code = "invalid_idempotency_key"


class IdempotencyInFlight(GatewayError):
    """The first request with this key has no answer yet."""

    code = "idempotency_in_flight"


class IdempotencyMismatch(GatewayError):
    """The key was used with another request."""

    code = "idempotency_mismatch"


class CallbackUrlRefused(GatewayError):
    """The callback URL is not acceptable."""

    code = "callback_url_refused"


class RunNotFound(GatewayError):
    """The client has no such run."""

    code = "not_found"


class RunError(GatewayError):
    """A run did not succeed. `ending` is how it ended, as far as this error alone tells.

    `falls_back`: whether another workflow may succeed where this one did not, provided nothing was started. `run` has
    what is known of the run, once it has ended: `run_id`, `provider`, `attempts`, `outcome`, `provider_run_id`.
    """

    falls_back: ClassVar[bool] = True

    def __init__(
        self,
        detail: str = "",
        *,
        ending: Ending = "not_run",
        retry_after: float | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """See the class."""
        super().__init__(detail, retry_after=retry_after, headers=headers)
        self.ending = ending
        self.run: Mapping[str, object] = {}


class WorkflowNotFound(RunError):
    """No workflow has this name."""

    code = "workflow_not_found"


class WorkflowForbidden(RunError):
    """The client's scope does not include the workflow."""

    code = "forbidden"


class RateLimited(RunError):
    """A limit of the client's own is reached: rate, daily quota or concurrency."""

    code = "rate_limited"
    falls_back = False


class Overloaded(RunError):
    """The wait would be too long: a queue or this process is at its limit."""

    code = "overloaded"


class DeadlineExceeded(RunError):
    """The run's deadline passed."""

    code = "deadline_exceeded"
    falls_back = False


class ClientDisconnected(RunError):
    """The client left before the run was started."""

    code = "client_closed_request"
    falls_back = False


class CircuitOpen(RunError):
    """The circuit breaker of the workflow is open."""

    code = "circuit_open"


class StoreError(RunError):
    """The store cannot be reached, so the run is not started, or its acceptance is not known."""

    code = "store_unavailable"


class Draining(RunError):
    """The replica shuts down before the run has ended."""

    code = "draining"


class RunFailed(RunError):
    """The provider executed the run, and it failed."""

    code = "run_failed"


class ProviderError(RunError):
    """The provider could not be used: `code` is of the row of the retry table."""

    # An instance attribute here: one class, many rows.


class InternalError(RunError):
    """A defect of the gateway or of an adapter."""

    code = "internal"
