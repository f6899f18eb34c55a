"""The store on a server: what a server that stops, dies or comes back does to it, and what replicas share."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.clock import SystemClock
from gateway.store import redis_scripts
from gateway.store.contract import Claim, Phase, StoreUnavailable
from gateway.store.redis import LAYOUT, RedisStore
from gateway.store.redis_hearing import Hearing
from gateway.store.redis_link import Address, RedisLink
from tests.store.contract import FINISH, KEY, NOW, RUN, a_run, called_back
from tests.store.test_contract_upkeep import CALLS
from tests.valkey import Valkey, running_server, shared_server, start_server

PATIENCE = 15.0  # real seconds: only what hangs takes as long
ANSWERS_WITHIN = 0.4  # seconds that the link waits in these tests


def _store(port: int, prefix: str, *, patience: float = ANSWERS_WITHIN) -> RedisStore:
    return RedisStore(RedisLink(Address("127.0.0.1", port), patience=patience), SystemClock(), prefix=prefix)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Valkey]:
    """A server that a test may ill-treat."""
    with running_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two stores of two processes, as it were, on one server."""
    pair = tuple(_store(shared_server().port, f"{tmp_path}:", patience=2.0) for _ in range(2))
    for store in pair:
        await store.open()
    yield pair[0], pair[1]
    for store in pair:
        await store.close()


async def _keys(port: int, prefix: str = "") -> list[str]:
    link = RedisLink(Address("127.0.0.1", port))
    found = sorted(key.decode().removeprefix(prefix) for key in await link.ask("KEYS", f"{prefix}*"))
    await link.close()
    return found


async def _until_back(store: RedisStore) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("call", [name for name in CALLS if name != "wait"])
async def test_a_server_that_stands_still_is_unavailable_soon(own_server: Valkey, call: str) -> None:
    """R54: whatever is asked, the answer comes, and it works again when the server goes on."""
    store = _store(own_server.port, "s:")
    await store.open()
    await store.ping()
    own_server.process.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(StoreUnavailable):
            await CALLS[call](store)
    failing = [store.failing]
    own_server.process.send_signal(signal.SIGCONT)
    await _until_back(store)
    failing += [store.failing]
    assert [True, False] == failing
    await store.close()


async def test_a_wait_on_a_dead_server_ends(own_server: Valkey) -> None:
    """R54: waiting is looking again and again then, and the look says that the store is unavailable."""
    store = _store(own_server.port, "s:")
    await store.open()
    own_server.kill()
    async with asyncio.timeout(PATIENCE):
        await store.wait([RUN.id], 600)
        await store.wait([RUN.id], 600)
    await store.close()


