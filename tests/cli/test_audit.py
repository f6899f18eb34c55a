"""`runward audit`: list, export and verify, against an operations port and exported files."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.audit.chain import seal, seal_all
from gateway.store.audit import AuditHead, AuditStore
from gateway.store.sqlite.store import SqliteStore
from tests.audit.samples import at, entry
from tests.support.clock import ManualClock
from tests.support.runs_port import RunsPort, runs_port

if TYPE_CHECKING:
    from tests.cli.conftest import CommandResult, RunCommand


@pytest.fixture
async def port() -> AsyncIterator[RunsPort]:
    async with runs_port(ManualClock()) as running:
        yield running


async def run(runward: RunCommand, port: RunsPort, *words: str) -> CommandResult:
    """Run a command while the port serves in this thread."""
    return await asyncio.to_thread(partial(runward, "audit", *words, RUNWARD_OPS_URL=port.url))


async def fill(store: AuditStore, count: int, result: str = "succeeded") -> AuditHead:
    """Append so many records."""
    after = (await store.state()).head
    batch = [
        entry(after.sequence + number, result=result).members(at(after.sequence + number), "pod-1/7")
        for number in range(1, count + 1)
    ]
    return await store.append(seal_all(batch, after), after)


def noted(head: AuditHead) -> str:
    return f"{head.sequence}:{head.hash}"


async def test_the_list_is_a_table_of_acts(runward: RunCommand, port: RunsPort) -> None:
    head = await fill(port.store.audit, 1)
    for number, ended in ((7, "begun"), (8, "begun"), (7, "refused")):
        code = "not_found" if ended == "refused" else ""
        record = seal(entry(number, result=ended, code=code, address="192.0.2.1").members(at(9), "x"), head)
        head = await port.store.audit.append([record], head)
    result = await run(runward, port, "list")
    lines = [line.split() for line in result.out.splitlines()]
    assert ["SEQUENCE", "TIME", "ACTOR", "ACTION", "TARGET", "RESULT", "ADDRESS"] == lines[0]
    assert [
        ["4", at(9), "maria", "runs.judge", "run_7", "refused", "(not_found)", "192.0.2.1"],
        ["3", at(9), "maria", "runs.judge", "run_8", "begun", "192.0.2.1"],
        ["1", at(1), "maria", "runs.judge", "run_1", "succeeded", "-"],
    ] == lines[1:]
    result = await run(runward, port, "list", "--json", "--result", "begun", "--limit", "1")
    assert ([3], "there are more: raise --limit\n") == (
        [json.loads(line)["sequence"] for line in result.out.splitlines()],
        result.err,
    )
    result = await run(runward, port, "list", "--target", "nothing", "--from", "2026-11-21T12:00:00Z")
    assert (0, "", "no such records\n") == (result.code, result.out, result.err)
    result = await run(runward, port, "list", "--from", "yesterday")
    assert 2 == result.code


async def test_an_export_verifies_and_can_be_continued(runward: RunCommand, port: RunsPort, tmp_path: Path) -> None:
    """More records than a page has."""
    await fill(port.store.audit, 1203)
    exported = await run(runward, port, "export")
    head = (await port.store.audit.state()).head
    assert f"head: {noted(head)}\n" == exported.err
    assert list(range(1, 1204)) == [json.loads(line)["sequence"] for line in exported.out.splitlines()]
    file = tmp_path / "audit.jsonl"
    file.write_text(exported.out)
    verified = await run(runward, port, "verify", str(file), "--head", noted(head))
    assert (0, f"verified: 1203 records, from 1 to 1203\nhead: {noted(head)}\n", "") == (
        verified.code,
        verified.out,
        verified.err,
    )
    await fill(port.store.audit, 2)
    further = await run(runward, port, "export", "--after", "1203")
    assert 2 == len(further.out.splitlines())
    file.write_text(exported.out + further.out)
    assert 0 == (await run(runward, port, "verify", str(file))).code
    file.write_text(further.out)
    assert "from 1204 to 1205" in (await run(runward, port, "verify", str(file), "--head", noted(head))).out
    assert (0, "no further records\n") == (
        (await run(runward, port, "export", "--after", "1205")).code,
        (await run(runward, port, "export", "--after", "1205")).err,
    )


async def test_a_gateway_verifies_also_after_a_purge(runward: RunCommand, port: RunsPort) -> None:
    await fill(port.store.audit, 5)
    await port.store.audit.purge(at(3), most=100)
    head = await fill(port.store.audit, 1, "begun")
    result = await run(runward, port, "verify", "--head", noted(head))
    assert (0, f"verified: 4 records, from 3 to 6\nhead: {noted(head)}\n") == (result.code, result.out)
    assert "acts whose end is not recorded: 1 (record 6)\n" == result.err
    result = await run(runward, port, "verify", "--json")
    document = json.loads(result.out)
    assert {"records": 4, "first": 3, "head": noted(head), "findings": [], "without_end": [6]} == document


def _change(lines: list[str]) -> None:
    lines[600] = lines[600].replace("maria", "mario")


def _delete(lines: list[str]) -> None:
    del lines[600]


def _swap(lines: list[str]) -> None:
    lines[600], lines[601] = lines[601], lines[600]


def _insert(lines: list[str]) -> None:
    lines.insert(601, json.dumps(json.loads(lines[600]) | {"actor": "x"}))


def _insert_text(lines: list[str]) -> None:
    lines.insert(601, "{")


def _repeat_a_member(lines: list[str]) -> None:
    lines[600] = lines[600].replace("{", '{"actor":"x",', 1)


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        (_change, "record 601: was changed"),
        (_delete, "record 601: removed"),
        (_swap, "record 601: removed, or moved"),
        (_insert, "record 601: was changed"),
        (_insert_text, "after record 601: what follows is no record"),
        (_repeat_a_member, "after record 600: what follows is no record"),
    ],
)
async def test_an_export_that_was_tampered_with_is_told(
    runward: RunCommand, port: RunsPort, tmp_path: Path, tamper: Callable[[list[str]], None], expected: str
) -> None:
    await fill(port.store.audit, 700)
    lines = (await run(runward, port, "export")).out.splitlines()
    tamper(lines)
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(lines))
    result = await run(runward, port, "verify", str(file))
    assert 1 == result.code
    assert result.out.startswith(expected), result.out
    assert "the chain is broken" in result.err


async def test_a_truncated_export_is_told_by_a_noted_head_only(
    runward: RunCommand, port: RunsPort, tmp_path: Path
) -> None:
    head = await fill(port.store.audit, 10)
    lines = (await run(runward, port, "export")).out.splitlines()
    file = tmp_path / "audit.jsonl"
    file.write_text("\n".join(lines[:7]))
    assert 0 == (await run(runward, port, "verify", str(file))).code
    result = await run(runward, port, "verify", str(file), "--head", noted(head))
    assert (1, "records 8 to 10: removed, the noted head is not in the chain\n") == (result.code, result.out)


async def test_what_cannot_be_verified_is_an_error(runward: RunCommand, port: RunsPort, tmp_path: Path) -> None:
    result = await run(runward, port, "verify", str(tmp_path / "missing"))
    assert (2, True) == (result.code, "No such file" in result.err)
    result = await run(runward, port, "verify", "--head", "yesterday")
    assert (2, True) == (result.code, "--head must be a sequence number" in result.err)
    assert 0 == (await run(runward, port, "verify")).code


@asynccontextmanager
async def sqlite_port(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[RunsPort, SqliteStore]]:
    """Serve a port whose audit records are in a SQLite file."""
    store = SqliteStore(path, ManualClock())
    await store.open()
    monkeypatch.setattr("gateway.store.memory.store.MemoryAudit", lambda _: store.audit)
    async with runs_port(ManualClock()) as port:
        yield port, store
    await store.close()


CHANGE = """
UPDATE audit_records SET content = CAST(replace(CAST(content AS TEXT), 'maria', 'mario') AS BLOB) WHERE sequence = 4"""
SPOIL = "UPDATE audit_records SET content = x'00' WHERE sequence = 4"
SHIFT = "UPDATE audit_records SET sequence = 9 - sequence WHERE sequence IN (4, 5)"
INSERT = """
INSERT INTO audit_records (sequence, hash, content) SELECT sequence, 'x', content FROM audit_records
WHERE sequence = 4"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (CHANGE, "record 4: was changed"),
        (SPOIL, "after record 3: what follows is no record"),
        ("DELETE FROM audit_records WHERE sequence = 4", "record 4: removed"),
        ("DELETE FROM audit_records WHERE sequence <= 4", "records 1 to 4: removed"),
        ("DELETE FROM audit_records WHERE sequence > 4", "records 5 to 9: removed, the store has the head 9"),
        ("DELETE FROM audit_records", "records 1 to 9: removed, the store has the head 9"),
        (SHIFT, "record 4: removed, or moved; record 5 follows record 3"),
        (INSERT, "record 4: was changed"),
        ("UPDATE audit_chain SET head_hash = 'x'", "record 9: is not the one that the store has as its head"),
    ],
)
async def test_a_store_that_was_tampered_with_is_told(
    runward: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, expected: str
) -> None:
    """By hand, in the file; the place is named."""
    async with sqlite_port(tmp_path / "store.db", monkeypatch) as (port, store):
        await fill(store.audit, 9)
        assert 0 == (await run(runward, port, "verify")).code
        with closing(sqlite3.connect(tmp_path / "store.db")) as db:
            db.execute(statement)
            db.commit()
        result = await run(runward, port, "verify")
        assert 1 == result.code
        assert result.out.startswith(expected), result.out
