"""Runs that are polled on after their client's deadline: a deadline is not an ending."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.errors import DeadlineExceeded
from gateway.runs.durable.background_limit import BackgroundLimit
from gateway.runs.idempotent_submission import Finished, Followed, followed_error, submit
from gateway.runs.model import RunRecord
from gateway.store.records import IdempotencyKey, Phase, StoredResponse, StoredRun
from providers.contract import Reply
from tests.runs.durable.durable_harness import KEY, LEASE, DurableRunsHarness, yield_until
from tests.runs.executor_harness import ENDED, RUNNING, STARTED, ScriptStep, upstream_of
from tests.runs.views import stored_run_view

TIMEOUT = 10.0


class EndsAfter:
    """Polls of a run that ends `seconds` after the start of the clock."""

    def __init__(self, harness: DurableRunsHarness, seconds: float) -> None:
        self._clock = harness.clock
        self._end = harness.clock.monotonic() + seconds

    def __call__(self) -> Reply:
        return ENDED if self._clock.monotonic() >= self._end else RUNNING


async def load(harness: DurableRunsHarness, run: RunRecord) -> StoredRun:
    stored = await harness.store.get_run(run.id)
    assert stored is not None
    return stored


async def wait_for_end(harness: DurableRunsHarness, run: RunRecord) -> dict[str, object]:
    """Document of the run once it has ended."""
    await yield_until(lambda: not harness.runs.owns(run.id))
    stored = await load(harness, run)
    assert stored.phase is Phase.DONE
    document = json.loads(stored_run_view(stored))
    assert isinstance(document, dict)
    return document


async def submit_again(harness: DurableRunsHarness, run: RunRecord, key: IdempotencyKey = KEY) -> object:
    return await submit(harness.runs, RunRecord.create(run.spec, run.provider, harness.clock), key, callback_url=None)


async def test_a_run_with_a_key_is_polled_after_its_504() -> None:
    """The key says `unknown` while the run is polled, and then has its result; one start."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.layer(STARTED, EndsAfter(harness, 70)))
    run = harness.new_run(workflow, timeout=TIMEOUT)
    response = await harness.run_and_wait(workflow, run)
    assert isinstance(response, StoredResponse)
    problem = json.loads(response.body)
    assert (504, "unknown", run.id, "787") == (
        response.status,
        problem["outcome"],
        problem["run_id"],
        problem["provider_run_id"],
    )
    assert "GET /runs/" in problem["detail"]
    stored = await load(harness, run)
    assert (Phase.FOLLOWING, "unknown") == (stored.phase, stored.status)
    view = json.loads(stored_run_view(stored))
    assert ("unknown", None) == (view["status"], view["finished_at"])
    assert "polled until" in view["warning"]
    again = await submit_again(harness, run)
    assert isinstance(again, Followed)
    error = followed_error(again.stored)
    assert isinstance(error, DeadlineExceeded)
    assert (problem["detail"], "unknown", run.summary()) == (error.detail, error.ending, error.run)
    assert ("succeeded", "because", 1) == (
        (end := await wait_for_end(harness, run))["status"],
        end["output"],
        upstream_of(workflow).starts,
    )
    finished = await submit_again(harness, run)
    assert isinstance(finished, Finished)
    assert (200, "because") == (finished.response.status, json.loads(finished.response.body)["output"])
    metrics = harness.harness.metric_value
    assert (1, 1) == (metrics("runward_runs_total"), metrics("runward_runs_total", outcome="unknown"))
    assert 1 == metrics("runward_followed_runs_total", outcome="succeeded")


async def run_without_key(harness: DurableRunsHarness, *script: ScriptStep) -> tuple[RunRecord, DeadlineExceeded]:
    """Execute a run that is not durable beyond its deadline, as `POST /run` does."""
    workflow = harness.add_workflow(harness.harness.layer(STARTED, *script))
    run = harness.new_run(workflow, timeout=TIMEOUT, input={"large": "text"}, metadata={"a": "b"})
    with pytest.raises(DeadlineExceeded) as caught:
        await harness.harness.executor.run(run, workflow)
    await harness.runs.follow_unstored(run, workflow, caught.value)
    return run, caught.value


async def test_a_run_without_a_key_is_stored_at_its_deadline_and_polled() -> None:
    """Its client can ask for it by the id in the 504. The input is not kept."""
    harness = await DurableRunsHarness().open()
    run, error = await run_without_key(harness, EndsAfter(harness, 70))
    assert "GET /runs/" in error.detail
    stored = await load(harness, run)
    assert (Phase.FOLLOWING, "unknown", "787") == (stored.phase, stored.status, stored.provider_run_id)
    assert b"large" not in stored.order
    assert stored.created_at + TIMEOUT == pytest.approx(stored.deadline_at)
    end = await wait_for_end(harness, run)
    assert ("succeeded", "because", {"a": "b"}) == (end["status"], end["output"], end["metadata"])


async def test_a_run_whose_storing_was_not_confirmed_is_polled_if_the_store_has_it() -> None:
    """Else it would be shown as polled by this process, which renews its lease, and never end."""
    harness = await DurableRunsHarness().open()
    harness.store.fail_after.add("create_run")
    harness.store.fail_before.add("get_run")
    run, error = await run_without_key(harness, EndsAfter(harness, 70))
    assert "GET /runs/" not in error.detail
    for _ in range(3):
        harness.clock.advance(1.0)
        await harness.clock.sleep(0)
    harness.store.fail_after.clear()
    harness.store.fail_before.clear()
    end = await wait_for_end(harness, run)
    assert ("succeeded", "because") == (end["status"], end["output"])


