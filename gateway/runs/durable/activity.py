"""Activity of durable runs: what an unfinished run does or waits for, written to the store behind it.

A run in progress for a second has an activity. It is written within a second of a change of its state, and because of
another poll at most every half minute.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

import orjson

from gateway.clock import Clock
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord
from gateway.store.contract import Store, StoreUnavailable
from providers.contract import NodeStatus

_INTERVAL = 1.0  # seconds
_REFRESH = 30.0  # seconds after which the number of polls is written again
_MAX_WRITTEN = 500  # activities in one transaction


class NodeChange(TypedDict):
    """Status of a node of a workflow, and when it was first seen, in seconds since 1970."""

    status: NodeStatus
    at: float


def describe_activity(run: RunRecord, nodes: Mapping[str, NodeChange], clock: Clock) -> dict[str, Any]:
    """Return what an unfinished run does: its state (queued, starting, following), what it waits for, and its nodes.

    `next_poll_at` and the times of `nodes` are in seconds since 1970.
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
    if nodes:
        activity["nodes"] = nodes
    return activity


@dataclass(slots=True)
class _Written:
    """What was written of a run: its state and nodes, and when, on the monotonic clock."""

    state: Hashable
    polls: int
    at: float
    statuses: Mapping[str, NodeStatus]
    nodes: Mapping[str, NodeChange]


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
        changed = [
            record
            for run in active.values()
            if now - (record := run.record).started_monotonic >= _INTERVAL and self._is_due(record, now)
        ]
        for start in range(0, len(changed), _MAX_WRITTEN):
            part = {
                record.id: (record, _Written(_state(record), record.polls, now, record.nodes, self._nodes(record)))
                for record in changed[start : start + _MAX_WRITTEN]
            }
            activities = [
                (run_id, orjson.dumps(describe_activity(record, written.nodes, self.clock)))
                for run_id, (record, written) in part.items()
            ]
            await self.store.set_activities(self.durable_runs.owner, activities)
            self._written |= {run_id: written for run_id, (_, written) in part.items()}

    def _is_due(self, record: RunRecord, now: float) -> bool:
        written = self._written.get(record.id)
        if written is None or written.state != _state(record) or written.statuses != record.nodes:
            return True
        return record.polls != written.polls and now - written.at >= _REFRESH

    def _nodes(self, record: RunRecord) -> Mapping[str, NodeChange]:
        """Return the nodes of a run; the time of a status is that at which it was first seen."""
        written = self._written.get(record.id)
        known = {} if written is None else written.nodes
        if not record.nodes:
            return known
        # Later than the times before, also if the clock was set back: streams send what is later than they have sent.
        newest = max((change["at"] for change in known.values()), default=0.0)
        at = round(max(self.clock.now().timestamp(), newest + 0.001), 3)
        return {
            name: known[name] if name in known and known[name]["status"] == status else {"status": status, "at": at}
            for name, status in record.nodes.items()
        }


def _state(record: RunRecord) -> Hashable:
    """Return what is written at once when it changes."""
    return record.maybe_started, record.provider_run_id, record.waiting_for, record.attempts
