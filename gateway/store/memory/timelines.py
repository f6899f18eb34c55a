"""Timelines of the memory store."""

from __future__ import annotations

from gateway.store.history import MAX_TIMELINE


class Timelines:
    """Lines of events by the id of a run."""

    def __init__(self) -> None:
        self._lines: dict[str, bytes] = {}

    def add(self, run_id: str, events: bytes) -> None:
        """Add events, unless the timeline would be too long."""
        lines = self.get(run_id)
        if events and len(lines) + len(events) <= MAX_TIMELINE:
            self._lines[run_id] = lines + events

    def get(self, run_id: str) -> bytes:
        """Return the lines; empty if there are none."""
        return self._lines.get(run_id, b"")

    def remove(self, run_id: str) -> None:
        """Remove a timeline, if there is one."""
        self._lines.pop(run_id, None)
