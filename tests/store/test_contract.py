"""Store contract: runs and idempotency records."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from gateway.store.contract import Store, StoreUnavailable
from gateway.store.records import CancelResult, IdempotencyKey, IdempotencyRecord, Phase, StoredResponse, StoredRun
from gateway.store.run_filter import RunFilter
from tests.store.samples import (
    CALLBACK_URL,
    NOW,
    SAMPLE_FINAL_STATE,
    SAMPLE_KEY,
    SAMPLE_RESPONSE,
    SAMPLE_RUN,
    listed,
    new_run,
)

SENDING = replace(SAMPLE_RUN, phase=Phase.SENDING, status="running", attempts=1)
FOLLOWING = replace(SENDING, phase=Phase.FOLLOWING, provider_run_id="98765")


async def test_a_run_is_read_as_it_was_begun(store: Store) -> None:
    every = replace(
        SAMPLE_RUN, order=bytes(range(256)), callback_url=CALLBACK_URL, workflow="é\U0001f600", deadline_at=NOW + 1 / 3
    )
    assert await store.create_run(every, None) is None
    assert every == await store.get_run(every.id)


async def test_an_unknown_run_or_key_is_not_found(store: Store) -> None:
    assert await store.get_run("run_1") is None
    assert (None, None) == (await store.get_overview("run_1"), await store.get_document("run_1"))
    assert await store.get_idempotency_record("checkout", "key-1") is None


async def test_an_overview_is_a_run_without_its_payloads(store: Store) -> None:
    """Its details are those of its start, then those of its end."""
    begun = replace(SAMPLE_RUN, details=b'{"metadata":{}}')
    await store.create_run(begun, None)
    assert begun.overview == await store.get_overview(begun.id)
    assert await store.get_document(begun.id) is None
    ended = b'{"metadata":{},"warning":null}'
    await store.finish(begun.id, replace(SAMPLE_FINAL_STATE, details=ended))
    run = await store.get_run(begun.id)
    assert run is not None
    assert (run.overview, ended) == (await store.get_overview(begun.id), run.details)
    assert SAMPLE_FINAL_STATE.document == run.document == await store.get_document(begun.id)


async def test_an_id_belongs_to_one_run(store: Store) -> None:
    """The second one is refused, and its key stays free."""
    await store.create_run(SAMPLE_RUN, None)
    with pytest.raises(ValueError, match="this id"):
        await store.create_run(replace(SAMPLE_RUN, workflow="other"), SAMPLE_KEY)
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)
    assert await store.get_idempotency_record(SAMPLE_KEY.client, SAMPLE_KEY.text) is None


async def test_a_key_stands_for_its_first_run(store: Store) -> None:
    """R37, R38: the second caller gets the record of the first one with its fingerprint, and stores nothing."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    claim = IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, SAMPLE_RUN.created_at)
    assert claim == await store.create_run(new_run(2), replace(SAMPLE_KEY, fingerprint=b"other"))
    assert claim == await store.get_idempotency_record(SAMPLE_KEY.client, SAMPLE_KEY.text)
    assert await store.get_run("run_2") is None


async def test_of_a_hundred_with_one_key_one_wins(store: Store) -> None:
    """R38."""
    claims = await asyncio.gather(*(store.create_run(new_run(number), SAMPLE_KEY) for number in range(100)))
    winners = [f"run_{number}" for number, claim in enumerate(claims) if claim is None]
    assert 1 == len(winners)
    assert {winners[0]} == {claim.run_id for claim in claims if claim is not None}
    assert winners == [run.id for run in await listed(store, RunFilter("checkout", limit=100))]


async def test_a_key_belongs_to_its_client(store: Store) -> None:
    """R41."""
    other = IdempotencyKey("other", SAMPLE_KEY.text, SAMPLE_KEY.fingerprint)
    assert await store.create_run(SAMPLE_RUN, SAMPLE_KEY) is None
    assert await store.create_run(new_run(2, client="other"), other) is None
    assert (SAMPLE_RUN.id, "run_2") == tuple(
        claim and claim.run_id
        for claim in [await store.get_idempotency_record(key.client, key.text) for key in (SAMPLE_KEY, other)]
    )


