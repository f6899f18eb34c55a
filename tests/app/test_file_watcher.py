"""File watcher of the configuration."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import pytest
import structlog
import watchfiles
from watchfiles import Change

from gateway.app import file_watcher
from gateway.app.file_watcher import watch_config_files
from gateway.clock import SystemClock
from gateway.settings import WatchedPaths
from tests.support.clock import ManualClock
from tests.support.config_files import mount_secret_files, replace_file
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.process import start_gateway
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

LOG = structlog.get_logger()
NAMES = frozenset({"a", "b"})


@pytest.fixture(autouse=True)
def _without_rescans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable rescans unless a test needs them."""
    monkeypatch.setattr(file_watcher, "_RESCAN_INTERVAL", 60.0)


async def next_change(changes: AsyncIterator[None]) -> None:
    """Wait for the next report. Raises TimeoutError."""
    async with asyncio.timeout(20):
        await anext(changes)


async def test_a_change_in_a_folder_is_noticed(tmp_path: Path) -> None:
    """R100: a replaced file and a replaced link."""
    (tmp_path / "a").write_text("1")
    watched_changes = watch_config_files(lambda: WatchedPaths(frozenset([tmp_path]), NAMES), SystemClock(), LOG)
    changes = (
        partial(replace_file, tmp_path / "a", "2"),
        partial(mount_secret_files, tmp_path, "1", {"b": "1"}),
        partial(mount_secret_files, tmp_path, "2", {"b": "2"}),
    )
    for change in changes:
        coming = asyncio.create_task(next_change(watched_changes))
        await asyncio.sleep(0.3)  # until it watches
        assert not coming.done()
        change()
        await coming


async def test_folders_are_rescanned_without_notifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R100: a link may lead to a file system without change notifications."""
    monkeypatch.setattr(file_watcher, "_RESCAN_INTERVAL", 0.1)
    watched_changes = watch_config_files(lambda: WatchedPaths(frozenset([tmp_path]), NAMES), SystemClock(), LOG)
    await next_change(watched_changes)
    await next_change(watched_changes)


async def test_new_folders_are_watched_at_once(tmp_path: Path) -> None:
    """A new configuration may name a secret in another folder."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    named = [folders[0]]
    watched_changes = watch_config_files(lambda: WatchedPaths(frozenset(named), NAMES), SystemClock(), LOG)
    for _ in range(2):
        coming = asyncio.create_task(next_change(watched_changes))
        await asyncio.sleep(0.3)
        named[:] = folders
        replace_file(folders[0] / "a", "1")
        await coming
    coming = asyncio.create_task(next_change(watched_changes))
    await asyncio.sleep(0.3)
    replace_file(folders[1] / "a", "1")
    await coming


@pytest.mark.parametrize("error", [OSError("no more watches"), RuntimeError("lost")])
async def test_folders_are_rescanned_where_inotify_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """R100: inotify may be absent or out of watches."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr(watchfiles, "awatch", fail)
    clock = ManualClock()
    watched_changes = watch_config_files(lambda: WatchedPaths(frozenset([tmp_path]), NAMES), clock, LOG)
    for _ in range(3):
        await next_change(watched_changes)
    assert [60.0] * 3 == clock.slept


async def test_other_files_in_the_folder_are_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log in the configuration's folder does not cause a reload per line."""
    watched_changes = watch_config_files(lambda: WatchedPaths(frozenset([tmp_path]), NAMES), SystemClock(), LOG)
    monkeypatch.setattr(file_watcher, "_RESCAN_INTERVAL", 60.0)
    coming = asyncio.create_task(next_change(watched_changes))
    await asyncio.sleep(0.3)  # until it watches
    for number in range(10):
        (tmp_path / "gateway.log").write_text(str(number))
        await asyncio.sleep(0.06)
    assert not coming.done()
    replace_file(tmp_path / "a", "1")
    await coming


def test_a_folder_with_constant_changes_is_rescanned_at_intervals() -> None:
    """The timeout of the system's watch never occurs there."""
    clock = ManualClock()
    passes = file_watcher._ChangeFilter(NAMES, clock)
    reported = []
    for _ in range(13):
        clock.advance(20.0)
        reported.append(passes(Change.modified, "/folder/gateway.log"))
    assert [False, False, True] * 4 + [False] == reported


def test_the_watch_library_logs_nothing_of_each_change() -> None:
    """A log written to a watched folder would otherwise log itself endlessly."""
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.INFO)


@pytest.mark.process
async def test_a_log_in_the_folder_of_the_configuration_is_bounded(tmp_path: Path) -> None:
    """The output of the process goes to a file beside the configuration, at the level debug."""
    config = gateway_config("http://127.0.0.1:1", "http://127.0.0.1:2", logs={"level": "debug"})
    gateway = await start_gateway(tmp_path, config, PROVIDER_SECRETS)  # `stdout.log` is in the same folder
    try:
        replace_file(tmp_path / "gateway.yaml", (tmp_path / "gateway.yaml").read_text() + "\n# changed\n")
        await wait_until(lambda: len(gateway.logs("reloaded")) == 1)
        lines = len(gateway.logs())
        await asyncio.sleep(1.5)
        assert (1, lines) == (len(gateway.logs("reloaded")), len(gateway.logs()))
    finally:
        await gateway.stop()
