"""Limits of teams and of keys: they hold in addition to those of the client, and each refusal costs nothing."""

from __future__ import annotations

import pytest
import structlog

from gateway.errors import RateLimited
from gateway.limits.admission import Admission
from gateway.limits.config import ClientLimitsConfig, KeyLimits, RateLimit, ResourceLimitsConfig
from gateway.limits.daily_usage import DailyUsageRecorder, Usage
from gateway.limits.registry import _MAX_KEYS
from tests.limits.harness import LimiterHarness

TEAM = {"a": "t", "b": "t"}


class UsageStore:
    """Daily usage in memory."""

    def __init__(self) -> None:
        self.usage: dict[str, Usage] = {}

    async def get_daily_usage(self) -> dict[str, Usage]:
        return dict(self.usage)

    async def set_daily_usage(self, client: str, usage: Usage) -> None:
        self.usage[client] = usage


async def test_the_limits_of_a_team_hold_for_all_its_clients_together() -> None:
    harness = LimiterHarness(teams={"t": ClientLimitsConfig(concurrency=2)}, team_of=TEAM)
    first, _second = await harness.admit("a"), await harness.admit("b")
    for client in TEAM:
        with pytest.raises(RateLimited, match="team-concurrency"):
            await harness.admit(client)
    await harness.admit("other")
    first.release()
    await harness.admit("b")


async def test_a_refusal_by_the_team_takes_nothing_from_the_client() -> None:
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(daily=10)}, teams={"t": ClientLimitsConfig(concurrency=1)}, team_of=TEAM
    )
    first = await harness.admit("a")
    for _ in range(5):
        with pytest.raises(RateLimited):
            await harness.admit("a")
    first.release()
    headers = dict((await harness.admit("a")).headers)
    assert headers["RateLimit"].startswith('"daily";r=8;')


async def test_the_header_fields_list_the_policies_of_client_team_and_key() -> None:
    harness = LimiterHarness(
        {"a": ClientLimitsConfig(daily=10)}, teams={"t": ClientLimitsConfig(RateLimit(5), concurrency=3)}, team_of=TEAM
    )
    key = KeyLimits("key_1", ClientLimitsConfig(daily=4))
    admission = await harness.admit("a", key_limits=key)
    policy = dict(admission.headers)["RateLimit-Policy"]
    assert policy == (
        '"daily";q=10;w=86400, "team-rate";q=5;w=1, "team-concurrency";q=3;qu="concurrent-requests", '
        '"key-daily";q=4;w=86400'
    )
    usage = dict(admission.headers)["RateLimit"].split(", ")
    assert ['"daily";r=9', '"team-rate";r=4', '"key-daily";r=3'] == [item.rpartition(";")[0] for item in usage]


async def test_a_key_has_limits_of_its_own_and_those_of_its_client() -> None:
    harness = LimiterHarness({"a": ClientLimitsConfig(concurrency=2)})
    first_key = KeyLimits("key_1", ClientLimitsConfig(concurrency=1))
    admission = await harness.admit("a", key_limits=first_key)
    with pytest.raises(RateLimited, match="key-concurrency"):
        await harness.admit("a", key_limits=first_key)
    await harness.admit("a", key_limits=KeyLimits("key_2", ClientLimitsConfig(concurrency=1)))
    with pytest.raises(RateLimited, match="Used up: concurrency"):
        await harness.admit("a")
    admission.release()
    await harness.admit("a", key_limits=first_key)


async def test_other_limits_of_a_key_keep_its_usage() -> None:
    harness = LimiterHarness()
    for limit in (2, 2):
        await harness.admit(key_limits=KeyLimits("key_1", ClientLimitsConfig(daily=limit)))
    with pytest.raises(RateLimited, match="key-daily"):
        await harness.admit(key_limits=KeyLimits("key_1", ClientLimitsConfig(daily=2)))
    await harness.admit(key_limits=KeyLimits("key_1", ClientLimitsConfig(daily=3)))


