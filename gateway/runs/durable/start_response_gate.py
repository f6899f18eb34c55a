"""Start gate: delays the response to a start until the start is acknowledged or refused, within a bounded time.

A provider's own API answers a start with the provider's acknowledgement or refusal. The run is stored and executed in
the background; the gate passes what became of its start to the waiting response, and the sending of the response back
to the run: the end of a run is stored after its response was written, so no push and no callback precedes the response.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gateway.clock import Clock
from gateway.errors import RunError

_MAX_SENT_WAIT = 1.0  # seconds


@dataclass(slots=True, eq=False)
class StartGate:
    """Gate of one response. It is decided once: accepted, or refused with an error."""

    clock: Clock
    error: RunError | None = None
    _decided: asyncio.Event = field(default_factory=asyncio.Event)
    _claimed: bool = False
    _sent: asyncio.Event = field(default_factory=asyncio.Event)

    def accept(self) -> None:
        """The run goes on, or the time to wait has passed. Without effect once the gate is decided or claimed."""
        if not self._claimed:
            self._claimed = True
            self._decided.set()

    def claim(self) -> bool:
        """Reserve the decision at the end of the run. Returns False if the gate is decided."""
        claimed, self._claimed = not self._claimed, True
        return claimed

    def decide(self, error: RunError | None) -> None:
        """Decide a claimed gate: accepted, or refused with `error`."""
        self.error = error
        self._decided.set()
        if error is not None:
            self._sent.set()  # no response names the run

    async def wait_for_decision(self, seconds: float) -> RunError | None:
        """Wait at most `seconds`, and longer only for a decision in progress. Returns the error of a refusal."""
        await _wait_for_event(self._decided, seconds, self.clock)
        self.accept()
        await self._decided.wait()
        return self.error

    def mark_sent(self) -> None:
        """Note that the response was written."""
        self._sent.set()

    async def wait_until_sent(self) -> None:
        """Wait until the response was written, at most one second: the client may have disconnected."""
        await _wait_for_event(self._sent, _MAX_SENT_WAIT, self.clock)


async def _wait_for_event(event: asyncio.Event, seconds: float, clock: Clock) -> None:
    if event.is_set():
        return
    waiters = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds))]
    try:
        await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
