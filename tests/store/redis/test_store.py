"""Redis store: outages and restarts of the server, and changes shared by replicas."""

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
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.redis.lua_script import RedisScript
from gateway.store.contract import StoreUnavailable
from gateway.store.records import IdempotencyRecord, Phase
from gateway.store.redis.layout import LAYOUT_VERSION
from gateway.store.redis.pubsub import ChangeSubscriber
from gateway.store.redis.store import RedisStore
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, SAMPLE_KEY, SAMPLE_RUN, new_run, new_run_with_callback
from tests.store.test_contract_retention_and_waiting import CALLS
from tests.support.valkey import ValkeyServer, running_server, shared_server, start_server

TIMEOUT = 15.0  # real seconds: only what hangs takes as long
CONNECTION_TIMEOUT = 0.4  # seconds that the link waits in these tests


def _new_store(port: int, prefix: str, *, timeout: float = CONNECTION_TIMEOUT) -> RedisStore:
    return RedisStore(RedisConnection(RedisAddress("127.0.0.1", port), timeout=timeout), SystemClock(), prefix=prefix)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ValkeyServer]:
    """Server of one test, which may stop it."""
    with running_server(tmp_path / "server") as server:
        yield server


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """Two stores on one server, as in two processes."""
    pair = tuple(_new_store(shared_server().port, f"{tmp_path}:", timeout=TIMEOUT) for _ in range(2))
    for store in pair:
        await store.open()
    yield pair[0], pair[1]
    for store in pair:
        await store.close()


async def _stored_keys(port: int, prefix: str = "") -> list[str]:
    connection = RedisConnection(RedisAddress("127.0.0.1", port))
    found = sorted(key.decode().removeprefix(prefix) for key in await connection.execute_one("KEYS", f"{prefix}*"))
    await connection.close()
    return found


async def _wait_until_available(store: RedisStore) -> None:
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                await store.ping()
            except StoreUnavailable:
                await asyncio.sleep(0.05)
            else:
                return


@pytest.mark.parametrize("call", [name for name in CALLS if name != "wait_for_change"])
async def test_a_server_that_stands_still_is_unavailable_soon(own_server: ValkeyServer, call: str) -> None:
    """R54: every call returns in time, and the store works again when the server continues."""
    store = _new_store(own_server.port, "s:")
    await store.open()
    await store.ping()
    own_server.process.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(TIMEOUT):
        with pytest.raises(StoreUnavailable):
            await CALLS[call](store)
    failing = [store.failing]
    own_server.process.send_signal(signal.SIGCONT)
    await _wait_until_available(store)
    failing += [store.failing]
    assert [True, False] == failing
    await store.close()


async def test_a_wait_on_a_dead_server_ends(own_server: ValkeyServer) -> None:
    """R54: waits are short then, and the next read raises StoreUnavailable."""
    store = _new_store(own_server.port, "s:")
    await store.open()
    own_server.kill()
    async with asyncio.timeout(TIMEOUT):
        await store.wait_for_change([SAMPLE_RUN.id], 600)
        await store.wait_for_change([SAMPLE_RUN.id], 600)
    await store.close()


