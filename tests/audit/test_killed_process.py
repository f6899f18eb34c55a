"""A process that is killed between the record of an act and the act, or between the act and the record of its end."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.audit.chain import ChainCheck, shown
from gateway.clock import SystemClock
from gateway.store.audit import GENESIS, AuditFilter
from gateway.store.sqlite.store import SqliteStore
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.process
@pytest.mark.parametrize("when", ["before", "after"])
async def test_what_was_begun_has_a_record_without_an_end(tmp_path: Path, when: str) -> None:
    """Whether it was done is not known, and no record claims it."""
    path = tmp_path / "store.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.audit.killed_process", str(path), when, cwd=ROOT
    )
    assert -signal.SIGKILL == await process.wait()
    store = SqliteStore(path, SystemClock())
    await store.open()
    assert (when == "after") == bool(await store.list_overrides())
    [record] = (await store.audit.list(AuditFilter({}))).records
    said = record.members()
    assert ("providers.override", "studio", "begun", "open") == tuple(
        said[name] for name in ("action", "target", "result", "via")
    )
    check = ChainCheck(GENESIS)
    check.add(shown(record))
    check.end(await store.audit.state())
    assert ([], [1]) == (check.findings, check.without_end)
    await store.close()