async def test_a_run_advances(store: Store) -> None:
    """`advance` writes its fields only, not the others of the argument."""
    await store.create_run(SAMPLE_RUN, None)
    for step in (SENDING, replace(SENDING, attempts=2, provider="promptlayer"), FOLLOWING):
        assert await store.advance(replace(step, order=b"", client="other", created_at=0.0, leased_until_at=0.0))
        assert step == await store.get_run(SAMPLE_RUN.id)


async def test_a_run_never_goes_back(store: Store) -> None:
    """R44: a caller that expects an earlier phase gets False, and must not start the run again."""
    await store.create_run(SAMPLE_RUN, None)
    await store.advance(FOLLOWING)
    assert not await store.advance(SENDING)
    assert not await store.advance(SAMPLE_RUN)
    assert FOLLOWING == await store.get_run(SAMPLE_RUN.id)


async def test_an_owner_that_lost_its_run_cannot_advance_it(store: Store) -> None:
    """R45: a process whose lease has expired must not start a run that another process has adopted."""
    await store.create_run(SAMPLE_RUN, None)
    (adopted,) = await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=1)
    assert not await store.advance(SENDING)
    assert adopted == await store.get_run(SAMPLE_RUN.id)
    assert await store.advance(replace(SENDING, owner="two"))


async def test_an_owner_that_lost_its_run_can_neither_finish_nor_discard_it(store: Store) -> None:
    """R45: the owner ends the run; its idempotency key stays in use."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    (adopted,) = await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=1)
    assert not await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    await store.discard_run(SAMPLE_RUN.id, owner=SAMPLE_RUN.owner)
    assert adopted == await store.get_run(SAMPLE_RUN.id)
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )
    assert await store.finish(SAMPLE_RUN.id, replace(SAMPLE_FINAL_STATE, owner="two"))


async def test_an_unknown_run_cannot_advance(store: Store) -> None:
    assert not await store.advance(SENDING)
    assert await store.get_run(SAMPLE_RUN.id) is None


@pytest.mark.parametrize("before", [SAMPLE_RUN, SENDING, FOLLOWING])
async def test_a_run_ends_once(store: Store, before: StoredRun) -> None:
    """The second end changes nothing."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.advance(before)
    done = replace(
        before,
        phase=Phase.DONE,
        status="succeeded",
        attempts=2,
        provider_run_id="98765",
        document=SAMPLE_FINAL_STATE.document,
        finished_at=NOW + 5,
    )
    assert await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert done == await store.get_run(SAMPLE_RUN.id)
    later = replace(
        SAMPLE_FINAL_STATE, status="unknown", document=b"", finished_at=NOW + 9, response=StoredResponse(502, (), b"")
    )
    assert not await store.finish(SAMPLE_RUN.id, later)
    assert not await store.advance(FOLLOWING)
    assert done == await store.get_run(SAMPLE_RUN.id)
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW, SAMPLE_RESPONSE) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )


async def test_of_many_ends_one_counts(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, None)
    ends = [replace(SAMPLE_FINAL_STATE, status=f"status-{number}") for number in range(20)]
    ended = await asyncio.gather(*(store.finish(SAMPLE_RUN.id, end) for end in ends))
    run = await store.get_run(SAMPLE_RUN.id)
    assert run is not None
    assert [run.status] == [end.status for end, counted in zip(ends, ended, strict=True) if counted]


async def test_only_finish_ends_a_run(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, None)
    assert not await store.advance(replace(FOLLOWING, phase=Phase.DONE))
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)


async def test_an_unknown_run_cannot_finish(store: Store) -> None:
    assert not await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)


