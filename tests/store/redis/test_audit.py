"""Audit records of the Redis store: replicas with connections of their own, and changes on the server by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.audit.chain import ChainCheck, seal_all, shown
from gateway.audit.recorder import AuditRecorder
from gateway.clock import SystemClock
from gateway.store.audit import GENESIS, AuditFilter
from gateway.store.redis.store import RedisStore
from tests.audit.samples import at, entry
from tests.store.samples import new_redis_store

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 200


async def verified(store: RedisStore) -> ChainCheck:
    """Return the check of the whole chain."""
    check = ChainCheck(GENESIS)
    for record in (await store.audit.list(AuditFilter({}, ascending=True, limit=1000))).records:
        check.add(shown(record))
    check.end(await store.audit.state())
    return check


async def test_two_replicas_append_at_once(tmp_path: Path) -> None:
    """200 acts each; every one is in the chain once, and the chain is valid."""
    clock, log = SystemClock(), structlog.wrap_logger(None, processors=[LogCapture()])
    stores = [new_redis_store(tmp_path, clock) for _ in range(2)]
    for store in stores:
        await store.open()
    recorders = [AuditRecorder(store.audit, clock, log, pytest.fail, f"r{n}/1") for n, store in enumerate(stores)]

    async def act(recorder: AuditRecorder, name: str) -> None:
        for number in range(COUNT):
            await recorder.record(entry(number, target=f"{name}{number}"))

    await asyncio.gather(*(act(recorder, name) for recorder, name in zip(recorders, "ab", strict=True)))
    check = await verified(stores[0])
    assert ([], 2 * COUNT) == (check.findings, check.count)
    records = (await stores[1].audit.list(AuditFilter({}, ascending=True, limit=1000))).records
    targets = [str(each.members()["target"]) for each in records]
    for name in "ab":
        assert [f"{name}{number}" for number in range(COUNT)] == [each for each in targets if each.startswith(name)]
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("ZREMRANGEBYSCORE", "4", "4"), "record 4: removed"),
        (("ZREMRANGEBYSCORE", "7", "9"), "records 7 to 9: removed, the store has the head 9"),
        (("ZADD", "4", "0" * 64 + '{"sequence":4}'), "record 4: was changed"),
        (("ZADD", "4.5", "nonsense"), "after record 4: what follows is no record"),
        (("DEL",), "records 1 to 9: removed"),
    ],
)
async def test_what_was_changed_by_hand_is_found(tmp_path: Path, command: tuple[str, ...], expected: str) -> None:
    store = new_redis_store(tmp_path, SystemClock())
    await store.open()
    batch = seal_all([entry(number).members(at(number), "x") for number in range(1, 10)], GENESIS)
    await store.audit.append(batch, GENESIS)
    assert [] == (await verified(store)).findings
    name, *arguments = command
    await store._connection.execute_one(name, f"{tmp_path}:1:audit_records", *arguments)
    findings = (await verified(store)).findings
    assert any(each.startswith(expected) for each in findings), findings
    await store.close()
