"""How a run at a provider is watched: when it is asked about again, and what is learned once it has ended."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.clock import Clock
from gateway.runs.hints import Hints
from gateway.runs.polling import Rhythm
from gateway.runs.record import RunRecord

_LAST_CHANCE = 0.3  # seconds: the last poll is made so long before the deadline


@dataclass(slots=True)
class Watch:
    """One run's. `started` and `seen_running` are when the provider first and last said that it goes on (monotonic).

    `promised`: the provider will call when it has ended. `listening`: no hint came yet; it counts once.
    """

    record: RunRecord
    rhythm: Rhythm
    clock: Clock
    hints: Hints | None
    started: float
    seen_running: float = 0.0
    promised: bool = False
    listening: bool = True

    async def rest(self) -> None:
        """Wait until it is time to ask again."""
        now = self.seen_running = self.clock.monotonic()
        seconds = self._until_next_poll(now)
        if self.hints is None or not self.listening:
            await self.record.waiting(self.clock.sleep(seconds), self.clock)
        elif await self.record.waiting(self.hints.wait(self.record.id, seconds), self.clock):
            self.listening = False
            self.seen_running = self.clock.monotonic()  # it ended just now, not at any time since it was asked about

    def ended(self) -> None:
        """Learn how long it took, and whether hints come."""
        age = self.clock.monotonic() - self.started
        self.rhythm.learn(self.seen_running - self.started, age)
        if self.promised:
            self.rhythm.hints_come = not self.listening

    def _until_next_poll(self, now: float) -> float:
        """Seconds to wait: as the rhythm has it, but with one last question shortly before the deadline."""
        left = self.record.deadline - now
        trusting = self.promised and self.listening and self.rhythm.hints_come
        age = now - self.started
        wanted = self.rhythm.pause_trusting(age) if trusting else self.rhythm.pause(age)
        return min(wanted, left - _LAST_CHANCE if left > 2 * _LAST_CHANCE else max(0.0, left))