async def test_a_store_closes_while_its_server_dies(own_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """R98: redis-py may turn a cancellation into a connection error."""

    async def hear(_hearing: ChangeSubscriber, _ears: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise RedisConnectionError from None

    monkeypatch.setattr(ChangeSubscriber, "_receive_messages", hear)
    store = _new_store(own_server.port, "s:")
    await store.open()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(TIMEOUT):
        await store.close()


async def test_a_server_that_comes_back_is_used_again(own_server: ValkeyServer) -> None:
    """R47, R54: killed and restarted on the same port, with all acknowledged data."""
    store = _new_store(own_server.port, "s:")
    await store.open()
    assert await store.create_run(SAMPLE_RUN, SAMPLE_KEY) is None
    own_server.kill()
    async with asyncio.timeout(TIMEOUT):
        for number in range(20):
            with pytest.raises(StoreUnavailable):
                await store.create_run(new_run(2 + number), None)
    again = start_server(own_server.directory, port=own_server.port)
    try:
        await _wait_until_available(store)
        assert SAMPLE_RUN == await store.get_run(SAMPLE_RUN.id)
        assert IdempotencyRecord(SAMPLE_KEY, SAMPLE_RUN.id, NOW) == await store.create_run(new_run(30), SAMPLE_KEY)
        await store.finish(SAMPLE_RUN.id, SAMPLE_FINAL_STATE)
        await _assert_wakes(store, store, "run_31")  # it hears again, too
    finally:
        again.kill()
        await store.close()


async def _assert_wakes(waiting_store: RedisStore, changing_store: RedisStore, run_id: str) -> None:
    """Assert that a waiting task at one store is woken promptly by a change at the other."""
    await changing_store.create_run(new_run(0, id=run_id), None)
    async with asyncio.timeout(TIMEOUT):
        while waiting_store._subscriber._disconnected:  # no method says so
            await asyncio.sleep(0.05)
        waiting = asyncio.create_task(waiting_store.wait_for_change([run_id], 600))
        await asyncio.sleep(0.05)
        await changing_store.advance(new_run(0, id=run_id, phase=Phase.SENDING))
        await waiting


async def test_a_change_by_one_replica_wakes_waiters_at_another(replicas: tuple[RedisStore, RedisStore]) -> None:
    await _assert_wakes(*replicas, "run_1")


async def test_a_replica_that_was_disconnected_misses_no_change(
    replicas: tuple[RedisStore, RedisStore],
) -> None:
    """A lost subscription wakes waiting tasks, and waits are short until it is renewed."""
    one, other = replicas
    await one.create_run(SAMPLE_RUN, None)
    waiting = asyncio.create_task(one.wait_for_change([SAMPLE_RUN.id], 600))
    await asyncio.sleep(0.05)
    connection = RedisConnection(RedisAddress("127.0.0.1", shared_server().port))
    await connection.execute_one("CLIENT", "KILL", "TYPE", "pubsub")
    await connection.close()
    async with asyncio.timeout(TIMEOUT):
        await waiting
        await one.wait_for_change([SAMPLE_RUN.id], 600)  # deaf, or just no more: half a second
    await _assert_wakes(one, other, "run_2")


async def test_two_replicas_agree_on_a_secret(replicas: tuple[RedisStore, RedisStore]) -> None:
    found = await asyncio.gather(
        *(store.get_or_create_secret("s", bytes([n])) for n in range(20) for store in replicas)
    )
    assert 1 == len(set(found))


async def test_a_newer_layout_is_left_alone(tmp_path: Path) -> None:
    """An older version refuses the layout of a newer one, and changes nothing."""
    prefix = f"{tmp_path}:"
    connection = RedisConnection(RedisAddress("127.0.0.1", shared_server().port))
    await connection.execute_one("SET", f"{prefix}layout", LAYOUT_VERSION + 1)
    await connection.close()
    store = _new_store(shared_server().port, prefix)
    with pytest.raises(StoreUnavailable, match="layout 2, and this version of Runward supports 1"):
        await store.open()
    assert ["layout"] == await _stored_keys(shared_server().port, prefix)


async def test_nothing_of_a_purged_run_stays(replicas: tuple[RedisStore, RedisStore], tmp_path: Path) -> None:
    """R43: neither record, order, response, callback nor empty index."""
    store, _ = replicas
    for number in range(3):
        await store.create_run(new_run_with_callback(number), replace(SAMPLE_KEY, text=str(number)))
        await store.advance(new_run_with_callback(number, phase=Phase.SENDING))
    await store.discard_run("run_0", owner=SAMPLE_RUN.owner)
    await store.adopt("two", now_at=NOW + 31, until_at=NOW + 60, limit=10, batch_id=1)
    for number in (1, 2):
        assert await store.finish(f"run_{number}", replace(SAMPLE_FINAL_STATE, owner="two"))
        await store.settle_callback(f"run_{number}", "delivered")
    await store.redeliver_callback("run_1", now_at=NOW)
    assert 3 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    await store.settle_callback("run_1", "delivered")
    assert 1 == await store.purge(runs_before_at=NOW + 1e6, keys_before_at=NOW + 1e6)
    prefix = f"{tmp_path}:"
    assert ["1:generation", "1:taken:two:1", "layout"] == await _stored_keys(shared_server().port, prefix)
    connection = RedisConnection(RedisAddress("127.0.0.1", shared_server().port))
    assert 0 < await connection.execute_one("TTL", f"{prefix}1:taken:two:1") <= 86_400
    await connection.close()


async def test_more_leases_than_one_script_renews(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    await asyncio.gather(*(store.create_run(new_run(number), None) for number in range(1201)))
    await store.renew_leases("one", 0.0)
    assert 1201 == len(await store.adopt("two", now_at=NOW, until_at=NOW + 60, limit=5000))


async def test_a_batch_in_which_one_fails_keeps_the_others(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    await store.create_run(SAMPLE_RUN, None)
    new = [new_run(number) for number in range(2, 6)]
    results = await asyncio.gather(*(store.create_run(run, None) for run in [*new, SAMPLE_RUN]), return_exceptions=True)
    assert [None] * 4 == results[:4]
    assert isinstance(results[4], ValueError)
    assert new == [await store.get_run(run.id) for run in new]


async def test_a_cancelled_caller_does_not_stop_its_batch(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, other = replicas
    leaving = asyncio.create_task(store.create_run(SAMPLE_RUN, None))
    staying = asyncio.create_task(store.create_run(new_run(2), None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying is None
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert new_run(2) == await other.get_run("run_2")


async def test_a_server_that_lost_the_scripts_is_sent_them_again(replicas: tuple[RedisStore, RedisStore]) -> None:
    store, _ = replicas
    text = f"-- {uuid4()}\nreturn 7"  # no server has seen it before
    assert [7] * 5 == await asyncio.gather(*(store._write(RedisScript.from_text(text)) for _ in range(5)))


async def test_foreign_messages_do_not_stop_the_subscription(
    replicas: tuple[RedisStore, RedisStore], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R54: binary messages on the channel: replicas still receive notifications at once."""
    one, other = replicas
    connection = RedisConnection(RedisAddress("127.0.0.1", shared_server().port))
    await connection.execute_one("PUBLISH", f"{tmp_path}:{LAYOUT_VERSION}:changed", b"\xff\xfe")
    await connection.close()
    await one.notify("hint:x")
    async with asyncio.timeout(TIMEOUT):
        while not other.recently_notified("hint:x"):
            await asyncio.sleep(0.01)
    assert [] == caplog.records


async def test_an_error_reply_is_not_quoted(own_server: ValkeyServer) -> None:
    """R79: it may quote the written data."""
    store = _new_store(own_server.port, "s:")
    await store.open()
    connection = RedisConnection(RedisAddress("127.0.0.1", own_server.port))
    await connection.execute_one("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(StoreUnavailable, match=r"^the server's memory is full$") as full:
        await store.create_run(SAMPLE_RUN, SAMPLE_KEY)
    assert full.value.__context__ is None
    await connection.execute_one("CONFIG", "SET", "maxmemory", "0")
    assert await store.create_run(SAMPLE_RUN, SAMPLE_KEY) is None
    await connection.close()
    await store.close()
