"""Poll timer of one run at a provider: waits until the next poll, and updates the duration estimate at its end."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.clock import Clock
from gateway.runs.model import RunRecord
from gateway.runs.polling.provider_hints import ProviderHints
from gateway.runs.polling.schedule import DurationEstimate

_FINAL_POLL_MARGIN = 0.3  # seconds between the last poll and the deadline


@dataclass(slots=True)
class PollTimer:
    """Timer of the polls of one run.

    `started`, `last_seen_running`: monotonic times at which the run began and was last reported as running; the latter
    is 0 before the first report.
    `hint_promised`: the provider was asked to call back at the end. `awaiting_hint`: no hint was received; only the
    first one counts.
    """

    record: RunRecord
    estimate: DurationEstimate
    clock: Clock
    poll_hints: ProviderHints | None
    started: float
    last_seen_running: float = 0.0
    hint_promised: bool = False
    awaiting_hint: bool = True

    async def wait_until_next_poll(self) -> None:
        """Wait until the next poll is due, or a hint is received."""
        now = self.last_seen_running = self.clock.monotonic()
        seconds = self._seconds_until_next_poll(now)
        self.record.polls += 1
        self.record.next_poll = now + seconds
        if self.poll_hints is None or not self.awaiting_hint:
            await self.record.await_external(self.clock.sleep(seconds), self.clock)
        elif await self.record.await_external(self.poll_hints.wait_for_hint(self.record.id, seconds), self.clock):
            self.awaiting_hint = False
            self.last_seen_running = self.clock.monotonic()  # it ended now, not at any time since the last poll
            self.record.timeline.add(self.last_seen_running, "hinted")

    def record_end(self) -> None:
        """Record the duration of the run, and whether the promised hint was received."""
        if self.last_seen_running:  # else it ended while it was not polled, at a time that is not known
            age = self.clock.monotonic() - self.started
            self.estimate.record_duration(self.last_seen_running - self.started, age)
        if self.hint_promised:
            self.estimate.hints_reliable = not self.awaiting_hint

    def _seconds_until_next_poll(self, now: float) -> float:
        """Return the seconds to wait: the scheduled interval, with one last poll shortly before the deadline."""
        remaining = self.record.deadline - now
        rely_on_hint = self.hint_promised and self.awaiting_hint and self.estimate.hints_reliable
        age = now - self.started
        interval = self.estimate.next_interval_with_hints(age) if rely_on_hint else self.estimate.next_interval(age)
        return min(
            interval, remaining - _FINAL_POLL_MARGIN if remaining > 2 * _FINAL_POLL_MARGIN else max(0.0, remaining)
        )
