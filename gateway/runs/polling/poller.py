"""How a run at a provider is watched: when it is asked about again, and what is learned once it has ended."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.clock import Clock
from gateway.runs.model import RunRecord
from gateway.runs.polling.hints import PollHints
from gateway.runs.polling.schedule import DurationEstimate

_FINAL_POLL_MARGIN = 0.3  # seconds: the last poll is made so long before the deadline


@dataclass(slots=True)
class PollTimer:
    """One run's. `started` and `seen_running` are when the provider first and last said that it goes on (monotonic).

    `promised`: the provider will call when it has ended. `listening`: no hint came yet; it counts once.
    """

    record: RunRecord
    estimate: DurationEstimate
    clock: Clock
    poll_hints: PollHints | None
    started: float
    last_seen_running: float = 0.0
    hint_promised: bool = False
    awaiting_hint: bool = True

    async def wait_until_next_poll(self) -> None:
        """Wait until it is time to ask again."""
        now = self.last_seen_running = self.clock.monotonic()
        seconds = self._seconds_until_next_poll(now)
        if self.poll_hints is None or not self.awaiting_hint:
            await self.record.await_external(self.clock.sleep(seconds), self.clock)
        elif await self.record.await_external(self.poll_hints.wait_for_hint(self.record.id, seconds), self.clock):
            self.awaiting_hint = False
            self.last_seen_running = (
                self.clock.monotonic()
            )  # it ended just now, not at any time since it was asked about

    def record_end(self) -> None:
        """Learn how long it took, and whether hints come."""
        age = self.clock.monotonic() - self.started
        self.estimate.record_duration(self.last_seen_running - self.started, age)
        if self.hint_promised:
            self.estimate.hints_reliable = not self.awaiting_hint

    def _seconds_until_next_poll(self, now: float) -> float:
        """Seconds to wait: as the rhythm has it, but with one last question shortly before the deadline."""
        remaining = self.record.deadline - now
        rely_on_hint = self.hint_promised and self.awaiting_hint and self.estimate.hints_reliable
        age = now - self.started
        interval = self.estimate.next_interval_with_hints(age) if rely_on_hint else self.estimate.next_interval(age)
        return min(
            interval, remaining - _FINAL_POLL_MARGIN if remaining > 2 * _FINAL_POLL_MARGIN else max(0.0, remaining)
        )
