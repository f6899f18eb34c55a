"""What a client is told while the store can not be reached."""

from __future__ import annotations

from gateway.problems import Problem
from gateway.runs.model import RunRecord
from gateway.store.contract import IdempotencyKey

_ACCEPTANCE_UNKNOWN = "The store can not be reached; whether it has this run, and it will be started, is not known."


def store_unavailable() -> Problem:
    """Say that nothing was run."""
    return Problem("store_unavailable", retry_after=1, extra={"outcome": "not_run"})


def acceptance_unknown(run: RunRecord, key: IdempotencyKey | None) -> Problem:
    """Say that a run may have been kept, whose client does not wait.

    It is dropped as soon as the store can; but where that takes longer than the lease, another replica may start it. (A
    run whose client waited is forgotten by whoever finds it.) To ask again with the same key costs nothing.
    """
    extra_members: dict[str, object] = {"run_id": run.id} if key is None else {"retryable": True}
    retry_after = None if key is None else 1.0
    return Problem(
        "store_unavailable", _ACCEPTANCE_UNKNOWN, retry_after=retry_after, extra={"outcome": "unknown", **extra_members}
    )
