"""Redis store: lists of the runs of all clients, also with runs of earlier versions, and the end of deleted runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.redis.connection import RedisAddress, RedisConnection
from gateway.store.history import MAX_TIMELINE, HistoryEntry
from gateway.store.records import Phase
from gateway.store.redis import scripts
from gateway.store.redis.store import RedisStore
from gateway.store.run_filter import RunFilter
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, listed, new_run, new_run_with_callback
from tests.support.valkey import shared_server
from tests.support.waiting import WAIT_TIMEOUT

UNKNOWN = replace(SAMPLE_FINAL_STATE, status="unknown")


def _new_store(prefix: str) -> RedisStore:
    address = RedisAddress("127.0.0.1", shared_server().port)
    return RedisStore(RedisConnection(address, timeout=WAIT_TIMEOUT), SystemClock(), prefix=prefix)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    """Prefix of the keys of this test."""
    return f"{tmp_path}:"


@pytest.fixture
async def store(prefix: str) -> AsyncIterator[RedisStore]:
    """Empty store."""
    opened = _new_store(prefix)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
async def server() -> AsyncIterator[RedisConnection]:
    """Connection to the server of the store."""
    connection = RedisConnection(RedisAddress("127.0.0.1", shared_server().port))
    yield connection
    await connection.close()


def _recorded(number: int, **changes: Any) -> HistoryEntry:
    ended: dict[str, Any] = {"order": b"", "owner": "", "phase": Phase.DONE, "status": "failed", "durable": False}
    return HistoryEntry(new_run(number, **{**ended, "finished_at": NOW + 5, **changes}), ("a",), b"e\n")


async def _open_and_index(store: RedisStore) -> None:
    await store.open()
    assert store._indexing is not None
    await store._indexing


async def _ids(store: RedisStore, **conditions: Any) -> list[str]:
    return [run.id for run in await listed(store, RunFilter(None, 2000, **conditions))]


async def _keys(server: RedisConnection, prefix: str) -> list[str]:
    found = await server.execute_one("KEYS", f"{prefix}1:*")
    return sorted(key.decode().removeprefix(f"{prefix}1:") for key in found)


async def _forget_lists_of_all_clients(server: RedisConnection, prefix: str) -> None:
    """Leave what an earlier version has written."""
    names = [
        name
        for name in await _keys(server, prefix)
        if name.startswith(("runs:", "tagged:0::", "status:", "unfinished"))
    ]
    await server.execute_one("DEL", *(f"{prefix}1:{name}" for name in names if name != "runs:checkout"))


async def test_runs_of_an_earlier_version_are_added_to_the_lists_of_all_clients(
    store: RedisStore, server: RedisConnection, prefix: str
) -> None:
    """Unfinished ones, ended ones, ones with a pending callback; more than one script adds."""
    await asyncio.gather(*(store.create_run(new_run(number), None, ("a",)) for number in range(1100)))
    await asyncio.gather(*(store.finish(f"run_{number}", SAMPLE_FINAL_STATE) for number in range(1, 1099)))
    await store.create_run(new_run_with_callback(1100), None, ("b",))
    await store.finish("run_1100", UNKNOWN)
    everything = await _ids(store)
    await _forget_lists_of_all_clients(server, prefix)
    assert await _ids(store) == []
    again = _new_store(prefix)
    await _open_and_index(again)
    assert await _ids(again) == everything
    assert await _ids(again, status="queued") == ["run_1099", "run_0"]
    assert await _ids(again, status="unknown") == await _ids(again, tags=("b",)) == ["run_1100"]
    assert len(await _ids(again, tags=("a",))) == 1100
    await again.close()


async def test_runs_that_an_earlier_version_deleted_or_ended_leave_the_lists(
    store: RedisStore, server: RedisConnection, prefix: str
) -> None:
    """While replicas of both versions run: those of the earlier one do not know all lists."""
    for number in (1, 2, 3):
        await store.create_run(new_run(number), None)
    await server.execute_one("HSET", f"{prefix}1:run:run_2", "phase", 3, "status", "succeeded")
    await server.execute_one("ZREM", f"{prefix}1:leases", "run_2", "run_3")
    await server.execute_one("ZADD", f"{prefix}1:ended", NOW, "run_2")
    await server.execute_one("DEL", f"{prefix}1:run:run_3")
    assert await _ids(store) == ["run_2", "run_1"]
    assert await _ids(store, status="queued") == ["run_1"]
    again = _new_store(prefix)
    await _open_and_index(again)
    await again.close()
    assert await server.execute_one("ZRANGE", f"{prefix}1:runs:", 0, -1) == [b"run_1", b"run_2"]
    assert await server.execute_one("ZRANGE", f"{prefix}1:unfinished", 0, -1) == [b"run_1"]


async def test_the_index_stays_complete_whatever_happens_to_a_callback(store: RedisStore) -> None:
    """Otherwise each start would examine every run."""
    for number in range(3):
        await store.create_run(new_run_with_callback(number), None)
        await store.finish(f"run_{number}", UNKNOWN)
    await store.postpone_callback("run_0", due_at=NOW + 9)
    await store.settle_callback("run_1", "delivered")
    await store.redeliver_callback("run_1", now_at=NOW)
    await store.settle_callback("run_2", "delivered")
    await store.revise("run_2", SAMPLE_FINAL_STATE)
    await store.add_history([_recorded(4)])
    await store.revise("run_0", replace(SAMPLE_FINAL_STATE, callback=None))
    assert await store._read(scripts.IS_INDEXED) == 1


async def test_nothing_of_a_deleted_record_stays(store: RedisStore, server: RedisConnection, prefix: str) -> None:
    await store.add_history([_recorded(number) for number in range(250)])
    await store.add_history([_recorded(900, status="unknown")])
    await store.judge("run_900", b"{}")
    await store.create_run(new_run(901), None, ("a",))
    await store.set_activities("one", [("run_901", b"{}")])
    assert "active" in await _keys(server, prefix)
    await store.discard_run("run_901", owner="one")
    assert await store.purge_history(before_at=NOW + 9, most=1000) == 251
    assert await _keys(server, prefix) == ["generation"]


async def test_a_record_is_revised_and_stays_without_payload(store: RedisStore) -> None:
    await store.add_history([_recorded(1, status="unknown")])
    assert await store.revise("run_1", replace(SAMPLE_FINAL_STATE, finished_at=NOW + 50, events=b"r\n"))
    assert not await store.revise("run_1", SAMPLE_FINAL_STATE)
    assert await _ids(store, status="succeeded", durable=False) == ["run_1"]
    assert await _ids(store, status="unknown") == []
    assert await store.get_document("run_1") is None
    assert await store.get_timeline("run_1") == b"e\nr\n"
    assert await store.purge(runs_before_at=NOW + 99, keys_before_at=NOW) == 0
    assert await store.purge_history(before_at=NOW + 49, most=1) == 0
    assert await store.purge_history(before_at=NOW + 51, most=1) == 1


async def test_a_record_without_room_for_its_timeline_has_none(store: RedisStore) -> None:
    await store.add_history([replace(_recorded(1), timeline=b"x" * (MAX_TIMELINE + 1))])
    assert await store.get_timeline("run_1") == b""


async def test_an_activity_wakes_the_tasks_of_other_replicas(store: RedisStore, prefix: str) -> None:
    other = _new_store(prefix)
    await other.open()
    await store.create_run(new_run(1), None)
    waiting = asyncio.create_task(other.wait_for_change(["run_1"], 600))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(WAIT_TIMEOUT):
        await store.set_activities("one", [("run_1", b"{}")])
        await waiting
    await other.close()


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"status": "unknown"}, "run_1"),
        ({"waiting_for": "limit"}, "run_0"),
        ({"judged": True}, "run_1"),
        ({"status": "unknown", "tags": ("a",)}, "run_1"),
    ],
)
@pytest.mark.parametrize("client", [None, "checkout"])
async def test_rare_runs_are_found_without_examining_all(
    store: RedisStore, client: str | None, conditions: dict[str, Any], expected: str
) -> None:
    for number in (0, 1):
        await store.create_run(new_run(number), None, ("a",))
    await store.add_history([_recorded(number) for number in range(2, 50)])
    await store.set_activities("one", [("run_0", b'{"waiting_for":"limit"}')])
    await store.finish("run_1", UNKNOWN)
    await store.judge("run_1", b"{}")
    found = await listed(store, RunFilter(client, max_examined=2, **conditions))
    assert [run.id for run in found] == [expected]
    assert await listed(store, RunFilter("other", max_examined=2, **conditions)) == []
