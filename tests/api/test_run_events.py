"""Server-sent events of a run: statuses of its nodes, and resumption by `Last-Event-ID`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import pytest

from gateway.store.records import Phase, RunOverview
from tests.api.test_run_lookup import EVENTS, SlowRunStore, lookup_server
from tests.store.samples import SAMPLE_RUN
from tests.support.clock import ManualClock

AT = 1_795_000_000
ENDED = replace(SAMPLE_RUN, phase=Phase.DONE, status="succeeded", document=b'{"status":"succeeded"}').overview


def _following(**nodes: tuple[str, float]) -> RunOverview:
    """Return the run in progress, with the statuses of its nodes and the seconds at which they were seen."""
    changes = {name: {"status": status, "at": AT + seconds} for name, (status, seconds) in nodes.items()}
    activity = orjson.dumps({"state": "following", "nodes": changes})
    details = orjson.dumps({"metadata": {}})
    run = replace(SAMPLE_RUN, phase=Phase.FOLLOWING, status="running", activity=activity, details=details)
    return run.overview


class ScriptedRunStore(SlowRunStore):
    """Store of one run that is in the next of these states after each wait."""

    def __init__(self, states: Sequence[RunOverview], clock: ManualClock, ends_after: float) -> None:
        super().__init__(clock, ends_after)
        self._states = list(states)

    async def get_overview(self, _run_id: str) -> RunOverview | None:
        """Return the run in its present state."""
        return self._states[min(len(self.waits), len(self._states) - 1)]

    async def get_document(self, _run_id: str) -> bytes | None:
        """Return the document of the ended run."""
        return b'{"status":"succeeded"}'


@dataclass(frozen=True)
class Event:
    """A received event."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def shown(self) -> tuple[str, ...]:
        """The name of the event, and the name and status of the node that it is about."""
        return (self.name, self.data["name"], self.data["status"]) if self.name == "node" else (self.name,)


async def _stream(states: Sequence[RunOverview], last_event_id: str | None = None) -> tuple[bytes, list[Event]]:
    """Stream a run that has these states one after the other; returns the status line and the events."""
    headers = [EVENTS] if last_event_id is None else [EVENTS, f"Last-Event-ID: {last_event_id}"]
    async with lookup_server(0, partial(ScriptedRunStore, states)) as server:
        head, _, body = (await server.get("", *headers)).partition(b"\r\n\r\n")
    text = body.decode()
    events = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:4] in {"id: ", "even", "data"})
        if fields:
            events.append(Event(fields["id"], fields["event"], json.loads(fields["data"])))
    return head.split(b"\r\n")[0], events


STATES = (
    _following(),
    _following(a=("queued", 1), b=("queued", 1), c=("running", 1)),
    _following(a=("running", 2.25), b=("queued", 1), c=("succeeded", 2.25)),
    ENDED,
)
SHOWN = [
    ("running",),
    ("node", "a", "queued"),
    ("node", "b", "queued"),
    ("node", "c", "running"),
    ("node", "a", "running"),
    ("node", "c", "succeeded"),
    ("succeeded",),
]


async def test_each_status_of_a_node_is_an_event() -> None:
    _, events = await _stream(STATES)
    assert SHOWN == [event.shown for event in events]
    assert {"name": "a", "status": "running", "at": "2026-11-18T11:06:42.250Z"} == events[4].data
    assert events[0].data["status"] == "running"


@pytest.mark.parametrize("received", range(1, len(SHOWN)))
async def test_a_client_that_resumes_misses_nothing(received: int) -> None:
    """It may get events of the same poll again, never those of an earlier one."""
    _, events = await _stream(STATES)
    _, resumed = await _stream(STATES, events[received - 1].id)
    shown = [event.shown for event in resumed]
    assert SHOWN[received:] == shown[len(shown) - (len(SHOWN) - received) :]
    assert len(shown) <= len(SHOWN) - received + 2
    assert ("running",) not in shown


async def test_a_client_that_resumes_later_gets_the_present_statuses() -> None:
    _, events = await _stream(STATES)
    _, resumed = await _stream(STATES[2:], events[0].id)
    assert [("node", "b", "queued"), ("node", "a", "running"), ("node", "c", "succeeded"), ("succeeded",)] == [
        event.shown for event in resumed
    ]


async def test_a_client_that_has_the_end_is_told_not_to_connect_again() -> None:
    """The HTML standard: an EventSource connects again after a stream has ended, but not after 204."""
    _, events = await _stream(STATES)
    status, resumed = await _stream([ENDED], events[-1].id)
    assert (b"HTTP/1.1 204 No Content", []) == (status, resumed)


async def test_the_end_as_unknown_is_an_event_after_the_run_was_polled_on_as_unknown() -> None:
    """Else a client would wait for an end that it has missed."""
    polled_on, ended = replace(_following(), status="unknown"), replace(ENDED, status="unknown")
    _, events = await _stream([_following(), polled_on, ended])
    assert [("running",), ("unknown",), ("unknown",)] == [event.shown for event in events]
    _, resumed = await _stream([ended], events[1].id)
    assert [("unknown",)] == [event.shown for event in resumed]
    status, _ = await _stream([ended], events[2].id)
    assert b"HTTP/1.1 204 No Content" == status


@pytest.mark.parametrize("value", ["x", "1", "-running", "1-", "9" * 16 + "-running", "1-RUNNING", "\u0661-running"])
async def test_an_invalid_id_is_ignored(value: str) -> None:
    _, events = await _stream(STATES, value)
    assert SHOWN == [event.shown for event in events]
