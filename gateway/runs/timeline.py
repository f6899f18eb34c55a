"""Timeline of a run: its events in order, bounded in number, and their encoding for the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import orjson

WaitCause: TypeAlias = Literal["limit", "breaker", "backoff", "store"]
"""What a run waits for: a limit of a client, workflow or provider, a suspended provider, a retry, or the store."""

MAX_EVENTS = 100
"""Events of one run in one process; later ones are left out, except the last."""
_MIN_WAIT = 0.01  # seconds; a shorter wait is no event

FIELDS: Mapping[str, Sequence[str]] = {
    "waited": ("for", "seconds"),
    "called": ("operation", "status", "cause", "sent", "seconds", "connection_reused", "count"),
    "hinted": (),
    "fell_back": ("workflow", "provider"),
    "adopted": ("owner",),
    "deadline_passed": (),
    "cancel_requested": ("by", "actor"),
    "ended": ("status", "code"),
    "callback_attempted": ("attempt", "result", "seconds"),
}
"""Names of the values of each event, in their order; a later version adds names at the end."""

_INTERNAL_FIELDS = frozenset({"owner", "connection_reused", "actor"})

CLIENT_FIELDS: Mapping[str, Sequence[str]] = {
    kind: tuple(name for name in names if name not in _INTERNAL_FIELDS) for kind, names in FIELDS.items()
}
"""Names of the values of each event that are shown to clients."""

Event: TypeAlias = list[Any]
"""A time of the monotonic clock, the kind of the event, and its values; a value of None is not shown."""


class Timeline:
    """Events of a run in this process that are not in the store yet. Times are of the monotonic clock, in seconds.

    `count`: events that were added so far, also those that the store has.
    """

    __slots__ = ("_events", "_unwritten", "count", "waits")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._unwritten = b""  # lines that were put back
        self.count = 0
        self.waits: dict[WaitCause, float] | None = None  # seconds by cause, if there was a wait

    def add(self, at: float, kind: str, *values: object) -> None:
        """Add an event."""
        if self.count < MAX_EVENTS:
            self.count += 1
            self._events.append([at, kind, *values])

    def add_wait(self, started: float, ended: float, cause: WaitCause) -> None:
        """Add a wait, unless it was short."""
        seconds = ended - started
        if seconds >= _MIN_WAIT:
            if self.waits is None:
                self.waits = {}
            self.waits[cause] = self.waits.get(cause, 0.0) + seconds
            self.add(started, "waited", cause, round(seconds, 3))

    def add_call(
        self, at: float, seconds: float, call: tuple[str, int | None, str | None, str], *, reused: bool | None
    ) -> None:
        """Add a call: its operation, the status of its response, the cause of its failure, and whether it was sent.

        `reused`: whether its connection had served a call before.

        A call with the same result as the call right before it is counted there, unless it is a start.
        """
        last = self._events[-1] if self._events else None
        if last is not None and last[1] == "called" and tuple(last[2:6]) == call and call[0] != "start":
            last[6] = round(last[6] + seconds, 4)
            last[8] = (last[8] or 1) + 1
        else:
            self.add(at, "called", *call, round(seconds * 1e4) / 1e4, reused, None)

    def encode(self, origin: float, created_at: float, *last: object) -> bytes:
        """Return the events as lines of JSON, and forget them; `origin` is the monotonic time of `created_at`.

        `last`: the time, kind and values of an event that is added in any case. Without events there is no line.
        """
        events, self._events = self._events, []
        unwritten, self._unwritten = self._unwritten, b""
        if last:
            events.append(list(last))
        elif not events:
            return unwritten
        offset = created_at - origin
        for event in events:
            event[0] = round(offset + event[0], 3)
        return unwritten + orjson.dumps(events, option=orjson.OPT_APPEND_NEWLINE)

    def encode_success(self, offset: float, ended: float) -> bytes:
        """Return the events of a run that has succeeded and is not durable as a line.

        `ended`: its end, in monotonic seconds; with `offset` added, a time is in seconds since 1970. To be called once.
        """
        events = self._events
        events.append([ended, "ended", "succeeded", None])
        for event in events:
            event[0] = round((offset + event[0]) * 1e3) / 1e3  # a third of the time of `round` with digits
        return orjson.dumps(events, option=orjson.OPT_APPEND_NEWLINE)

    def put_back(self, lines: bytes) -> None:
        """Take back lines that the store has not confirmed; it may have them, so they may stand there twice."""
        self._unwritten = lines


def encode_event(at: float, kind: str, *values: object) -> bytes:
    """Return a line of a timeline with one event; `at` is in seconds since 1970."""
    return orjson.dumps([[round(at, 3), kind, *values]], option=orjson.OPT_APPEND_NEWLINE)


def decode_timeline(lines: bytes) -> list[dict[str, Any]]:
    """Return the events of a timeline, without what cannot be read: another version may have written it.

    An event has its time `at` in seconds since 1970, its kind `event`, and its values by name. A repeated line was
    written again, because the store had not confirmed it.
    """
    events: list[dict[str, Any]] = []
    for line in dict.fromkeys(lines.splitlines()):
        try:
            found = orjson.loads(line)
        except ValueError:
            continue
        if isinstance(found, list):
            events += [_decode_event(event) for event in found if _is_event(event)]
    return events


def _is_event(event: object) -> bool:
    return (
        isinstance(event, list)
        and len(event) >= 2
        and isinstance(event[0], int | float)
        and isinstance(event[1], str)
        and event[1] in FIELDS
    )


def _decode_event(event: Event) -> dict[str, Any]:
    at, kind, *values = event
    named = {name: value for name, value in zip(FIELDS[kind], values, strict=False) if value is not None}
    return {"at": at, "event": kind, **named}
