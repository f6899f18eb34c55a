"""Activities of durable runs: what is written of a run in progress, and when."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from gateway.runs.durable.activity import ActivityReporter
from gateway.runs.model import RunRecord
from providers.contract import Reply
from tests.runs.durable.durable_harness import BlockedUpstream, DurableRunsHarness, yield_to_loop
from tests.runs.executor_harness import STARTED


class Reporting:
    """A reporter of a harness with one run in progress. `written` has the ids of each write."""

    def __init__(self, harness: DurableRunsHarness, run: RunRecord) -> None:
        self.harness, self.run = harness, run
        self.written: list[str] = []
        self.reporter = ActivityReporter(harness.runs, harness.store, harness.clock, harness.runs.log)
        set_activities = harness.store.set_activities

        async def spy(owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
            self.written += [run_id for run_id, _ in activities]
            await set_activities(owner, activities)

        harness.store.set_activities = spy  # type: ignore[method-assign]

    async def activity(self) -> dict[str, object] | None:
        """Write what has changed; returns the activity in the store."""
        await self.reporter.write_changes()
        found = await self.harness.store.get_overview(self.run.id)
        assert found is not None
        return None if found.activity is None else dict(orjson.loads(found.activity))


async def _started() -> tuple[Reporting, BlockedUpstream]:
    harness = await DurableRunsHarness().open()
    polls = [Reply(202, {"a": {"status": status}, "b": {"status": "QUEUED"}}) for status in ("QUEUED", "RUNNING")]
    upstream = BlockedUpstream(harness.clock, STARTED, *polls)
    run = await harness.run_in_background(harness.add_workflow(harness.harness.layer(), upstream))
    await yield_to_loop()
    return Reporting(harness, run), upstream


async def test_a_run_of_less_than_a_second_has_none() -> None:
    reporting, _ = await _started()
    reporting.harness.clock.advance(0.9)
    assert await reporting.activity() is None
    await reporting.harness.runs.close()


async def test_a_start_in_flight_is_shown_and_written_once() -> None:
    reporting, _ = await _started()
    reporting.harness.clock.advance(1.5)
    assert {"state": "starting"} == await reporting.activity()
    reporting.harness.clock.advance(300)
    await reporting.activity()
    assert [reporting.run.id] == reporting.written
    await reporting.harness.runs.close()


async def test_nodes_keep_the_time_at_which_a_status_was_first_seen() -> None:
    reporting, _ = await _started()
    clock, run = reporting.harness.clock, reporting.run
    clock.advance(2)
    run.provider_run_id, run.polls, run.next_poll = "787", 1, clock.monotonic() + 4
    run.nodes = {"a": "queued", "b": "queued"}
    first_at = round(clock.now().timestamp(), 3)
    assert await reporting.activity() == {
        "state": "following",
        "polls": 1,
        "next_poll_at": first_at + 4,
        "nodes": {"a": {"status": "queued", "at": first_at}, "b": {"status": "queued", "at": first_at}},
    }
    clock.advance(5)
    run.nodes = {"a": "running", "b": "queued"}
    activity = await reporting.activity()
    assert activity is not None
    assert activity["nodes"] == {
        "a": {"status": "running", "at": first_at + 5},
        "b": {"status": "queued", "at": first_at},
    }
    await reporting.harness.runs.close()


async def test_polls_alone_are_written_every_half_minute() -> None:
    reporting, _ = await _started()
    reporting.harness.clock.advance(2)
    reporting.run.provider_run_id = "787"
    for number in range(60):
        reporting.run.polls = number
        await reporting.activity()
        reporting.harness.clock.advance(1)
    assert 2 == len(reporting.written)
    await reporting.harness.runs.close()


async def test_a_wait_is_shown_with_its_cause() -> None:
    reporting, _ = await _started()
    reporting.harness.clock.advance(2)
    reporting.run.waiting_for, reporting.run.maybe_started, reporting.run.attempts = "backoff", False, 1
    assert {"state": "queued", "waiting_for": "backoff", "retrying": True} == await reporting.activity()
    await reporting.harness.runs.close()


async def test_a_status_is_later_than_those_before_although_the_clock_was_set_back() -> None:
    """Streams of events send what is later than the newest event that they have sent."""
    reporting, _ = await _started()
    clock, run = reporting.harness.clock, reporting.run
    clock.advance(2)
    run.provider_run_id, run.nodes = "787", {"a": "running"}
    before = await reporting.activity()
    clock.step_wall(-60.0)
    clock.advance(2)
    run.nodes = {"a": "succeeded"}
    after = await reporting.activity()
    assert before is not None
    assert after is not None
    assert after["nodes"]["a"]["at"] > before["nodes"]["a"]["at"]  # type: ignore[index]
    await reporting.harness.runs.close()