async def test_a_run_that_is_polled_on_survives_the_process() -> None:
    """The next process adopts it, and polls it for the rest of the time."""
    first = await DurableRunsHarness("first").open()
    run, _ = await run_without_key(first, RUNNING)
    await first.runs.close()
    second = DurableRunsHarness("second", predecessor=first)
    workflow = second.add_workflow(second.harness.layer(EndsAfter(second, 300)))
    second.clock.advance(LEASE + 1)
    await second.recovery.adopt_expired_runs()
    end = await wait_for_end(second, run)
    assert ("succeeded", "because", 0) == (end["status"], end["output"], upstream_of(workflow).starts)
    assert 0 == second.harness.metric_value("runward_runs_total")
    assert 1 == second.harness.metric_value("runward_followed_runs_total")


async def test_the_callback_of_a_run_that_is_polled_on_has_its_true_end() -> None:
    """The callback has the true end, whatever the client's deadline."""
    harness = await DurableRunsHarness().open()
    workflow = harness.add_workflow(harness.harness.layer(STARTED, EndsAfter(harness, 70)))
    run = harness.new_run(workflow, timeout=TIMEOUT, synchronous=False)
    harness.runs.run_in_background(await harness.persist(run, callback_url="https://app.example/"), workflow)
    await wait_for_end(harness, run)
    now = harness.clock.now().timestamp() + 1
    [delivery] = await harness.store.take_due_callbacks(now_at=now, until_at=now + 1, limit=10)
    body = await harness.store.load_callback(delivery, until_at=now + 2)
    assert ("succeeded", "because") == ((data := json.loads(body or b"")["data"])["status"], data["output"])


async def test_a_run_without_a_key_that_the_shutdown_interrupts_is_polled_by_the_next_process() -> None:
    """Only if the provider has acknowledged it; otherwise there is nothing to ask about."""
    first = await DurableRunsHarness("first").open()
    workflow = first.add_workflow(first.harness.layer(STARTED, RUNNING))
    run, unsent = first.new_run(workflow), first.new_run(workflow)
    run.maybe_started, run.provider_run_id = True, "787"
    for record in (run, unsent):
        record.finish("not_run", first.clock)  # as the executor does when its task is cancelled
    for record in (run, unsent):
        await first.runs.leave_unstored(record)
    assert None is await first.stored_status(unsent)
    second = DurableRunsHarness("second", predecessor=first)
    second.add_workflow(second.harness.layer(ENDED))
    await second.recovery.adopt_expired_runs()
    assert "succeeded" == (await wait_for_end(second, run))["status"]


@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no key"])
async def test_a_deadline_during_the_shutdown_leaves_the_run_to_the_next_process(key: IdempotencyKey | None) -> None:
    """Its client is answered `unknown`, and the store keeps it unfinished."""
    first = await DurableRunsHarness("first").open()
    first.runs.closing = True
    if key is None:
        run, _ = await run_without_key(first, RUNNING)
    else:
        workflow = first.add_workflow(first.harness.layer(STARTED, RUNNING))
        run = first.new_run(workflow, timeout=TIMEOUT)
        response = await first.run_and_wait(workflow, run, key)
        assert isinstance(response, StoredResponse)
        assert 504 == response.status
    assert Phase.FOLLOWING is (await load(first, run)).phase
    second = DurableRunsHarness("second", predecessor=first)
    second.add_workflow(second.harness.layer(ENDED))
    second.clock.advance(LEASE + 1)
    await second.recovery.adopt_expired_runs()
    assert "succeeded" == (await wait_for_end(second, run))["status"]


async def test_a_run_that_is_adopted_before_its_deadline_is_counted_once() -> None:
    """Its first process counted nothing; the second one polls it on after the deadline."""
    first = await DurableRunsHarness("first").open()
    workflow = first.add_workflow(first.harness.layer(STARTED, RUNNING))
    run = first.new_run(workflow, timeout=3 * LEASE)
    durable = await first.persist(run, KEY)
    await first.store.advance(replace(durable.stored, phase=Phase.FOLLOWING, status="running", provider_run_id="787"))
    second = DurableRunsHarness("second", predecessor=first)
    second.add_workflow(second.harness.layer(EndsAfter(second, 10 * LEASE)))
    second.clock.advance(LEASE + 1)
    await second.recovery.adopt_expired_runs()
    assert "succeeded" == (await wait_for_end(second, run))["status"]
    for name in ("runward_runs_total", "runward_followed_runs_total"):
        assert 1 == second.harness.metric_value(name, outcome="succeeded")


@pytest.mark.parametrize("store_fails", ["create_run", None])
async def test_a_run_that_cannot_be_kept_stays_unknown(store_fails: str | None) -> None:
    """Neither the store nor a free background slot: the response promises nothing."""
    harness = await DurableRunsHarness(background_limit=BackgroundLimit(max_per_client=1 if store_fails else 0)).open()
    harness.store.fail_before = {store_fails} if store_fails else set()
    run, error = await run_without_key(harness, RUNNING)
    assert "GET /runs/" not in error.detail
    assert ("unknown", None) == (run.status, await harness.stored_status(run))
    assert not harness.runs.owns(run.id)
