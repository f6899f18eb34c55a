"""Who waits for which run to change."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

from gateway.clock import Clock

_FRESH = 1.0  # seconds
_GLANCE = 0.1  # seconds


class Changes:
    """Wakes who waits for a run that changed.

    Whoever reads a run and then waits may miss a change in between. So where a run changed within the last second, a
    wait is a short one: what was missed is seen a tenth of a second later.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._fresh: OrderedDict[str, float] = OrderedDict()  # when each run changed, oldest first

    def tell(self, run_id: str) -> None:
        """A run changed."""
        now = self._clock.monotonic()
        self._fresh[run_id] = now
        self._fresh.move_to_end(run_id)
        self._forget(now)
        self._wake(run_id)

    def tell_all(self) -> None:
        """Any run may have changed."""
        for run_id in list(self._waiting):
            self._wake(run_id)

    def told(self, name: str) -> bool:
        """See `Store.told`."""
        self._forget(self._clock.monotonic())
        return name in self._fresh

    async def wait(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._forget(self._clock.monotonic())
        if any(run_id in self._fresh for run_id in run_ids):
            seconds = min(seconds, _GLANCE)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for run_id in run_ids:
            self._waiting.setdefault(run_id, set()).add(turn)
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((turn, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._leave(run_ids, turn)

    def _wake(self, run_id: str) -> None:
        for turn in self._waiting.pop(run_id, ()):
            if not turn.done():
                turn.set_result(None)

    def _leave(self, run_ids: Sequence[str], turn: asyncio.Future[None]) -> None:
        for run_id in run_ids:
            waiting = self._waiting.get(run_id, set())
            waiting.discard(turn)
            if not waiting:
                self._waiting.pop(run_id, None)

    def _forget(self, now: float) -> None:
        while self._fresh and now - next(iter(self._fresh.values())) >= _FRESH:
            self._fresh.popitem(last=False)
