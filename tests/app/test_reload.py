"""Reloads are atomic, and their results are logged and counted."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
import structlog
from pydantic import SecretStr
from structlog.testing import LogCapture
from typing_extensions import override

from gateway.app.reload import Reloader, restart_only_settings
from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.observability.metrics import Metrics
from gateway.settings import Settings, SettingsError, WatchedPaths
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.contract import JsonValue

PROVIDER: dict[str, JsonValue] = {"adapter": "prompt_studio", "base_url": "http://127.0.0.1:1", "api_key": "first-key"}
INVALID = SettingsError([("gateway.yaml:3 server.drain", "must be a duration"), ("RUNWARD_X", "is not set")])


def settings(**sections: object) -> Settings:
    """Return settings with one provider and these changes."""
    return Settings.model_validate({"providers": {"a": PROVIDER}, **sections})


class ScriptedSource:
    """Source that returns these configurations in order; exceptions are raised."""

    def __init__(self, configurations: Sequence[Settings | Exception]) -> None:
        self.configurations = list(configurations)
        self.has_changed = False

    def load(self) -> Settings:
        """Return the next configuration."""
        turn = self.configurations.pop(0)
        self.has_changed = False
        if isinstance(turn, Exception):
            raise turn
        return turn

    def changed(self) -> bool:
        """Return the scripted value."""
        return self.has_changed

    def watched(self) -> WatchedPaths:
        """Return no folders."""
        return WatchedPaths(frozenset(), frozenset())


class ReloadHarness:
    """Reloader and its observable effects."""

    def __init__(self, *configurations: Settings | Exception) -> None:
        self.clock, self.metrics, capture = ManualClock(), Metrics(), LogCapture()
        self.source = ScriptedSource(configurations)
        self.lines = capture.entries
        self.applied: list[ConfigSnapshot] = []
        log = structlog.wrap_logger(None, processors=[capture])
        first = build_snapshot(settings(), self.clock, self.metrics)
        self.reload = Reloader(self.source, first, [self.applied.append], self.clock, self.metrics, log)

    def value(self, name: str, **labels: str) -> float:
        """Value of a metric."""
        return metric_sum(parse_metrics(self.metrics.render().decode()), f"runward_config_{name}", **labels)

    @property
    def events(self) -> list[str]:
        """Logged events."""
        return [str(line["event"]) for line in self.lines]


async def test_a_valid_configuration_is_applied() -> None:
    """R100."""
    house = ReloadHarness(settings(workflows={"w": {"provider": "a"}}))
    await house.reload.reload_once()
    assert [house.reload.snapshot] == house.applied
    assert ({"w"}, ["reloaded"]) == (set(house.applied[0].workflows), house.events)
    assert (1, 1, house.clock.now().timestamp()) == (
        house.value("reloads_total", result="applied"),
        house.value("last_reload_success"),
        house.value("last_reload_success_timestamp_seconds"),
    )


@pytest.mark.parametrize("turn", [INVALID, OSError("CANARY"), settings(providers={"a": PROVIDER | {"dialect": "x"}})])
async def test_what_is_not_changes_nothing(turn: Settings | Exception) -> None:
    """R100: an invalid configuration is rejected for any reason; the next valid one is applied."""
    house = ReloadHarness(turn, settings())
    before = house.reload.snapshot
    await house.reload.reload_once()
    assert ([], True, ["reload_refused"]) == (house.applied, house.reload.snapshot is before, house.events)
    assert (0, 1) == (house.value("last_reload_success"), house.value("reloads_total", result="refused"))
    assert "CANARY" not in str(house.lines)
    await house.reload.reload_once()
    assert (1, 1) == (len(house.applied), house.value("last_reload_success"))


async def test_a_rejection_names_the_settings() -> None:
    """R100: each with its error, without the value."""
    house = ReloadHarness(INVALID)
    await house.reload.reload_once()
    assert ["gateway.yaml:3 server.drain: must be a duration", "RUNWARD_X: is not set"] == house.lines[0]["places"]


async def test_what_needs_a_restart_is_named_each_time() -> None:
    """R100: compared with the configuration at startup."""
    other = settings(server={"port": 1}, store={"url": "memory://", "retention": "1h"}, logs={"format": "json"})
    house = ReloadHarness(other, other, settings())
    for _ in range(3):
        await house.reload.reload_once()
    assert ["reloaded", "needs_restart", "reloaded", "needs_restart", "reloaded"] == house.events
    assert ["logs.format", "server.port", "store.url"] == house.lines[-2]["settings"]


def test_every_setting_is_swapped_or_needs_a_restart() -> None:
    """An unlisted setting is reported rather than silently ignored."""
    everything: dict[str, object] = {
        "server": {"host": "0.0.0.0", "drain": 1, "max_in_flight": 5},
        "store": {"retention": 60},
        "logs": {"level": "debug"},
        "history": {"for": 60},
        "providers": {},
        "clients": {"c": {"workflows": ["*"]}},
        "callbacks": {"schedule": [1]},
        "retries": {"attempts": 9},
        "breaker": {"failures": 9},
        "polling": {"first": 9},
        "content": {"encrypt": {"key": SecretStr(b64encode(bytes(range(32))).decode())}},
    }
    found = list(restart_only_settings(settings(), Settings.model_validate(everything)))
    assert ["server.host", "server.drain", "server.max_in_flight"] == found


async def test_it_reloads_on_a_change_or_on_request() -> None:
    """R100: a check without changes does not count, and concurrent requests are one reload."""
    house = ReloadHarness(*[settings() for _ in range(5)])
    house.reload.start()
    try:
        for _ in range(50):
            house.reload.request()
        await wait_until(lambda: len(house.applied) == 1)
        house.source.has_changed = True
        house.reload.request_if_changed()
        await wait_until(lambda: len(house.applied) == 2)
        house.reload.request_if_changed()
        await asyncio.sleep(0.05)
        assert 2 == len(house.applied)
    finally:
        await house.reload.close()


@pytest.mark.parametrize(("changes", "sleeps"), [(5, 6), (1000, 10)])
async def test_a_burst_of_changes_is_read_when_it_is_over(changes: int, sleeps: int) -> None:
    """R100: once; a burst without an end is read after a maximum delay."""
    left, read_after = [changes], list[int]()

    class Busy(ManualClock):
        @override
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            left[0] -= 1
            if left[0] >= 0:
                house.reload.request_if_changed()

    house = ReloadHarness(settings(), settings())
    house.source.has_changed, house.reload.clock = True, Busy()
    house.reload.hooks = [lambda _plan: read_after.append(changes - left[0])]
    house.reload.start()
    house.reload.request_if_changed()
    try:
        await wait_until(lambda: read_after != [])
    finally:
        await house.reload.close()
    assert [sleeps] == read_after