async def test_an_answer_is_kept_byte_for_byte(store: Store) -> None:
    """R37: headers in order, including repeated ones, and binary bodies."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    claim = await store.create_run(new_run(2), SAMPLE_KEY)
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW, SAMPLE_RESPONSE) == claim


async def test_a_run_without_a_key_or_an_answer_ends_too(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, None)
    await store.create_run(new_run(2), SAMPLE_KEY)
    assert await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert await store.finish("run_2", replace(SAMPLE_FINAL_STATE, response=None))
    assert IdempotencyRecord(SAMPLE_KEY, "run_2", NOW + 2) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )


@pytest.mark.parametrize("before", [SAMPLE_RUN, SENDING])
async def test_a_discarded_run_leaves_nothing(store: Store, before: StoredRun) -> None:
    """R40: the key of a run that was not sent is free."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.advance(before)
    await store.discard_run(SAMPLE_RUN.id, owner=SAMPLE_RUN.owner)
    assert await store.get_run(SAMPLE_RUN.id) is None
    assert [] == await listed(store, RunFilter("checkout"))
    assert await store.create_run(new_run(2), SAMPLE_KEY) is None


async def test_a_finished_run_cannot_be_discarded(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    await store.discard_run(SAMPLE_RUN.id, owner=SAMPLE_RUN.owner)
    assert await store.get_run(SAMPLE_RUN.id) is not None
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW, SAMPLE_RESPONSE) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )


async def test_discarding_an_unknown_run_changes_nothing(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.discard_run("run_2", owner=SAMPLE_RUN.owner)
    assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)


async def test_a_secret_is_made_once(store: Store) -> None:
    """Concurrent callers get the same secret; each name has its own."""
    fresh = [bytes([number]) * 32 + b"\x00\xff" for number in range(20)]
    told = await asyncio.gather(*(store.get_or_create_secret("callbacks", each) for each in fresh))
    assert 1 == len(set(told))
    assert told[0] in fresh
    assert b"other" == await store.get_or_create_secret("other", b"other")
    assert told[0] == await store.get_or_create_secret("callbacks", b"later")


async def test_a_secret_outlives_the_process(store: Store) -> None:
    await store.get_or_create_secret("callbacks", b"first")
    await store.close()
    await store.open()
    assert b"first" == await store.get_or_create_secret("callbacks", b"second")


async def test_a_working_store_is_not_failing(store: Store) -> None:
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    assert not store.failing


async def test_a_ping_of_an_open_store_returns(store: Store) -> None:
    await store.ping()
    assert [] == await listed(store, RunFilter("checkout"))


