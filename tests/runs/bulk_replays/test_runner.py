"""Bulk replays: what a plan selects, and a job that starts each run once, whatever happens to its process."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from gateway.auth.client import Client
from gateway.runs.bulk_replays import plan as plans
from gateway.runs.bulk_replays.plan import ReplayPlan, add_found, add_ids, decode_plan
from gateway.runs.bulk_replays.progress import ReplayProgress, decode_progress
from gateway.runs.bulk_replays.runner import BulkReplayRunner
from gateway.runs.catalog import Catalog
from gateway.runs.durable.codec import decode_spec
from gateway.runs.idempotent_submission import Started
from gateway.runs.run_replay import RunReplayer, replay_id
from gateway.store.bulk_replay import BulkReplay
from gateway.store.history import HistoryEntry
from gateway.store.records import Phase, StoredRun
from gateway.store.run_filter import RunFilter
from tests.runs.durable.durable_harness import DurableRunsHarness
from tests.runs.executor_harness import DONE, upstream_of
from tests.support.virtual_clock import VirtualClock

ALL = RunFilter(None)


class Replica:
    """A process with a runner."""

    def __init__(self, owner: str, predecessor: Replica | None = None, runs: int = 100) -> None:
        self.clock: VirtualClock = VirtualClock() if predecessor is None else predecessor.clock
        before = None if predecessor is None else predecessor.harness
        self.harness: DurableRunsHarness = DurableRunsHarness(owner, predecessor=before, clock=self.clock)
        self.workflow = self.harness.add_workflow(self.harness.harness.studio(*[DONE] * runs))
        replayer = RunReplayer(self.harness.runs, Catalog(self.harness.workflows, {}), self.harness.clock, 7 * 86400.0)
        self.clients: dict[str, Client] = {"one": Client("one", ("*",))}
        self.runner = BulkReplayRunner(
            self.harness.store, replayer, self.clients.get, self.harness.clock, self.harness.runs.log
        )

    @property
    def starts(self) -> int:
        """Number of starts at the provider."""
        return len(upstream_of(self.workflow).sent)

    @property
    def now(self) -> float:
        """Wall clock time."""
        return self.harness.clock.now().timestamp()

    async def store_run(self, status: str, number: int, **fields: object) -> str:
        """Store a run that has ended."""
        run = self.harness.new_run(self.workflow, input={"number": number}, synchronous=False)
        await self.harness.persist(run)
        stored = self.harness.store._runs[run.id]
        ended = replace(stored, phase=Phase.DONE, status=status, finished_at=self.now, document=b"{}")
        self.harness.store._put(replace(ended, **fields))  # type: ignore[arg-type]
        self.harness.store._unfinished.discard(run.id)
        self.harness.runs._active.pop(run.id)
        return run.id

    async def job(self, run_ids: list[str], *, rate: float = 5.0) -> BulkReplay:
        """Store a running bulk replay of these runs."""
        plan = ReplayPlan(include_unknown=True, rate=rate, selection="")
        await add_ids(plan, self.harness.store, run_ids)
        progress = ReplayProgress(started_at=self.now).encode()
        replay = BulkReplay("rpl_1", plan.encode(), self.now, self.now + 1e6, "running", progress)
        await self.harness.store.bulk_replays.add(replay)
        return replay

    async def work(self) -> None:
        """Take what is running, and work on it to its end."""
        await self.runner.take_running()
        await self.clock.run_until_done(asyncio.gather(*self.runner._tasks.values(), return_exceptions=True))
        await self.clock.run_ready_tasks()

    async def progress(self) -> tuple[str, ReplayProgress]:
        """State and progress in the store."""
        found = await self.harness.store.bulk_replays.get("rpl_1")
        assert found is not None
        return found.state, decode_progress(found.progress)


async def a_replica(runs: int = 100) -> Replica:
    """Return a process with an open store."""
    replica = Replica("me", runs=runs)
    await replica.harness.open()
    return replica


async def test_a_plan_counts_what_it_would_start() -> None:
    """By outcome, oldest first; the others by the reason why they are left out."""
    replica = await a_replica()
    ids = {status: await replica.store_run(status, 1) for status in ("failed", "not_run", "unknown", "succeeded")}
    replayed = await replica.store_run("failed", 2)
    await replica.harness.persist(replica.harness.new_run(replica.workflow, synchronous=False))
    plain = replace(replica.harness.store._runs[ids["failed"]], id="run_plain", durable=False)
    await replica.harness.store.add_history([HistoryEntry(plain)])
    plan = ReplayPlan(include_unknown=False, rate=5, selection="")
    await add_found(plan, replica.harness.store, ALL, replica.now + 1)
    expected = {"succeeded": 1, "run_unfinished": 1, "input_not_kept": 1, "outcome_unknown": 1}
    assert (expected, {"not_run": 1, "failed": 2, "succeeded": 0, "unknown": 0}) == (plan.left_out, plan.counts)
    assert {ids["failed"], ids["not_run"], replayed} == {run_id for run_id, _ in plan.runs}
    assert plan == decode_plan(plan.encode())
    unknown = ReplayPlan(include_unknown=True, rate=5, selection="")
    await add_found(unknown, replica.harness.store, replace(ALL, status="unknown"), replica.now + 1)
    assert [(ids["unknown"], "unknown")] == unknown.runs
    succeeded = ReplayPlan(include_unknown=False, rate=5, selection="")
    await add_found(succeeded, replica.harness.store, replace(ALL, status="succeeded"), replica.now + 1)
    assert [(ids["succeeded"], "succeeded")] == succeeded.runs
    named = ReplayPlan(include_unknown=False, rate=5, selection="")
    await add_ids(named, replica.harness.store, [ids["succeeded"], "run_none", ids["unknown"], ids["succeeded"]])
    assert ([(ids["succeeded"], "succeeded")], {"not_found": 1, "outcome_unknown": 1}) == (named.runs, named.left_out)


async def test_a_plan_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In runs, in time, and in the runs that are examined; it says so."""
    monkeypatch.setattr(plans, "_PAGE", 4)
    replica = await a_replica()
    old = await replica.store_run("failed", 10)
    replica.clock.advance(plans.WINDOW + 5)
    run_ids = [await replica.store_run("failed", number) for number in range(10)]
    for most, wanted, truncated in ((7, 7, True), (10, 10, False)):
        monkeypatch.setattr(plans, "MAX_RUNS", most)
        plan = ReplayPlan(include_unknown=False, rate=5, selection="")
        await add_found(plan, replica.harness.store, ALL, replica.now + 1)
        assert (wanted, truncated, False) == (len(plan.runs), plan.truncated, old in dict(plan.runs))
        assert set(dict(plan.runs)) <= set(run_ids)
    monkeypatch.setattr(plans, "_MAX_PAGES", 1)
    plan = ReplayPlan(include_unknown=False, rate=5, selection="")
    await add_found(plan, replica.harness.store, replace(ALL, created_until=0.0), replica.now)
    assert ([], False, {}) == (plan.runs, plan.truncated, plan.left_out)
    await add_found(plan, replica.harness.store, ALL, replica.now + 1)
    assert (4, True) == (len(plan.runs), plan.truncated)


