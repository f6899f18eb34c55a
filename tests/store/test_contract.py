"""What every store keeps of runs and keys: once, forward only, and byte for byte."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from gateway.store.contract import Answer, Claim, Filter, Key, Phase, Store, StoredRun, StoreUnavailable
from tests.store.contract import ANSWER, FINISH, HOOK, KEY, NOW, RUN, a_run

SENDING = replace(RUN, phase=Phase.SENDING, status="running", attempts=1)
FOLLOWING = replace(SENDING, phase=Phase.FOLLOWING, provider_run_id="98765")


async def test_a_run_is_read_as_it_was_begun(store: Store) -> None:
    every = replace(RUN, order=bytes(range(256)), callback_url=HOOK, workflow="é\U0001f600", deadline_at=NOW + 1 / 3)
    assert await store.begin(every, None) is None
    assert every == await store.run(every.id)


async def test_what_was_never_kept_is_not_found(store: Store) -> None:
    assert await store.run("run_1") is None
    assert await store.claim("checkout", "key-1") is None


async def test_an_id_belongs_to_one_run(store: Store) -> None:
    """The second one is refused, and its key stays free."""
    await store.begin(RUN, None)
    with pytest.raises(ValueError, match="this id"):
        await store.begin(replace(RUN, workflow="other"), KEY)
    assert RUN == await store.run(RUN.id)
    assert await store.claim(KEY.client, KEY.text) is None


async def test_a_key_stands_for_its_first_run(store: Store) -> None:
    """R37, R38: whoever comes second is told of the first, fingerprint included, and keeps nothing."""
    await store.begin(RUN, KEY)
    claim = Claim(KEY, RUN.id, RUN.created_at)
    assert claim == await store.begin(a_run(2), replace(KEY, fingerprint=b"other"))
    assert claim == await store.claim(KEY.client, KEY.text)
    assert await store.run("run_2") is None


async def test_of_a_hundred_with_one_key_one_wins(store: Store) -> None:
    """R38."""
    claims = await asyncio.gather(*(store.begin(a_run(number), KEY) for number in range(100)))
    winners = [f"run_{number}" for number, claim in enumerate(claims) if claim is None]
    assert 1 == len(winners)
    assert {winners[0]} == {claim.run_id for claim in claims if claim is not None}
    assert winners == [run.id for run in await store.runs(Filter("checkout", limit=100))]


async def test_a_key_belongs_to_its_client(store: Store) -> None:
    """R41."""
    other = Key("other", KEY.text, KEY.fingerprint)
    assert await store.begin(RUN, KEY) is None
    assert await store.begin(a_run(2, client="other"), other) is None
    assert (RUN.id, "run_2") == tuple(
        claim and claim.run_id for claim in [await store.claim(key.client, key.text) for key in (KEY, other)]
    )


async def test_a_run_advances(store: Store) -> None:
    """Only what an advance is about changes: the rest of what is handed in is not written."""
    await store.begin(RUN, None)
    for step in (SENDING, replace(SENDING, attempts=2, provider="promptlayer"), FOLLOWING):
        assert await store.advance(replace(step, order=b"", client="other", created_at=0.0, leased_until_at=0.0))
        assert step == await store.run(RUN.id)


async def test_a_run_never_goes_back(store: Store) -> None:
    """R44: who finds it further than expected is told so, and must not start it again."""
    await store.begin(RUN, None)
    await store.advance(FOLLOWING)
    assert not await store.advance(SENDING)
    assert not await store.advance(RUN)
    assert FOLLOWING == await store.run(RUN.id)


async def test_who_lost_a_run_to_another_cannot_advance_it(store: Store) -> None:
    """R45: a process that was away for longer than its lease must not start what another has taken over."""
    await store.begin(RUN, None)
    (adopted,) = await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=1)
    assert not await store.advance(SENDING)
    assert adopted == await store.run(RUN.id)
    assert await store.advance(replace(SENDING, owner="two"))


async def test_who_lost_a_run_to_another_can_neither_end_nor_drop_it(store: Store) -> None:
    """R45: the one who works on it says how it ended; its key stays taken."""
    await store.begin(RUN, KEY)
    (adopted,) = await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=1)
    assert not await store.finish(RUN.id, FINISH)
    await store.drop(RUN.id, owner=RUN.owner)
    assert adopted == await store.run(RUN.id)
    assert Claim(KEY, RUN.id, NOW) == await store.claim(KEY.client, KEY.text)
    assert await store.finish(RUN.id, replace(FINISH, owner="two"))


async def test_an_unknown_run_can_not_advance(store: Store) -> None:
    assert not await store.advance(SENDING)
    assert await store.run(RUN.id) is None


@pytest.mark.parametrize("before", [RUN, SENDING, FOLLOWING])
async def test_a_run_ends_once(store: Store, before: StoredRun) -> None:
    """Whoever comes second changes nothing."""
    await store.begin(RUN, KEY)
    await store.advance(before)
    done = replace(
        before,
        phase=Phase.DONE,
        status="succeeded",
        attempts=2,
        provider_run_id="98765",
        document=FINISH.document,
        finished_at=NOW + 5,
    )
    assert await store.finish(RUN.id, FINISH)
    assert done == await store.run(RUN.id)
    later = replace(FINISH, status="unknown", document=b"", finished_at=NOW + 9, answer=Answer(502, (), b""))
    assert not await store.finish(RUN.id, later)
    assert not await store.advance(FOLLOWING)
    assert done == await store.run(RUN.id)
    assert Claim(KEY, RUN.id, NOW, ANSWER) == await store.claim(KEY.client, KEY.text)


async def test_of_many_ends_one_counts(store: Store) -> None:
    await store.begin(RUN, None)
    ends = [replace(FINISH, status=f"status-{number}") for number in range(20)]
    ended = await asyncio.gather(*(store.finish(RUN.id, end) for end in ends))
    run = await store.run(RUN.id)
    assert run is not None
    assert [run.status] == [end.status for end, counted in zip(ends, ended, strict=True) if counted]


async def test_only_finish_ends_a_run(store: Store) -> None:
    await store.begin(RUN, None)
    assert not await store.advance(replace(FOLLOWING, phase=Phase.DONE))
    assert RUN == await store.run(RUN.id)


async def test_an_unknown_run_can_not_end(store: Store) -> None:
    assert not await store.finish(RUN.id, FINISH)


async def test_an_answer_is_kept_byte_for_byte(store: Store) -> None:
    """R37: headers in their order, twice the same one, and bytes that are no text."""
    await store.begin(RUN, KEY)
    await store.finish(RUN.id, FINISH)
    claim = await store.begin(a_run(2), KEY)
    assert Claim(KEY, RUN.id, NOW, ANSWER) == claim


async def test_a_run_without_a_key_or_an_answer_ends_too(store: Store) -> None:
    await store.begin(RUN, None)
    await store.begin(a_run(2), KEY)
    assert await store.finish(RUN.id, FINISH)
    assert await store.finish("run_2", replace(FINISH, answer=None))
    assert Claim(KEY, "run_2", NOW + 2) == await store.claim(KEY.client, KEY.text)


@pytest.mark.parametrize("before", [RUN, SENDING])
async def test_a_run_that_is_dropped_never_was(store: Store, before: StoredRun) -> None:
    """R40: what was refused before anything was sent leaves its key free."""
    await store.begin(RUN, KEY)
    await store.advance(before)
    await store.drop(RUN.id, owner=RUN.owner)
    assert await store.run(RUN.id) is None
    assert [] == await store.runs(Filter("checkout"))
    assert await store.begin(a_run(2), KEY) is None


async def test_a_run_that_ended_can_not_be_dropped(store: Store) -> None:
    await store.begin(RUN, KEY)
    await store.finish(RUN.id, FINISH)
    await store.drop(RUN.id, owner=RUN.owner)
    assert await store.run(RUN.id) is not None
    assert Claim(KEY, RUN.id, NOW, ANSWER) == await store.claim(KEY.client, KEY.text)


async def test_dropping_what_is_not_there_changes_nothing(store: Store) -> None:
    await store.begin(RUN, KEY)
    await store.drop("run_2", owner=RUN.owner)
    assert RUN == await store.run(RUN.id)


async def test_a_secret_is_made_once(store: Store) -> None:
    """All who ask at once are told the same one, byte for byte; each name has its own."""
    fresh = [bytes([number]) * 32 + b"\x00\xff" for number in range(20)]
    told = await asyncio.gather(*(store.secret("callbacks", each) for each in fresh))
    assert 1 == len(set(told))
    assert told[0] in fresh
    assert b"other" == await store.secret("other", b"other")
    assert told[0] == await store.secret("callbacks", b"later")


async def test_a_secret_outlives_the_process(store: Store) -> None:
    await store.secret("callbacks", b"first")
    await store.close()
    await store.open()
    assert b"first" == await store.secret("callbacks", b"second")


async def test_a_store_that_does_what_it_is_asked_does_not_fail(store: Store) -> None:
    await store.begin(RUN, KEY)
    assert not store.failing


async def test_a_ping_of_an_open_store_returns(store: Store) -> None:
    await store.ping()
    assert [] == await store.runs(Filter("checkout"))


async def test_what_was_kept_is_there_when_it_is_opened_again(store: Store) -> None:
    """R47. A lease ends with its process, where only one process can have the store."""
    await store.begin(RUN, KEY)
    await store.close()
    with pytest.raises(StoreUnavailable):
        await store.run(RUN.id)
    await store.open()
    lease = RUN.leased_until_at if store.shared else 0.0
    assert replace(RUN, leased_until_at=lease) == await store.run(RUN.id)
    assert Claim(KEY, RUN.id, NOW) == await store.claim(KEY.client, KEY.text)


async def test_a_start_that_was_refused_can_be_taken_back(store: Store) -> None:
    """R47: nothing of it is left at the provider, so after a crash it may be started; then it is sent once more."""
    await store.begin(RUN, KEY)
    sending = replace(RUN, phase=Phase.SENDING, status="running", attempts=1, provider="other")
    await store.advance(sending)
    assert await store.unsent(sending)
    assert replace(sending, phase=Phase.QUEUED) == await store.run(RUN.id)
    assert await store.advance(replace(sending, attempts=2))
    assert Phase.SENDING is (await _kept(store)).phase


async def test_a_start_is_taken_back_by_its_owner_and_only_the_one_that_was_refused(store: Store) -> None:
    """A word that was held up on its way must not say of a later start that it was refused."""
    await store.begin(RUN, None)
    assert not await store.unsent(replace(RUN, attempts=0))
    sending = replace(RUN, phase=Phase.SENDING, attempts=2)
    await store.advance(sending)
    assert not await store.unsent(replace(sending, attempts=1))
    assert not await store.unsent(replace(sending, owner="two"))
    assert not await store.unsent(replace(sending, id="run_other"))
    assert sending == await store.run(RUN.id)
    following = replace(sending, phase=Phase.FOLLOWING)
    await store.advance(following)
    assert not await store.unsent(following)
    await store.finish(RUN.id, FINISH)
    assert not await store.unsent(replace(following, attempts=FINISH.attempts))
    assert Phase.DONE is (await _kept(store)).phase


async def _kept(store: Store) -> StoredRun:
    kept = await store.run(RUN.id)
    assert kept is not None
    return kept
