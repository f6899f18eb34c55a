"""Submission of durable runs: the one place that decides about idempotency.

A request is the same as an earlier one if it has the same Idempotency-Key and fingerprint, or the same run id (an API
may derive the id from a name that the client chose). The result says which response the API has to render.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway.errors import DeadlineExceeded, IdempotencyMismatch, RunSummary
from gateway.runs import rendering
from gateway.runs.durable.codec import decode_spec, same_spec
from gateway.runs.durable.creation import RunIdTaken
from gateway.runs.durable.journal import DurableRun
from gateway.runs.durable.runs import FOLLOWED_DETAIL, DurableRuns
from gateway.runs.model import RunRecord
from gateway.runs.workflow_attempt import STILL_RUNNING
from gateway.store.records import IdempotencyKey, IdempotencyRecord, Phase, StoredResponse, StoredRun


@dataclass(frozen=True, slots=True)
class Started:
    """The run is new and stored; the caller executes it."""

    run: DurableRun


@dataclass(frozen=True, slots=True)
class Replayed:
    """An earlier request was accepted for this run, and its client does not wait."""

    stored: StoredRun


@dataclass(frozen=True, slots=True)
class Finished:
    """The run of the key has ended with this response. The store may have purged the run itself."""

    run_id: str
    response: StoredResponse


@dataclass(frozen=True, slots=True)
class InFlight:
    """An earlier request for the run has no response yet."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The client of an earlier request was told that the deadline passed; the run is still polled."""

    stored: StoredRun


Submission: TypeAlias = Started | Replayed | Finished | InFlight | Followed


async def submit(
    durable_runs: DurableRuns,
    record: RunRecord,
    key: IdempotencyKey | None,
    *,
    callback_url: str | None,
    id_source: str = "id",
) -> Submission:
    """Store a new run, or find the run of an earlier request with the same key or run id.

    `id_source`: name of the request's member that the run id is derived from. Raises IdempotencyMismatch if the earlier
    request was different, Overloaded, StoreError.
    """
    try:
        result = await durable_runs.persist(record, key, callback_url=callback_url)
    except RunIdTaken:
        return await _replay_id(durable_runs, record, callback_url, id_source)
    if isinstance(result, DurableRun):
        return Started(result)
    return await _replay_key(durable_runs, result, key)


def followed_error(stored: StoredRun) -> DeadlineExceeded:
    """Return the error of a synchronous run that is still polled after its deadline."""
    error = DeadlineExceeded(f"{STILL_RUNNING} {FOLLOWED_DETAIL}", ending="unknown")
    error.run = RunSummary(stored.id, stored.provider, stored.attempts, stored.provider_run_id)
    return error


async def _replay_id(
    durable_runs: DurableRuns, record: RunRecord, callback_url: str | None, id_source: str
) -> Replayed | InFlight:
    earlier = await _find_confirmed(durable_runs, record.id)
    if earlier is None:
        return InFlight()
    if not same_spec(decode_spec(earlier), record.spec) or earlier.callback_url != callback_url:
        raise IdempotencyMismatch(f"This {id_source} was used with another body.")
    return Replayed(earlier)


async def _replay_key(
    durable_runs: DurableRuns, existing: IdempotencyRecord, key: IdempotencyKey | None
) -> Replayed | Finished | InFlight | Followed:
    if key is None or existing.key.fingerprint != key.fingerprint:
        raise IdempotencyMismatch("This key was used with another body.")
    if existing.response is not None:
        return Finished(existing.run_id, existing.response)
    earlier = await _find_confirmed(durable_runs, existing.run_id)
    if earlier is None:
        return InFlight()
    if not rendering.is_synchronous(earlier):
        return Replayed(earlier)
    return Followed(earlier) if earlier.status == "unknown" else InFlight()


async def _find_confirmed(durable_runs: DurableRuns, run_id: str) -> StoredRun | None:
    """Return a run whose acceptance is certain, or None.

    A queued run owned by another replica does not count: that replica may have refused the request, because the store
    did not confirm it in time, and be deleting the run.
    """
    earlier = await durable_runs.find(run_id)
    if earlier is None or (earlier.phase is Phase.QUEUED and not durable_runs.owns(run_id)):
        return None
    return earlier