async def test_a_job_starts_each_run_once_at_its_rate() -> None:
    replica = await a_replica()
    run_ids = [await replica.store_run("failed", number) for number in range(10)]
    await replica.job(run_ids, rate=2)
    began = replica.harness.clock.monotonic()
    await replica.work()
    state, progress = await replica.progress()
    assert ("done", 10, 10, Counter()) == (state, progress.started, progress.done, progress.refused)
    assert 4.0 <= replica.harness.clock.monotonic() - began <= 6.0
    assert replica.starts == 10
    replays = [await replica.harness.store.get_run(replay_id(run_id)) for run_id in run_ids]
    assert run_ids == [await replay_of(each) for each in replays]
    again = ReplayPlan(include_unknown=False, rate=5, selection="")
    await add_ids(again, replica.harness.store, run_ids)
    assert ([], {"already_replayed": 10}) == (again.runs, again.left_out)


async def replay_of(stored: StoredRun | None) -> object:
    """Return the run that a stored run replays."""
    return None if stored is None else decode_spec(stored).replay_of


async def test_what_has_changed_since_the_plan_is_not_started() -> None:
    """Each refusal is counted by its reason; a run that was replayed meanwhile is not started again."""
    replica = await a_replica()
    changed, gone, foreign, other, clicked, good = [await replica.store_run("failed", each) for each in range(6)]
    await replica.job([changed, gone, foreign, other, clicked, good])
    store = replica.harness.store
    stored = await store.get_run(clicked)
    assert stored is not None
    replayer = replica.runner.replayer
    await replayer.submit(stored, replica.clients["one"])
    store._put(replace(store._runs[changed], status="succeeded"))
    store._delete_run(gone)
    store._put(replace(store._runs[foreign], client="two"))
    store._put(replace(store._runs[other], order=b"{}"))
    await replica.work()
    state, progress = await replica.progress()
    expected = {"changed": 1, "not_found": 1, "unknown_client": 1, "input_not_kept": 1}
    assert ("done", expected, 6) == (state, progress.refused, progress.done)
    assert 2 == progress.started + progress.already_started
    assert replica.starts == 1