async def test_stored_runs_are_there_after_reopening(store: Store) -> None:
    """R47. In a store of a single process, leases end with the process."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.get_run(SAMPLE_RUN.id)
    await store.open()
    lease = SAMPLE_RUN.leased_until_at if store.shared else 0.0
    assert replace(SAMPLE_RUN, leased_until_at=lease) == await store.get_run(SAMPLE_RUN.id)
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )


async def test_a_refused_start_can_be_reverted_to_queued(store: Store) -> None:
    """R47: the provider did not accept it, so it may be started after a crash; then it is sent again."""
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    sending = replace(SAMPLE_RUN, phase=Phase.SENDING, status="running", attempts=1, provider="other")
    await store.advance(sending)
    assert await store.revert_to_queued(sending)
    assert replace(sending, phase=Phase.QUEUED) == await store.get_run(SAMPLE_RUN.id)
    assert await store.advance(replace(sending, attempts=2))
    assert Phase.SENDING is (await _stored_run(store)).phase


async def test_only_the_owner_can_revert_only_the_refused_start(store: Store) -> None:
    """A delayed call must not revert a later start."""
    await store.create_run(SAMPLE_RUN, None)
    assert not await store.revert_to_queued(replace(SAMPLE_RUN, attempts=0))
    sending = replace(SAMPLE_RUN, phase=Phase.SENDING, attempts=2)
    await store.advance(sending)
    assert not await store.revert_to_queued(replace(sending, attempts=1))
    assert not await store.revert_to_queued(replace(sending, owner="two"))
    assert not await store.revert_to_queued(replace(sending, id="run_other"))
    assert sending == await store.get_run(SAMPLE_RUN.id)
    following = replace(sending, phase=Phase.FOLLOWING)
    await store.advance(following)
    assert not await store.revert_to_queued(following)
    await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert not await store.revert_to_queued(replace(following, attempts=SAMPLE_FINAL_STATE.attempts))
    assert Phase.DONE is (await _stored_run(store)).phase


CANCELLED = replace(SAMPLE_FINAL_STATE, owner="two", status="not_run", attempts=0, provider_run_id=None)


async def test_a_queued_run_is_cancelled_whatever_its_owner(store: Store) -> None:
    """Its owner can neither start it nor end it again; its key and its callback have the end of the cancellation."""
    await store.create_run(replace(SAMPLE_RUN, callback_url=CALLBACK_URL), SAMPLE_KEY)
    assert CancelResult.ENDED is await store.cancel_queued(SAMPLE_RUN.id, CANCELLED)
    ended = await _stored_run(store)
    assert (Phase.DONE, "not_run", NOW + 5) == (ended.phase, ended.status, ended.finished_at)
    assert CANCELLED.document == ended.document
    assert not await store.advance(SENDING)
    assert not await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert not await store.revise(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert [] == await store.adopt("three", now_at=NOW + 99, until_at=NOW + 120, limit=1)
    assert ended == await _stored_run(store)
    assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW, SAMPLE_RESPONSE) == await store.get_idempotency_record(
        SAMPLE_KEY.client, SAMPLE_KEY.text
    )
    due = await store.take_due_callbacks(now_at=NOW + 5, until_at=NOW + 60, limit=9)
    assert [(SAMPLE_RUN.id, 0)] == [(each.run_id, each.revision) for each in due]


@pytest.mark.parametrize("before", [SENDING, FOLLOWING])
async def test_a_run_that_may_have_been_started_is_not_cancelled(store: Store, before: StoredRun) -> None:
    await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    await store.advance(before)
    assert CancelResult.TOO_LATE is await store.cancel_queued(SAMPLE_RUN.id, CANCELLED)
    assert before == await _stored_run(store)
    assert await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
    assert CancelResult.TOO_LATE is await store.cancel_queued(SAMPLE_RUN.id, CANCELLED)
    assert "succeeded" == (await _stored_run(store)).status


async def test_a_run_whose_start_was_refused_is_cancelled(store: Store) -> None:
    """It waits for its next start; that one cannot be sent, and the refusal cannot be reported again."""
    await store.create_run(SAMPLE_RUN, None)
    await store.advance(SENDING)
    await store.revert_to_queued(SENDING)
    assert CancelResult.ENDED is await store.cancel_queued(SAMPLE_RUN.id, CANCELLED)
    assert not await store.advance(replace(SENDING, attempts=2))
    assert not await store.revert_to_queued(SENDING)


async def test_an_unknown_run_is_not_cancelled(store: Store) -> None:
    assert CancelResult.NOT_FOUND is await store.cancel_queued(SAMPLE_RUN.id, CANCELLED)
    assert await store.get_run(SAMPLE_RUN.id) is None


async def test_either_the_start_or_the_cancellation_of_a_run_wins(store: Store) -> None:
    """Of both at once, one is refused."""
    for number in range(20):
        run = new_run(number)
        await store.create_run(run, None)
        start = store.advance(replace(run, phase=Phase.SENDING, status="running", attempts=1))
        cancel = store.cancel_queued(run.id, CANCELLED)
        calls: list[Awaitable[bool | CancelResult]] = [start, cancel] if number % 2 else [cancel, start]
        found = await asyncio.gather(*calls)
        started, cancelled = found if number % 2 else reversed(found)
        assert started == (cancelled is CancelResult.TOO_LATE)


async def _stored_run(store: Store) -> StoredRun:
    kept = await store.get_run(SAMPLE_RUN.id)
    assert kept is not None
    return kept
