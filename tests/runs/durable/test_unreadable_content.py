"""Runs whose content cannot be decrypted: never started, and never reported as not run if they may have been."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.errors import AcceptanceUnknown
from gateway.http.problem_mapping import problem_from_error
from gateway.runs.idempotent_submission import Finished, submit
from gateway.runs.model import RunRecord
from gateway.store.content_cipher import ContentCipher
from gateway.store.encryption import EncryptedStore
from gateway.store.records import Phase
from tests.runs.durable.durable_harness import (
    KEY,
    LEASE,
    BlockedUpstream,
    DurableRunsHarness,
    yield_to_loop,
    yield_until,
)
from tests.runs.executor_harness import ENDED, RUNNING, STARTED, ScriptedUpstream, ScriptStep
from tests.store.samples import CONTENT_KEY, encrypted
from tests.support.clock import ManualClock

OTHER_KEY = bytes(32)


def encrypt(replica: DurableRunsHarness, *keys: bytes) -> EncryptedStore:
    """Let the process encrypt its store; returns that store."""
    store = encrypted(replica.store, *keys)
    runs = replica.runs
    runs.store = runs.completion.store = runs._pending_deletes.store = replica.recovery.store = store
    runs._creator = replace(runs._creator, store=store)
    return store


async def abandoned_run(how: str) -> tuple[DurableRunsHarness, RunRecord]:
    """Return an ended process that encrypted, and its run in this phase, with an expired lease."""
    replica = await DurableRunsHarness("dead").open()
    encrypt(replica, CONTENT_KEY)
    upstream = BlockedUpstream(replica.clock, STARTED, RUNNING)
    workflow = replica.add_workflow(replica.harness.layer(), upstream)
    run = replica.new_run(workflow, synchronous=False)
    await replica.persist(run, KEY)
    if how != "queued":
        replica.runs.run_in_background(replica.durable[run.id], workflow)
        await yield_until(lambda: bool(upstream.sent))
    if how == "following":
        upstream.unblocked.set()
        await yield_until(lambda: len(upstream.sent) > 1)
    await replica.runs.close()
    replica.clock.advance(LEASE + 1)
    return replica, run


def successor_of(
    predecessor: DurableRunsHarness, *script: ScriptStep, keys: tuple[bytes, ...]
) -> tuple[DurableRunsHarness, ScriptedUpstream, EncryptedStore]:
    """Return the next process, its upstream, and its store with these keys."""
    replica = DurableRunsHarness("next", predecessor=predecessor)
    workflow = replica.harness.layer()
    upstream = ScriptedUpstream(replica.clock, script)
    replica.add_workflow(workflow, upstream)
    return replica, upstream, encrypt(replica, *keys)


@pytest.mark.parametrize(("how", "starts"), [("queued", 1), ("sending", 0), ("following", 0)])
async def test_a_run_is_recovered_with_its_key(how: str, starts: int) -> None:
    """R44, R47, R48: as without encryption; no run is started twice."""
    predecessor, run = await abandoned_run(how)
    script = (STARTED, RUNNING, ENDED) if starts else (RUNNING, ENDED)
    replica, upstream, _ = successor_of(predecessor, *script, keys=(OTHER_KEY, CONTENT_KEY))
    for _ in range(2):
        await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    expected = "unknown" if how == "sending" else "succeeded"
    assert (expected, starts) == (await replica.stored_status(run), upstream.starts)


@pytest.mark.parametrize("keys", [(), (OTHER_KEY,)], ids=["no key", "another key"])
@pytest.mark.parametrize(
    ("how", "grace", "status"), [("queued", 30, "not_run"), ("sending", 30, "unknown"), ("following", 3600, "unknown")]
)
async def test_a_run_without_its_key_ends_after_its_deadline_with_what_is_known(
    how: str, grace: int, status: str, keys: tuple[bytes, ...]
) -> None:
    """R44, R47: until then it is left as it is; nothing is sent."""
    predecessor, run = await abandoned_run(how)
    stored = await predecessor.store.get_run(run.id)
    assert stored is not None
    replica, upstream, _ = successor_of(predecessor, STARTED, ENDED, keys=keys)
    await replica.recovery.adopt_expired_runs()
    replica.clock.advance(stored.deadline_at - replica.clock.now().timestamp() + grace - 1)
    await replica.recovery.adopt_expired_runs()
    assert stored.status == await replica.stored_status(run)
    replica.clock.advance(2)
    for _ in range(2):
        await replica.recovery.adopt_expired_runs()
    document = await replica.recovery.store.get_document(run.id)
    assert document is not None
    assert (status, []) == (await replica.stored_status(run), upstream.sent)
    assert b"encrypted with a key that is not configured" in document
    assert 1 == replica.harness.metric_value("runward_runs_total")


@pytest.mark.parametrize("how", ["queued", "following"])
async def test_a_run_continues_once_its_key_is_configured(how: str) -> None:
    """R47, R48: at the next check; a run of which nothing was sent is started once, the other is polled."""
    predecessor, run = await abandoned_run(how)
    script = (STARTED, RUNNING, ENDED) if how == "queued" else (RUNNING, ENDED)
    replica, upstream, store = successor_of(predecessor, *script, keys=(OTHER_KEY,))
    for _ in range(3):
        await replica.recovery.adopt_expired_runs()
    assert [] == upstream.sent
    store.reconfigure(ContentCipher([OTHER_KEY, CONTENT_KEY], bytes))
    for _ in range(2):
        await replica.recovery.adopt_expired_runs()
    await yield_to_loop()
    assert ("succeeded", int(how == "queued")) == (await replica.stored_status(run), upstream.starts)


async def test_a_run_that_another_replica_has_brought_further_is_left_to_it() -> None:
    """R45: the replica with the key adopts it while this one holds it as unreadable."""
    predecessor, run = await abandoned_run("queued")
    replica, upstream, store = successor_of(predecessor, STARTED, ENDED, keys=(OTHER_KEY,))
    await replica.recovery.adopt_expired_runs()
    stored = await replica.store.get_run(run.id)
    assert stored is not None
    replica.store._put(replace(stored, owner="third", phase=Phase.SENDING, leased_until_at=stored.deadline_at + 9_000))
    store.reconfigure(ContentCipher([CONTENT_KEY], bytes))
    await replica.recovery.adopt_expired_runs()
    replica.clock.advance(1_000)
    await replica.recovery.adopt_expired_runs()
    assert ("queued", []) == (await replica.stored_status(run), upstream.sent)


@pytest.mark.parametrize("synchronous", [True, False])
async def test_a_repeated_request_whose_run_is_unreadable_starts_nothing(synchronous: bool) -> None:  # noqa: FBT001
    """R37: the outcome is unknown, and repeating it is safe; with the key it is answered as before."""
    replica = await DurableRunsHarness(clock=ManualClock()).open()
    store = encrypt(replica, CONTENT_KEY)
    workflow = replica.add_workflow(replica.harness.layer(), ScriptedUpstream(replica.clock, (STARTED, RUNNING, ENDED)))
    first = await submit(replica.runs, replica.new_run(workflow, synchronous=True), KEY, callback_url=None)
    await replica.runs.run_and_wait(first.run, workflow, "req_1")  # type: ignore[union-attr]
    store.reconfigure(ContentCipher([OTHER_KEY], bytes))
    record = replica.new_run(workflow, synchronous=synchronous)
    with pytest.raises(AcceptanceUnknown) as refused:
        await submit(replica.runs, record, KEY, callback_url=None)
    problem = problem_from_error(refused.value)
    assert (503, "unknown", True) == (problem.status, problem.extra["outcome"], problem.extra["retryable"])
    assert "cannot be decrypted" in problem.detail
    assert not replica.runs._pending_deletes.is_pending(record.id)
    store.reconfigure(ContentCipher([OTHER_KEY, CONTENT_KEY], bytes))
    assert isinstance(await submit(replica.runs, record, KEY, callback_url=None), Finished)


async def test_many_unreadable_runs_are_read_again_by_turns() -> None:
    """R47: a few at each check, so that neither the store nor the log is flooded; each of them continues in the end."""
    predecessor, first = await abandoned_run("queued")
    workflow = next(iter(predecessor.workflows.values()))
    others = [predecessor.new_run(workflow, synchronous=False) for _ in range(29)]
    for run in others:
        await predecessor.persist(run)
    predecessor.clock.advance(LEASE + 1)
    replica, upstream, store = successor_of(predecessor, keys=(OTHER_KEY,))
    await replica.recovery.adopt_expired_runs()
    assert (30, []) == (len(replica.recovery._unreadable), upstream.sent)
    before = list(replica.recovery._unreadable)
    await replica.recovery.adopt_expired_runs()
    assert before[20:] + before[:20] == list(replica.recovery._unreadable)
    store.reconfigure(ContentCipher([OTHER_KEY, CONTENT_KEY], bytes))
    await replica.recovery.adopt_expired_runs()
    assert [] == list(replica.recovery._unreadable)
    assert {run.id for run in [first, *others]} == set(before) == set(replica.runs.active)
    await replica.runs.close()
