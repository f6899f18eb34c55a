"""Timelines: which events of a run are recorded, their encoding and their bounds."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.runs.model import RunRecord
from gateway.runs.timeline import MAX_EVENTS, Timeline, decode_timeline
from providers.contract import Cause, Reply
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, DelayedReply, ExecutorHarness, fault


def _events(record: RunRecord) -> list[dict[str, Any]]:
    ended = record.started_monotonic + record.duration
    return decode_timeline(record.take_events(ended, "ended", record.status, None))


def _shape(events: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    shown = ("operation", "status", "cause", "sent", "count", "for", "workflow")
    return [(event["event"], *(event[name] for name in shown if name in event)) for event in events]


async def test_a_run_has_its_calls_and_its_end() -> None:
    harness = ExecutorHarness()
    record, _ = await harness.run(harness.studio(DelayedReply(2.5)))
    called, ended = events = _events(record)
    assert [("called", "start", 200, "yes"), ("ended", "succeeded")] == _shape(events)
    assert 2.5 == called["seconds"]
    assert record.created_at.timestamp() == pytest.approx(called["at"], abs=0.001)
    assert 2.5 == pytest.approx(ended["at"] - called["at"], abs=0.002)


async def test_every_start_is_an_event_and_says_whether_it_was_sent() -> None:
    """Starts are never counted together: each may have cost a run."""
    harness = ExecutorHarness()
    record, _ = await harness.run(harness.studio(Reply(429), Reply(429), DONE))
    assert [event for event in _shape(_events(record)) if event[0] == "called"] == [
        ("called", "start", 429, "yes"),
        ("called", "start", 429, "yes"),
        ("called", "start", 200, "yes"),
    ]
    assert record.timeline.waits is not None
    assert {"backoff"} == record.timeline.waits.keys()


@pytest.mark.parametrize(
    ("cause", "sent"),
    [(Cause.UNREACHABLE, "no"), (Cause.DISCONNECTED, "maybe"), (Cause.TIMEOUT, "maybe"), (Cause.EXHAUSTED, "no")],
)
async def test_a_failed_start_says_whether_it_was_sent(cause: Cause, sent: str) -> None:
    harness = ExecutorHarness()
    record, _ = await harness.run(harness.studio(fault(cause)))
    first = _shape(_events(record))[0]
    assert ("called", "start", cause.value, sent) == first


async def test_polls_with_the_same_result_are_counted_together() -> None:
    harness = ExecutorHarness()
    polls = (RUNNING, RUNNING, fault(Cause.DISCONNECTED), RUNNING)
    record, _ = await harness.run(harness.layer(STARTED, *polls, ENDED))
    events = [event for event in _shape(_events(record)) if event[0] == "called"]
    assert 201 == events[0][2]
    assert ("called", "poll", 202, "yes", 2) == events[1]
    assert [("called", "poll", 202, "yes"), ("called", "poll", 200, "yes")] == events[3:]


async def test_a_fallback_is_an_event() -> None:
    harness = ExecutorHarness()
    other = harness.workflow(harness.studio(DONE).provider.adapter, DONE, name="spare")
    record, _ = await harness.run(harness.studio(fault(Cause.UNREACHABLE), fallbacks=(other,)))
    assert ("fell_back", other.alias) in _shape(_events(record))


async def test_a_wait_for_a_limit_is_an_event_with_its_length() -> None:
    harness = ExecutorHarness()
    record = harness.new_run()
    await record.await_external(harness.clock.sleep(1.5), harness.clock, "limit")
    [wait] = decode_timeline(record.take_events())
    assert ("waited", "limit", 1.5) == (wait["event"], wait["for"], wait["seconds"])
    assert {"limit": 1.5} == record.timeline.waits
    assert record.waiting_for is None


def test_a_timeline_is_bounded_but_has_its_end() -> None:
    timeline = Timeline()
    for number in range(MAX_EVENTS + 50):
        timeline.add(number, "hinted")
    events = decode_timeline(timeline.encode(0.0, 0.0, 1000.0, "ended", "unknown", "upstream_timeout"))
    assert MAX_EVENTS + 1 == len(events)
    assert {"at": 1000.0, "event": "ended", "status": "unknown", "code": "upstream_timeout"} == events[-1]
    assert b"" == timeline.encode(0.0, 0.0)


def test_lines_of_another_version_are_left_out() -> None:
    events = b'[[1.5,"hinted"],[2,"later"],[3,"hinted",1],["4","hinted"],[5,[]],[]]'
    lines = b'\xff\n[1]\n{"event":"hinted"}\n' + events + b'\n[[6,"hinted"'
    assert [{"at": 1.5, "event": "hinted"}, {"at": 3, "event": "hinted"}] == decode_timeline(lines)
