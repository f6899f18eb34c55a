"""An order as the store keeps it, and a run brought back from there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from gateway import strictjson
from gateway.clock import Clock
from gateway.runs.record import Order, RunRecord, always
from gateway.store.contract import StoredRun


def stored_run(run: RunRecord, *, owner: str, leased_until_at: float, callback_url: str | None) -> StoredRun:
    """Write a new run as the store keeps it."""
    order = run.order
    created_at = run.created_at.timestamp()
    return StoredRun(
        id=run.id,
        client=order.client,
        workflow=order.workflow,
        provider=run.provider,
        order=strictjson.write(
            {
                "timeout": order.timeout,
                "input": order.input,
                "metadata": order.metadata,
                "label": order.label,
                "version": order.version,
                "return_all_outputs": order.return_all_outputs,
                "traceparent": order.traceparent,
                "waits": order.waits,
                "face": order.face,
                "number": order.number,
                "all_outputs": order.all_outputs,
                "provider": run.provider,
            }
        ),
        created_at=created_at,
        deadline_at=created_at + order.timeout,
        owner=owner,
        leased_until_at=leased_until_at,
        callback_url=callback_url,
    )


def unread(stored: StoredRun, clock: Clock) -> RunRecord:
    """Make the record of a run whose order can not be read: enough to end it."""
    order = Order(stored.client, stored.workflow, timeout=stored.deadline_at - stored.created_at)
    return _record(stored, order, clock)


def order_of(stored: StoredRun) -> Order:
    """Read what was ordered. TypeError, ValueError or KeyError where another version wrote it."""
    fields = cast("dict[str, Any]", strictjson.read(stored.order))
    del fields["provider"]
    return Order(client=stored.client, workflow=stored.workflow, **fields)


def same_order(one: Order, other: Order) -> bool:
    """Whether two orders ask for the same run: whoever repeats a request has another trace and another deadline."""
    return replace(one, timeout=0, traceparent="", wanted=always) == replace(
        other, timeout=0, traceparent="", wanted=always
    )


def brought_back(stored: StoredRun, clock: Clock) -> RunRecord:
    """Make the record of a run that the store kept; its deadline is where it was."""
    return _record(stored, order_of(stored), clock)


def _record(stored: StoredRun, order: Order, clock: Clock) -> RunRecord:
    now, monotonic = clock.now().timestamp(), clock.monotonic()
    return RunRecord(
        id=stored.id,
        order=order,
        provider=stored.provider,
        created_at=datetime.fromtimestamp(stored.created_at, UTC),
        began=monotonic - max(0.0, now - stored.created_at),
        deadline=monotonic + stored.deadline_at - now,
        attempts=stored.attempts,
        maybe_started=stored.phase > 0,
        provider_run_id=stored.provider_run_id,
    )
