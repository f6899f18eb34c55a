"""An order as the store keeps it, and a run brought back from there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from gateway import strictjson
from gateway.clock import Clock
from gateway.runs.model import RunRecord, RunSpec, always_connected
from gateway.store.contract import StoredRun


def encode_run(run: RunRecord, *, owner: str, leased_until_at: float, callback_url: str | None) -> StoredRun:
    """Write a new run as the store keeps it."""
    spec = run.spec
    created_at = run.created_at.timestamp()
    return StoredRun(
        id=run.id,
        client=spec.client,
        workflow=spec.workflow,
        provider=run.provider,
        order=strictjson.write(
            {
                "timeout": spec.timeout,
                "input": spec.input,
                "metadata": spec.metadata,
                "label": spec.label,
                "version": spec.version,
                "return_all_outputs": spec.return_all_outputs,
                "traceparent": spec.traceparent,
                "waits": spec.synchronous,
                "face": spec.api,
                "number": spec.number,
                "all_outputs": spec.all_outputs,
                "provider": run.provider,
            }
        ),
        created_at=created_at,
        deadline_at=created_at + spec.timeout,
        owner=owner,
        leased_until_at=leased_until_at,
        callback_url=callback_url,
    )


def unreadable_run(stored: StoredRun, clock: Clock) -> RunRecord:
    """Make the record of a run whose order can not be read: enough to end it."""
    spec = RunSpec(stored.client, stored.workflow, timeout=stored.deadline_at - stored.created_at)
    return _build_record(stored, spec, clock)


def decode_spec(stored: StoredRun) -> RunSpec:
    """Read what was ordered. TypeError, ValueError or KeyError where another version wrote it."""
    fields = cast("dict[str, Any]", strictjson.read(stored.order))
    del fields["provider"]
    return RunSpec(
        client=stored.client,
        workflow=stored.workflow,
        synchronous=fields.pop("waits", True),
        api=fields.pop("face", "run"),
        **fields,
    )


def same_spec(one: RunSpec, other: RunSpec) -> bool:
    """Whether two orders ask for the same run: whoever repeats a request has another trace and another deadline."""
    return replace(one, timeout=0, traceparent="", client_connected=always_connected) == replace(
        other, timeout=0, traceparent="", client_connected=always_connected
    )


def decode_run(stored: StoredRun, clock: Clock) -> RunRecord:
    """Make the record of a run that the store kept; its deadline is where it was."""
    return _build_record(stored, decode_spec(stored), clock)


def _build_record(stored: StoredRun, spec: RunSpec, clock: Clock) -> RunRecord:
    now, monotonic = clock.now().timestamp(), clock.monotonic()
    return RunRecord(
        id=stored.id,
        spec=spec,
        provider=stored.provider,
        created_at=datetime.fromtimestamp(stored.created_at, UTC),
        started_monotonic=monotonic - max(0.0, now - stored.created_at),
        deadline=monotonic + stored.deadline_at - now,
        attempts=stored.attempts,
        maybe_started=stored.phase > 0,
        provider_run_id=stored.provider_run_id,
    )
