"""Level of the log at run time: overrides, their end, and what reloads change."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from gateway.observability import json_logging
from gateway.observability.level_control import LevelControl
from tests.support.virtual_clock import VirtualClock, run_ready_tasks

Change = tuple[object, object, object]


class ListLogger:
    """Logger that keeps the changes of the level that the process would write."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def debug(self, event: str, **fields: object) -> None:
        self.log(10, event, **fields)

    def info(self, event: str, **fields: object) -> None:
        self.log(20, event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self.log(30, event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self.log(40, event, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        if event == "log_level_changed" and level >= logging.getLogger().level:
            self.changes.append((fields["old_level"], fields["new_level"], fields["why"]))


@pytest.fixture(autouse=True)
def _restore_level() -> Iterator[None]:
    root, threshold = logging.getLogger().level, json_logging._LEVEL_FILTER.threshold
    yield
    logging.getLogger().setLevel(root)
    json_logging._LEVEL_FILTER.threshold = threshold


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def log() -> ListLogger:
    return ListLogger()


@pytest.fixture
def control(clock: VirtualClock, log: ListLogger) -> LevelControl:
    json_logging.set_level("info")
    return LevelControl("info", clock, log)


def effective() -> list[str]:
    """Return the levels that the process writes."""
    return [level for level in json_logging.LOG_LEVELS if json_logging._LEVEL_FILTER.is_enabled(level)]


async def test_a_level_stays_until_it_is_undone(control: LevelControl, log: ListLogger) -> None:
    control.set_override("debug")
    assert ["debug", "info", "warning", "error"] == effective()
    control.set_override("debug")
    control.set_override(None)
    assert ("info", ["info", "warning", "error"]) == (control.level, effective())
    assert [("info", "debug", "operator"), ("debug", "info", "operator")] == log.changes


async def test_after_its_time_the_configured_level_is_back(
    control: LevelControl, clock: VirtualClock, log: ListLogger
) -> None:
    """Whatever it is by then."""
    control.set_override("debug", 600)
    await run_ready_tasks()
    control.reconfigure("warning")
    assert "debug" == control.level
    await clock.run_for(600)
    assert ("warning", ["warning", "error"], None) == (control.level, effective(), control.override)
    assert [("info", "debug", "operator"), ("debug", "warning", "expired")] == log.changes


async def test_a_later_change_replaces_the_end_of_an_earlier_one(control: LevelControl, clock: VirtualClock) -> None:
    control.set_override("debug", 10)
    await run_ready_tasks()
    control.set_override("error")
    await run_ready_tasks()
    await clock.run_for(3600)
    assert ("error", ["error"]) == (control.level, effective())


async def test_a_change_is_logged_at_any_level(control: LevelControl, log: ListLogger) -> None:
    """Also of a log that has errors only, before or after it."""
    control.set_override("error")
    control.set_override("warning")
    control.reconfigure("debug")
    control.set_override(None)
    assert [
        ("info", "error", "operator"),
        ("error", "warning", "operator"),
        ("warning", "debug", "operator"),
    ] == log.changes


@pytest.mark.parametrize("seconds", [None, 600.0])
async def test_a_worker_gets_the_override_with_the_time_that_remains(
    control: LevelControl, clock: VirtualClock, seconds: float | None
) -> None:
    """And that there is none any more."""
    worker = LevelControl("info", clock, ListLogger())
    control.set_override("error", seconds)
    clock.step_wall(60)
    worker.apply_encoded(control.encode_override())
    assert worker.override is not None
    assert ("error", seconds is None) == (worker.level, worker.override.ends_at is None)
    assert control.override is not None
    assert control.override.ends_at == worker.override.ends_at
    control.set_override(None)
    worker.apply_encoded(control.encode_override())
    assert "info" == worker.level
    worker.apply_encoded("loud -")
    assert "info" == worker.level
    control.close()