async def test_a_store_closes_while_its_server_dies(own_server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: redis-py may make a lost connection of what was the order to stop."""

    async def hear(_hearing: Hearing, _ears: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RedisConnectionError from None

    monkeypatch.setattr(Hearing, "_hear", hear)
    store = _store(own_server.port, "s:")
    await store.open()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(PATIENCE):
        await store.close()


async def test_a_server_that_comes_back_is_used_again(own_server: Valkey) -> None:
    """R47, R54: killed, gone for a while, and started again on its port: with all that it acknowledged."""
    store = _store(own_server.port, "s:")
    await store.open()
    assert await store.begin(RUN, KEY) is None
    own_server.kill()
    async with asyncio.timeout(PATIENCE):
        for number in range(20):
            with pytest.raises(StoreUnavailable):
                await store.begin(a_run(2 + number), None)
    again = start_server(own_server.directory, port=own_server.port)
    try:
        await _until_back(store)
        assert RUN == await store.run(RUN.id)
        assert Claim(KEY, RUN.id, NOW) == await store.begin(a_run(30), KEY)
        await store.finish(RUN.id, FINISH)
        await _wakes(store, store, "run_31")  # it hears again, too
    finally:
        again.kill()
        await store.close()


async def _wakes(told: RedisStore, teller: RedisStore, run_id: str) -> None:
    """Somebody who waits at one store is woken by a change at the other, at once or nearly so."""
    await teller.begin(a_run(0, id=run_id), None)
    async with asyncio.timeout(PATIENCE):
        while told._hearing._deaf:  # no method says so
            await asyncio.sleep(0.05)
        waiting = asyncio.create_task(told.wait([run_id], 600))
        await asyncio.sleep(0.05)
        await teller.advance(a_run(0, id=run_id, phase=Phase.SENDING))
        await waiting


async def test_a_change_by_one_replica_wakes_who_waits_at_another(replicas: tuple[RedisStore, RedisStore]) -> None:
    await _wakes(*replicas, "run_1")


async def test_a_replica_that_heard_nothing_for_a_while_misses_nothing(
    replicas: tuple[RedisStore, RedisStore],
) -> None:
    """Its listening connection is cut: who waits is woken, waits are short until it listens again, then long."""
    one, other = replicas
    await one.begin(RUN, None)
    waiting = asyncio.create_task(one.wait([RUN.id], 600))
    await asyncio.sleep(0.05)
    link = RedisLink(Address("127.0.0.1", shared_server().port))
    await link.ask("CLIENT", "KILL", "TYPE", "pubsub")
    await link.close()
    async with asyncio.timeout(PATIENCE):
        await waiting
        await one.wait([RUN.id], 600)  # deaf, or just no more: half a second
    await _wakes(one, other, "run_2")


async def test_two_replicas_agree_on_a_secret(replicas: tuple[RedisStore, RedisStore]) -> None:
    found = await asyncio.gather(*(store.secret("s", bytes([n])) for n in range(20) for store in replicas))
    assert 1 == len(set(found))


async def test_a_newer_layout_is_left_alone(tmp_path: Path) -> None:
    """Whoever goes back to an older version is told so, and nothing is changed."""
    prefix = f"{tmp_path}:"
    link = RedisLink(Address("127.0.0.1", shared_server().port))
    await link.ask("SET", f"{prefix}layout", LAYOUT + 1)
    await link.close()
    store = _store(shared_server().port, prefix)
    with pytest.raises(StoreUnavailable, match="layout 2, and this version of Runward knows 1"):
        await store.open()
    assert ["layout"] == await _keys(shared_server().port, prefix)


async def test_nothing_of_a_forgotten_run_stays(replicas: tuple[RedisStore, RedisStore], tmp_path: Path) -> None:
    """R43: no claim, no order, no answer, no callback, and no index that holds nothing."""
    store, _ = replicas
    for number in range(3):
        await store.begin(called_back(number), replace(KEY, text=str(number)))
        await store.advance(called_back(number, phase=Phase.SENDING))
    await store.drop("run_0", owner=RUN.owner)
    await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=10, turn=1)
    for number in (1, 2):
        assert await store.finish(f"run_{number}", replace(FINISH, owner="two"))
        await store.delivered(f"run_{number}", "delivered")
    await store.redeliver("run_1", now_at=NOW)
    assert 3 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    await store.delivered("run_1", "delivered")
    assert 1 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    prefix = f"{tmp_path}:"
    assert ["1:taken:two:1", "layout"] == await _keys(shared_server().port, prefix)
    link = RedisLink(Address("127.0.0.1", shared_server().port))
    assert 0 < await link.ask("TTL", f"{prefix}1:taken:two:1") <= 86_400
    await link.close()


async def test_more_leases_than_one_script_renews(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    await asyncio.gather(*(store.begin(a_run(number), None) for number in range(1201)))
    await store.renew("one", 0.0)
    assert 1201 == len(await store.adopt("two", now_at=NOW, until_at=NOW + 60, limit=5000))


async def test_a_batch_in_which_one_fails_keeps_the_others(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    await store.begin(RUN, None)
    new = [a_run(number) for number in range(2, 6)]
    results = await asyncio.gather(*(store.begin(run, None) for run in [*new, RUN]), return_exceptions=True)
    assert [None] * 4 == results[:4]
    assert isinstance(results[4], ValueError)
    assert new == [await store.run(run.id) for run in new]


async def test_a_caller_that_leaves_does_not_stop_what_it_asked_for(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, other = replicas
    leaving = asyncio.create_task(store.begin(RUN, None))
    staying = asyncio.create_task(store.begin(a_run(2), None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is None
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert a_run(2) == await other.run("run_2")


async def test_a_server_that_forgot_the_scripts_is_told_again(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    text = f"-- {uuid4()}\nreturn 7"  # no server has seen it before
    assert [7] * 5 == await asyncio.gather(*(store._write(redis_scripts.Script.of(text)) for _ in range(5)))


async def test_what_others_publish_deafens_nobody(
    replicas: tuple[RedisStore, RedisStore], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R54: on our channel, and no text: replicas still hear from each other at once."""
    one, other = replicas
    link = RedisLink(Address("127.0.0.1", shared_server().port))
    await link.ask("PUBLISH", f"{tmp_path}:{LAYOUT}:changed", b"\xff\xfe")
    await link.close()
    await one.tell("hint:x")
    async with asyncio.timeout(PATIENCE):
        while not other.told("hint:x"):
            await asyncio.sleep(0.01)
    assert [] == caplog.records


async def test_what_the_server_refuses_is_not_quoted(own_server: Valkey) -> None:
    """R79: its words may hold what was to be written."""
    store = _store(own_server.port, "s:")
    await store.open()
    link = RedisLink(Address("127.0.0.1", own_server.port))
    await link.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailable, match=r"^the server's memory is full$") as full:
        await store.begin(RUN, KEY)
    assert full.value.__context__ is None
    await link.ask("CONFIG", "SET", "maxmemory", "0")
    assert await store.begin(RUN, KEY) is None
    await link.close()
    await store.close()
