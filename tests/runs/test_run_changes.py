"""Runs that were created or have ended since the last look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.runs.run_changes import RunChanges
from tests.support.clock import ManualClock
from tests.support.runs_port import RunsPort, run_id, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def port() -> AsyncIterator[RunsPort]:
    async with runs_port(ManualClock()) as running:
        yield running


async def look(changes: RunChanges, port: RunsPort) -> list[tuple[int, str]]:
    """Return number and status of each run that has changed."""
    assert isinstance(port.clock, ManualClock)
    port.clock.advance(1)
    return [(int(run.id[-8:], 16), run.status) for run in await changes.look(port.clock.now().timestamp())]


async def test_what_is_new_and_what_has_ended(port: RunsPort) -> None:
    changes = RunChanges(port.store)
    await port.start(1)
    assert [] == await look(changes, port)
    await port.start(2)
    assert [(2, "queued")] == await look(changes, port)
    assert [] == await look(changes, port)
    await port.end(1, "failed")
    await port.record(3, ago=30)
    assert {(1, "failed"), (3, "succeeded")} == set(await look(changes, port))
    assert [] == await look(changes, port)


async def test_an_old_run_is_not_new(port: RunsPort) -> None:
    """It is in the list because newer ones were deleted."""
    changes = RunChanges(port.store)
    assert [] == await look(changes, port)
    await port.record(1, ago=500, finished_at=port.clock.now().timestamp() - 400)
    assert [] == await look(changes, port)


async def test_an_unfinished_run_is_watched_behind_a_hundred_newer_ones(port: RunsPort) -> None:
    """As are others of its kind, ten at each look."""
    changes = RunChanges(port.store)
    assert [] == await look(changes, port)
    for number in range(15):
        await port.start(number)
    assert 15 == len(await look(changes, port))
    for number in range(20, 130):
        await port.record(number)
    assert 100 == len(await look(changes, port))
    await port.end(14)
    await port.end(0)
    ended = [await look(changes, port) for _ in range(2)]
    assert {(0, "succeeded"), (14, "succeeded")} == {run for each in ended for run in each}


async def test_what_is_remembered_is_bounded(port: RunsPort) -> None:
    changes = RunChanges(port.store)
    for part in range(12):
        for number in range(part * 100, part * 100 + 100):
            await port.record(number + 1)
        await look(changes, port)
    assert 1000 == len(changes._known)


async def test_a_deleted_run_is_forgotten(port: RunsPort) -> None:
    changes = RunChanges(port.store)
    await port.start(1)
    await look(changes, port)
    await port.store.discard_run(run_id(1), owner="owner-of-tests")
    assert [] == await look(changes, port)
    assert not changes._known
