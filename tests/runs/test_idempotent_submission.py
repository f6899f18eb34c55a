"""Submission of runs: recognition of repeated requests, and the resulting response."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import IdempotencyMismatch
from gateway.runs.idempotent_submission import Finished, InFlight, Replayed, Started, Submission, submit
from gateway.runs.model import RunRecord
from gateway.store.records import IdempotencyKey, StoredRun
from providers.contract import Reply
from tests.runs.durable.durable_harness import KEY, DurableRunsHarness, yield_until
from tests.runs.executor_harness import DONE


def second_attempt(replica: DurableRunsHarness, run: RunRecord) -> RunRecord:
    """Return a repeated request: a record with the same id."""
    return RunRecord.create(run.spec, run.provider, replica.clock, id=run.id)


async def unsent_run(replica: DurableRunsHarness, key: IdempotencyKey | None = None) -> RunRecord:
    """Return a stored run of this replica that is not sent yet."""
    run = replica.new_run(replica.harness.studio(DONE), synchronous=False)
    await replica.persist(run, key)
    return run


async def resubmit(
    replica: DurableRunsHarness, run: RunRecord, key: IdempotencyKey | None = None, callback_url: str | None = None
) -> Submission:
    return await submit(replica.runs, run, key, callback_url=callback_url, id_source="name")


def replayed_run(submission: Submission) -> str:
    assert isinstance(submission, Replayed)
    return submission.stored.id


async def test_a_new_run_is_started_by_the_caller() -> None:
    replica = await DurableRunsHarness().open()
    run = replica.new_run(replica.harness.studio(DONE))
    submission = await resubmit(replica, run, KEY)
    assert isinstance(submission, Started)
    assert (run, True, "queued") == (submission.run.record, run.durable, await replica.stored_status(run))


async def test_the_owning_replica_replays_a_used_id_at_once() -> None:
    replica = await DurableRunsHarness().open()
    run = await unsent_run(replica)
    assert run.id == replayed_run(await resubmit(replica, second_attempt(replica, run)))
    await replica.runs.close()


async def test_another_replica_replays_a_used_id_only_after_the_start() -> None:
    """The first replica may have refused the run without a confirmation of the store, and be about to delete it."""
    first = await DurableRunsHarness().open()
    second = DurableRunsHarness("other", predecessor=first)
    run = await unsent_run(first)
    assert InFlight() == await resubmit(second, second_attempt(second, run))
    await first.runs.close()
    stored = await first.store.get_run(run.id)
    assert stored is not None
    adopted = second_attempt(first, run)
    first.runs.closing = False
    first.runs.start_adopted(adopted, first.harness.studio(DONE), stored)
    await yield_until(lambda: adopted.status == "succeeded")
    assert run.id == replayed_run(await resubmit(second, second_attempt(second, run)))


async def test_a_used_id_with_another_spec_or_callback_url_is_refused() -> None:
    replica = await DurableRunsHarness().open()
    run = await unsent_run(replica)
    other = second_attempt(replica, run)
    other.spec = replace(run.spec, input={"a": 1})
    for attempt, url in ((other, None), (second_attempt(replica, run), "https://example.com/")):
        with pytest.raises(IdempotencyMismatch, match="This name was used with another body"):
            await resubmit(replica, attempt, callback_url=url)
    await replica.runs.close()


async def test_a_used_key_with_another_fingerprint_is_refused() -> None:
    replica = await DurableRunsHarness().open()
    run = await unsent_run(replica, KEY)
    with pytest.raises(IdempotencyMismatch, match="This key was used with another body"):
        await resubmit(replica, second_attempt(replica, run), replace(KEY, fingerprint=b"o" * 32))
    await replica.runs.close()


@pytest.mark.parametrize("key", [None, KEY])
async def test_a_run_that_was_deleted_meanwhile_is_in_flight(
    key: IdempotencyKey | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = await DurableRunsHarness().open()
    run = await unsent_run(replica, key)

    async def deleted(_run_id: str) -> StoredRun | None:
        return None

    monkeypatch.setattr(replica.store, "get_run", deleted)
    assert InFlight() == await resubmit(replica, second_attempt(replica, run), key)
    await replica.runs.close()


async def test_another_replica_replays_a_used_key_only_after_the_start() -> None:
    first = await DurableRunsHarness().open()
    second = DurableRunsHarness("other", predecessor=first)
    run = await unsent_run(first, KEY)
    workflow = second.harness.studio(DONE)
    assert InFlight() == await resubmit(second, second.new_run(workflow, synchronous=False), KEY)
    assert run.id == replayed_run(await resubmit(first, first.new_run(workflow, synchronous=False), KEY))
    await first.runs.close()


async def test_a_used_key_is_in_flight_while_its_client_waits() -> None:
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(DONE)
    await replica.persist(replica.new_run(workflow), KEY)
    assert InFlight() == await resubmit(replica, replica.new_run(workflow), KEY)


async def test_a_used_key_returns_the_response_after_the_run_was_purged() -> None:
    replica = await DurableRunsHarness().open()
    workflow = replica.harness.studio(Reply(200, {"result": "x"}))
    run = replica.new_run(workflow)
    response = await replica.run_and_wait(workflow, run)
    await replica.store.purge(runs_before_at=replica.clock.now().timestamp() + 1e6, keys_before_at=0)
    submission = await resubmit(replica, replica.new_run(workflow), KEY)
    assert Finished(run.id, response) == submission  # type: ignore[arg-type]  # it succeeded
