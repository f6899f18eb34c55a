"""Sources of items about runs, on every store."""

from __future__ import annotations

from urllib.parse import parse_qsl

import orjson
import pytest
from multidict import MultiDict

from gateway.api.admin.run_search import parse_run_query
from gateway.runs.attention import run_sources
from gateway.runs.attention.items import AttentionConfig, AttentionKind
from gateway.store.contract import Store
from gateway.store.records import Phase
from tests.runs.attention.samples import add_ended, context, ended
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, new_run, new_run_with_callback


async def test_unknown_outcomes_are_folded_by_provider(store: Store) -> None:
    """With the end of the oldest; judged runs, other outcomes, and runs that are polled on are not among them."""
    runs = [*(ended(number) for number in range(3)), ended(3, provider="layer/é"), ended(4, "failed"), ended(5)]
    await add_ended(store, *runs)
    await store.create_run(new_run(6), None)
    await store.advance(new_run(6, phase=Phase.FOLLOWING, status="unknown"))
    assert await store.judge("run_5", b'{"verdict":"found_paid"}')
    items = {item.subject: item for item in await run_sources.unknown_outcomes(context(store, NOW + 100))}
    assert {"studio": (3, NOW + 1), "layer/é": (1, NOW + 4)} == {
        name: (item.count, item.since_at) for name, item in items.items()
    }
    assert "3 runs at studio ended as unknown" in items["studio"].summary
    assert "1 run at layer/é" in items["layer/é"].summary
    assert items["layer/é"].action.endswith("provider=layer%2F%C3%A9")
    assert {AttentionKind.UNKNOWN_OUTCOMES} == {item.kind for item in items.values()}


async def test_many_unknown_outcomes_are_counted_up_to_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_sources, "MAX_RUNS", 3)
    await add_ended(store, *(ended(number) for number in range(5)))
    (item,) = await run_sources.unknown_outcomes(context(store, NOW + 100))
    assert (3, "At least 3 runs") == (item.count, item.summary[:15])


async def test_runs_that_are_polled_on_do_not_hide_those_that_have_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_sources, "MAX_RUNS", 3)
    await add_ended(store, ended(1))
    for number in range(2, 6):
        await store.create_run(new_run(number, created_at=NOW + number), None)
        await store.advance(new_run(number, phase=Phase.FOLLOWING, status="unknown"))
    (item,) = await run_sources.unknown_outcomes(context(store, NOW + 100))
    assert (1, "1 run at studio") == (item.count, item.summary[:15])


async def test_runs_that_should_have_ended_are_items(store: Store) -> None:
    """A minute after the longest time-out of their workflow; an hour if that is not known."""
    now_at = NOW + 10_000
    for number, workflow, age in ((1, "triage", 700), (2, "triage", 661), (3, "triage", 659), (4, "other", 3000)):
        await store.create_run(new_run(number, workflow=workflow, created_at=now_at - age), None)
    await store.create_run(new_run(5, workflow="other", created_at=now_at - 3700), None)
    await store.advance(new_run(5, workflow="other", phase=Phase.SENDING, status="running"))
    config = AttentionConfig(longest_runs={"triage": 600.0})
    items = await run_sources.unfinished_runs(context(store, now_at, config=config))
    assert {("triage", 2, now_at - 700), ("other", 1, now_at - 3700)} == {
        (item.subject, item.count, item.since_at) for item in items
    }
    assert {("runs_overdue", "critical")} == {(item.kind, item.severity) for item in items}


async def test_runs_in_progress_do_not_hide_those_that_should_have_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_sources, "MAX_RUNS", 3)
    now_at = NOW + 100_000
    await store.create_run(new_run(1, workflow="other", created_at=now_at - 90_000), None)
    for number in range(2, 6):
        await store.create_run(new_run(number, workflow="long", created_at=now_at - 700 - number), None)
    config = AttentionConfig(longest_runs={"long": 7200.0})
    (item,) = await run_sources.unfinished_runs(context(store, now_at, config=config))
    assert ("other", 1, now_at - 90_000) == (item.subject, item.count, item.since_at)


async def test_runs_that_wait_for_long_are_folded_by_workflow_and_cause(store: Store) -> None:
    """From ten minutes on; one that does not wait is usual, and an activity that cannot be read is none."""
    now_at = NOW + 10_000
    ages = {1: 610, 2: 620, 3: 590, 4: 610, 5: 610, 6: 610, 7: 610}
    for number, age in ages.items():
        await store.create_run(new_run(number, created_at=now_at - age, workflow="w"), None)
    waiting = {number: {"state": "queued", "waiting_for": "limit"} for number in (1, 2, 3)}
    waiting[4] = {"state": "queued", "waiting_for": "breaker"}
    waiting[5] = {"state": "queued"}
    await store.set_activities("one", [(f"run_{number}", orjson.dumps(each)) for number, each in waiting.items()])
    await store.set_activities("one", [("run_6", b"{"), ("run_7", b'{"waiting_for":7}')])
    items = await run_sources.unfinished_runs(context(store, now_at))
    assert {("w (limit)", 2, now_at - 620), ("w (breaker)", 1, now_at - 610)} == {
        (item.subject, item.count, item.since_at) for item in items
    }
    assert {("runs_waiting", "warning")} == {(item.kind, item.severity) for item in items}
    assert {
        parse_run_query(MultiDict(parse_qsl(item.action.partition("?")[2]))).run_filter.workflow for item in items
    } == {"w"}
    assert {"GET /api/runs?waiting_for=limit&workflow=w", "GET /api/runs?waiting_for=breaker&workflow=w"} == {
        item.action for item in items
    }


async def test_abandoned_callbacks_are_one_item(store: Store) -> None:
    assert [] == await run_sources.callbacks_given_up(context(store, NOW))
    for number in (1, 2, 3):
        await store.create_run(new_run_with_callback(number), None)
        await store.finish(f"run_{number}", SAMPLE_FINAL_STATE)
        await store.settle_callback(f"run_{number}", "gave_up" if number < 3 else "delivered")
    (item,) = await run_sources.callbacks_given_up(context(store, NOW))
    assert (2, "runward callbacks replay --given-up") == (item.count, item.action)


async def test_an_empty_store_has_no_items(store: Store) -> None:
    for source in (run_sources.unknown_outcomes, run_sources.unfinished_runs, run_sources.callbacks_given_up):
        assert [] == await source(context(store, NOW))