async def test_the_number_of_key_limiters_is_bounded_and_those_in_use_stay() -> None:
    harness = LimiterHarness()
    held = await harness.admit(key_limits=KeyLimits("key_0", ClientLimitsConfig(concurrency=1)))
    for index in range(1, _MAX_KEYS + 10):
        admission = await harness.admit(key_limits=KeyLimits(f"key_{index}", ClientLimitsConfig(concurrency=1)))
        admission.release()
    registry = held._registry
    assert _MAX_KEYS == len(registry._keys)
    assert "key_0" in registry._keys
    assert "key_1" not in registry._keys


async def test_a_fallback_does_not_take_from_team_and_key_again() -> None:
    key = KeyLimits("key_1", ClientLimitsConfig(daily=1))
    harness = LimiterHarness(teams={"t": ClientLimitsConfig(daily=1)}, team_of=TEAM)
    admission: Admission = await harness.admit("a", key_limits=key)
    await admission.move_to_fallback("other", "p", deadline=harness.now + 10)
    admission.release()
    with pytest.raises(RateLimited, match="team-daily"):
        await harness.admit("a", key_limits=key)


async def test_a_refund_gives_back_what_team_and_key_were_charged() -> None:
    key = KeyLimits("key_1", ClientLimitsConfig(daily=1))
    harness = LimiterHarness(teams={"t": ClientLimitsConfig(daily=1)}, team_of=TEAM)
    (await harness.admit("a", key_limits=key)).refund()
    await harness.admit("a", key_limits=key)


async def test_the_daily_usage_of_teams_and_keys_survives_a_restart() -> None:
    key, teams = KeyLimits("key_1", ClientLimitsConfig(daily=1)), {"t": ClientLimitsConfig(daily=2)}
    store = UsageStore()
    for expected in ("", "key-daily"):
        harness = LimiterHarness(teams=teams, team_of=TEAM)
        await harness.limiter.record_usage(DailyUsageRecorder(store, harness.clock, structlog.get_logger()))
        if expected:
            with pytest.raises(RateLimited, match=expected):
                await harness.admit("a", key_limits=key)
            await harness.admit("b")
            with pytest.raises(RateLimited, match="team-daily"):
                await harness.admit("b")
        else:
            await harness.admit("a", key_limits=key)
            await harness.limiter.store_usage()
    assert {"team:t", "key:key_1"} == store.usage.keys()


async def test_a_client_that_joins_a_team_by_a_reload_is_limited_by_it() -> None:
    harness = LimiterHarness()
    await harness.admit("a")
    harness.teams, harness.team_of = {"t": ClientLimitsConfig(daily=1)}, TEAM
    harness.limiter.reconfigure(harness.config)
    await harness.admit("b")
    with pytest.raises(RateLimited, match="team-daily"):
        await harness.admit("a")
    harness.teams, harness.team_of = {}, {}
    harness.limiter.reconfigure(harness.config)
    await harness.admit("a")


async def test_the_limiter_of_a_key_stays_while_a_request_waits_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next request with the key would have a new one, and both would be admitted."""
    monkeypatch.setattr("gateway.limits.registry._MAX_KEYS", 2)
    harness = LimiterHarness(providers={"p": ResourceLimitsConfig(concurrency=2, max_wait=60.0)})
    keys = [KeyLimits(f"key_{number}", ClientLimitsConfig(concurrency=1)) for number in range(4)]
    running = [await harness.admit("a") for _ in range(2)]
    waiting = harness.start_task(harness.admit("a", key_limits=keys[0]))
    await harness.clock.run_ready_tasks()
    others = [harness.start_task(harness.admit("b", key_limits=key)) for key in keys[1:]]
    await harness.clock.run_ready_tasks()
    for task in others:
        task.cancel()
    await harness.clock.run_ready_tasks()
    for each in running:
        each.release()
    admission = await waiting
    with pytest.raises(RateLimited, match="key-concurrency"):
        await harness.admit("a", key_limits=keys[0])
    admission.release()
    (await harness.admit("a", key_limits=keys[0])).release()
    await harness.admit("a", key_limits=KeyLimits("another", ClientLimitsConfig(concurrency=1)))
    assert 2 == len(admission._registry._keys)  # those that wait no more are dropped
