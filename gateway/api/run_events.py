"""Server-sent events of a run: its status, and the statuses of its nodes as polls report them, until it has ended.

The id of an event is the time of the newest node event that was sent, in milliseconds since 1970, and the status of the
run: a client that sends it as `Last-Event-ID` gets what followed, from any replica.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

from aiohttp import web

from gateway.clock import Clock
from gateway.http.body import hold_stored
from gateway.http.request import AiohttpRequest, AnyResponse, Request
from gateway.http.response import make_response
from gateway.json import strict_json
from gateway.problems import Problem
from gateway.runs import rendering
from gateway.store.contract import StoreUnavailable
from gateway.store.records import Phase, RunOverview

EVENT_STREAM = "text/event-stream"
_MAX_STREAM_SECONDS = 600.0
_COMMENT_INTERVAL = 15.0  # seconds without an event: proxies close streams that are silent for 60 s or less
STREAM_HEADERS = {
    "Content-Type": EVENT_STREAM,
    "Server": "runward",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events until its buffer is full
}
_COMMENT = b": the run has not ended\n\n"
_parse_event_id = re.compile(r"([0-9]{1,15})-([a-z_]{1,20})", re.ASCII).fullmatch

NextOverview: TypeAlias = Callable[[Request, RunOverview, float], Awaitable[RunOverview]]


@dataclass(slots=True)
class RunEventStream:
    """Stream of the events of one run. `render` returns the run as JSON, `next_overview` waits for its next change.

    `sent_status`, `sent_until`: the status that the client knows, and the time of the newest node event that it has, in
    milliseconds since 1970.
    """

    request: Request
    clock: Clock
    render: Callable[[RunOverview], Awaitable[bytes]]
    next_overview: NextOverview
    is_draining: Callable[[], bool]
    sent_status: str = ""
    sent_until: int = 0

    async def send(self, run: RunOverview) -> AnyResponse:
        """Send the events until the run has ended; 204 if the client has its end, so that it does not connect again.

        Raises ConnectionError if the client disconnects.
        """
        self._resume()
        if run.phase is Phase.DONE and self.sent_status == _status_of(run):
            return make_response(204, b"", EVENT_STREAM)
        stream = web.StreamResponse(headers=STREAM_HEADERS)
        stream.headers["X-Request-Id"] = self.request.request_id
        await stream.prepare(cast("AiohttpRequest", self.request))
        is_connected = self.request.connection_check()
        started_at = written_at = self.clock.monotonic()
        while True:
            now = self.clock.monotonic()
            remaining = started_at + _MAX_STREAM_SECONDS - now
            try:
                if events := await self._new_events(run):
                    written_at = now
                    await stream.write(events)
                elif now - written_at >= _COMMENT_INTERVAL:
                    written_at = now
                    await stream.write(_COMMENT)
                if run.phase is Phase.DONE or self.is_draining() or remaining <= 0:
                    break
                run = await self.next_overview(self.request, run, remaining)
            except (Problem, StoreUnavailable):
                break  # the status line has been sent; a problem document is no longer possible
            if not is_connected():
                raise ConnectionResetError("the client has disconnected")
        await stream.write_eof()
        return stream

    def _resume(self) -> None:
        """Take over what the client has received, as it says in `Last-Event-ID`; an invalid value is ignored."""
        match = _parse_event_id(self.request.headers.get("Last-Event-ID", ""))
        if match is not None:
            self.sent_until, self.sent_status = int(match[1]), match[2]

    async def _new_events(self, run: RunOverview) -> bytes:
        """Return the events that the client does not have yet, and note that it has them."""
        ended = run.phase is Phase.DONE
        status = b"" if ended else await self._status_event(run)
        nodes = b"".join(self._node_events(run))
        return status + nodes + (await self._status_event(run) if ended else b"")

    async def _status_event(self, run: RunOverview) -> bytes:
        """Return the run as an event that is named after its status; empty if the client has it."""
        if _status_of(run) == self.sent_status:
            return b""
        view = await self.render(run)
        hold_stored(self.request, len(view))
        self.sent_status = _status_of(run)
        return self._encode(run.status, view)

    def _node_events(self, run: RunOverview) -> Iterator[bytes]:
        """Yield an event for each status of a node that is new; those of one poll have the same time."""
        changes = [change for change in _node_changes(run) if change[0] > self.sent_until]
        for number, (at, name, status) in enumerate(changes, 1):
            if number == len(changes) or changes[number][0] > at:  # else a client that resumes gets the others again
                self.sent_until = at
            data = {"name": name, "status": status, "at": rendering.format_time(at / 1000)}
            yield self._encode("node", strict_json.write(data))

    def _encode(self, name: str, data: bytes) -> bytes:
        event_id = f"{self.sent_until}-{self.sent_status}"
        return b"id: %b\nevent: %b\ndata: %b\n\n" % (event_id.encode(), name.encode(), data)


def _status_of(run: RunOverview) -> str:
    """Return the status of a run as ids of events have it: that of a run that is polled on is not yet its end."""
    return "unknown_yet" if run.status == "unknown" and run.phase is not Phase.DONE else run.status


def _node_changes(run: RunOverview) -> list[tuple[int, str, str]]:
    """Return the time in milliseconds, the name and the status of each node of a run in progress, oldest first."""
    activity = rendering.activity_of(run)
    nodes = activity.get("nodes")
    if not isinstance(nodes, dict):
        return []
    return sorted((round(change["at"] * 1000), name, change["status"]) for name, change in nodes.items())
