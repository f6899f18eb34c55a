"""Activity of durable runs: what an unfinished run does or waits for, written to the store behind it.

A run in progress for a second has an activity. It is written within a second of a change of its state, and because of
another poll at most every half minute.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import orjson

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord
from gateway.store.contract import Store, StoreUnavailable

_INTERVAL = 1.0  # seconds
_REFRESH = 30.0  # seconds after which the number of polls is written again
_MAX_WRITTEN = 500  # activities in one transaction


def describe_activity(run: RunRecord, clock: Clock) -> dict[str, Any]:
    """Return what an unfinished run does: its state (queued, starting, following), and what it waits for.

    `next_poll_at` is in seconds since 1970.
    """
    following = run.provider_run_id is not None
    activity: dict[str, Any] = {"state": "following" if following else "starting" if run.maybe_started else "queued"}
    if run.waiting_for is not None:
        activity["waiting_for"] = run.waiting_for
    if run.waiting_for == "backoff" or (run.attempts > 1 and not following):
        activity["retrying"] = True
    if following:
        activity["polls"] = run.polls
        if run.next_poll is not None:
            wall = clock.now().timestamp() - clock.monotonic()
            activity["next_poll_at"] = round(wall + run.next_poll, 3)
    return activity


@dataclass(slots=True)
class _Written:
    """What was written of a run: its state, and when, on the monotonic clock."""

    state: Hashable
    polls: int
    at: float


@dataclass(slots=True)
class ActivityReporter:
    """Writes the activities of the runs of this process."""

    durable_runs: DurableRuns
    store: Store
    clock: Clock
    log: Logger
    _written: dict[str, _Written] = field(default_factory=dict)

    async def run_forever(self) -> None:
        """Write what has changed, every second."""
        while True:
            await self.clock.sleep(_INTERVAL)
            try:
                await self.write_changes()
            except StoreUnavailable:
                self.log.warning("not_written", phase="activity")
            except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                self.log.error("internal_error", **json_logging.describe_exception(error))

    async def write_changes(self) -> None:
        """Write the activities that have changed. Raises StoreUnavailable; then they are written the next time."""
        now = self.clock.monotonic()
        active = self.durable_runs.active
        for run_id in [run_id for run_id in self._written if run_id not in active]:
            del self._written[run_id]
        changes = [
            (record, state)
            for run in active.values()
            if now - (record := run.record).started_monotonic >= _INTERVAL
            and self._is_due(record, state := _state(record), now)
        ]
        for start in range(0, len(changes), _MAX_WRITTEN):
            part = changes[start : start + _MAX_WRITTEN]
            activities = [(record.id, orjson.dumps(describe_activity(record, self.clock))) for record, _ in part]
            await self.store.set_activities(self.durable_runs.owner, activities)
            for record, state in part:
                self._written[record.id] = _Written(state, record.polls, now)

    def _is_due(self, record: RunRecord, state: Hashable, now: float) -> bool:
        written = self._written.get(record.id)
        if written is None or written.state != state:
            return True
        return record.polls != written.polls and now - written.at >= _REFRESH


def _state(record: RunRecord) -> Hashable:
    """Return what is written at once when it changes."""
    return record.maybe_started, record.provider_run_id, record.waiting_for, record.attempts