async def test_a_crash_between_a_start_and_its_record_starts_nothing_twice() -> None:
    """The next process finds what the last one has started, and counts it once."""
    replica = await a_replica()
    run_ids = [await replica.store_run("failed", number) for number in range(10)]
    await replica.job(run_ids, rate=50)
    await replica.runner.take_running()
    await replica.clock.run_for(0.07)
    assert 4 == replica.starts
    for task in replica.runner._tasks.values():
        task.cancel()
    _, before = await replica.progress()
    assert before.started < 4
    other = Replica("other", predecessor=replica)
    await other.work()
    assert 0 == other.starts  # the lease has not expired
    replica.clock.advance(31)
    await other.work()
    state, progress = await other.progress()
    assert ("done", 10, 0) == (state, progress.started, progress.already_started)
    assert replica.starts + other.starts == 10
    assert len(run_ids) == len({replay_id(each) for each in run_ids} & set(replica.harness.store._runs))


async def test_one_of_two_processes_takes_a_job() -> None:
    replica = await a_replica()
    other = Replica("other", predecessor=replica)
    await replica.job([await replica.store_run("failed", number) for number in range(5)])
    await asyncio.gather(replica.runner.take_running(), other.runner.take_running())
    await replica.clock.run_for(5)
    assert replica.starts + other.starts == 5
    assert 0 in {replica.starts, other.starts}


async def test_an_abort_stops_further_starts() -> None:
    """Within half a second; what was started continues."""
    replica = await a_replica()
    await replica.job([await replica.store_run("failed", number) for number in range(100)], rate=2)
    await replica.runner.take_running()
    (task,) = replica.runner._tasks.values()
    await replica.clock.run_for(0.6)
    assert 2 == replica.starts
    found = await replica.harness.store.bulk_replays.get("rpl_1")
    assert found is not None
    assert await replica.harness.store.bulk_replays.change(replace(found, state="aborted"))
    await replica.clock.run_until_done(task)
    assert replica.starts <= 3
    assert ("aborted", found.progress) == ((await replica.progress())[0], (await replica.progress())[1].encode())


async def test_a_job_waits_for_the_store() -> None:
    """An outage is no refusal; if it lasts, the run is counted as refused, and not as started."""
    replica = await a_replica()
    run_ids = [await replica.store_run("failed", number) for number in range(3)]
    await replica.job(run_ids, rate=50)
    replica.harness.store.fail_before.add("create_run")
    await replica.runner.take_running()
    await replica.clock.run_for(5)
    assert 0 == replica.starts
    replica.harness.store.fail_before.clear()
    await replica.clock.run_for(20)
    state, progress = await replica.progress()
    assert ("done", 3) == (state, progress.started + progress.refused["store_unavailable"])
    assert replica.starts == progress.started


async def test_a_replay_that_another_process_is_storing_is_waited_for() -> None:
    """It is a refusal only if its acceptance stays uncertain: that process may be deleting it."""
    replica = await a_replica()
    run_id = await replica.store_run("failed", 1)
    stored = await replica.harness.store.get_run(run_id)
    assert stored is not None
    await replica.job([run_id])
    other = Replica("other", predecessor=replica)
    submitted, workflow = await other.runner.replayer.submit(stored, other.clients["one"])
    await replica.runner.take_running()
    await replica.clock.run_for(2.5)
    assert isinstance(submitted, Started)
    other.harness.runs.run_in_background(submitted.run, workflow)
    await replica.clock.run_for(5)
    state, progress = await replica.progress()
    assert ("done", 1, Counter()) == (state, progress.started + progress.already_started, progress.refused)
    assert (0, 1) == (replica.starts, other.starts)


async def test_a_replay_whose_acceptance_stays_uncertain_is_refused_for_that_reason() -> None:
    """Not because of the store, which is available."""
    replica = await a_replica()
    run_id = await replica.store_run("failed", 1)
    stored = await replica.harness.store.get_run(run_id)
    assert stored is not None
    await replica.job([run_id])
    other = Replica("other", predecessor=replica)
    await other.runner.replayer.submit(stored, other.clients["one"])
    await replica.work()
    _, progress = await replica.progress()
    assert ({"idempotency_in_flight": 1}, 1, 0) == (progress.refused, progress.done, replica.starts)


async def test_a_forgotten_job_starts_nothing_days_later() -> None:
    replica = await a_replica()
    await replica.job([await replica.store_run("failed", 1)])
    replica.clock.advance(86_401)
    await replica.work()
    assert ("aborted", 0) == ((await replica.progress())[0], replica.starts)


async def test_a_process_that_drains_leaves_its_job_at_once() -> None:
    replica = await a_replica()
    await replica.job([await replica.store_run("failed", number) for number in range(10)])
    await replica.runner.take_running()
    await replica.clock.run_for(0.25)
    assert 2 == replica.starts
    replica.harness.runs.closing = True
    await replica.clock.run_until_done(asyncio.gather(*replica.runner._tasks.values()))
    other = Replica("other", predecessor=replica)
    await other.work()
    state, progress = await other.progress()
    assert ("done", 10) == (state, progress.started)
