"""When to look whether a configuration has changed."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
import structlog

from gateway import watch
from gateway.clock import SystemClock
from gateway.watch import moments
from tests.manual_clock import ManualClock
from tests.reload.changing import mount, replace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def _no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the system tells, unless a test waits for the looks."""
    monkeypatch.setattr(watch, "_LOOK_EVERY", 60.0)


async def told(looks: AsyncIterator[None]) -> None:
    """The next moment; TimeoutError where there is none."""
    async with asyncio.timeout(20):
        await anext(looks)


async def test_a_change_in_a_folder_is_a_moment(tmp_path: Path) -> None:
    """R100: a file that is replaced, and a link that is."""
    (tmp_path / "a").write_text("1")
    looks = moments(lambda: frozenset([tmp_path]), SystemClock(), LOG)
    changes = (
        partial(replace, tmp_path / "a", "2"),
        partial(mount, tmp_path, "1", {"b": "1"}),
        partial(mount, tmp_path, "2", {"b": "2"}),
    )
    for change in changes:
        coming = asyncio.create_task(told(looks))
        await asyncio.sleep(0.3)  # until it watches
        assert not coming.done()
        change()
        await coming


async def test_one_looks_even_where_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R100: a link may lead to another disk, of which the system tells nothing here."""
    monkeypatch.setattr(watch, "_LOOK_EVERY", 0.1)
    looks = moments(lambda: frozenset([tmp_path]), SystemClock(), LOG)
    await told(looks)
    await told(looks)


async def test_other_folders_are_watched_as_soon_as_there_are_some(tmp_path: Path) -> None:
    """The file may name a secret somewhere else now."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    named = [folders[0]]
    looks = moments(lambda: frozenset(named), SystemClock(), LOG)
    for _ in range(2):
        coming = asyncio.create_task(told(looks))
        await asyncio.sleep(0.3)
        named[:] = folders
        replace(folders[0] / "a", "1")
        await coming
    coming = asyncio.create_task(told(looks))
    await asyncio.sleep(0.3)
    replace(folders[1] / "a", "1")
    await coming


@pytest.mark.parametrize("error", [OSError("no more watches"), RuntimeError("lost")])
async def test_without_the_systems_help_there_are_the_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """R100: where there is no inotify, or its watches are used up."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(watch, "awatch", fail)
    clock = ManualClock()
    looks = moments(lambda: frozenset([tmp_path]), clock, LOG)
    for _ in range(3):
        await told(looks)
    assert [60.0] * 3 == clock.slept
