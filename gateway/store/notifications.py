"""Change notifications inside one process."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from gateway.clock import Clock

_RECENT_SECONDS = 1.0
_SHORT_WAIT_SECONDS = 0.1


class ChangeNotifier:
    """Wakes the tasks that wait for a run when it changes.

    A task that reads a run and then waits may miss a change in between. A wait for a run that changed within the last
    second is therefore limited to a tenth of a second.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._recent_changes: OrderedDict[str, float] = OrderedDict()  # time of the last change by run, oldest first

    def notify(self, run_id: str) -> None:
        """Report a change of a run."""
        self.notify_each((run_id,))

    def notify_each(self, run_ids: Iterable[str]) -> None:
        """Report changes of these runs."""
        now = self._clock.monotonic()
        for run_id in run_ids:
            self._recent_changes[run_id] = now
            self._recent_changes.move_to_end(run_id)
            if run_id in self._waiters:
                self._wake(run_id)
        self._drop_expired(now)

    def notify_all(self) -> None:
        """Wake every waiting task: any run may have changed."""
        for run_id in list(self._waiters):
            self._wake(run_id)

    def recently_notified(self, name: str) -> bool:
        """Return True if `notify` was called with this name in the last second."""
        self._drop_expired(self._clock.monotonic())
        return name in self._recent_changes

    def recent_suffix(self, prefix: str) -> str | None:
        """Return the rest of the latest name with this prefix in the last second; None if there was none."""
        self._drop_expired(self._clock.monotonic())
        names = (name for name in reversed(self._recent_changes) if name.startswith(prefix))
        return next((name.removeprefix(prefix) for name in names), None)

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """Return when one of these runs changes, or after `seconds`."""
        self._drop_expired(self._clock.monotonic())
        if any(run_id in self._recent_changes for run_id in run_ids):
            seconds = min(seconds, _SHORT_WAIT_SECONDS)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for run_id in run_ids:
            self._waiters.setdefault(run_id, set()).add(waiter)
        timer = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait((waiter, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            self._remove_waiter(run_ids, waiter)

    def _wake(self, run_id: str) -> None:
        for waiter in self._waiters.pop(run_id, ()):
            if not waiter.done():
                waiter.set_result(None)

    def _remove_waiter(self, run_ids: Sequence[str], waiter: asyncio.Future[None]) -> None:
        for run_id in run_ids:
            waiters = self._waiters.get(run_id, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(run_id, None)

    def _drop_expired(self, now: float) -> None:
        expired = 0
        for changed_at in self._recent_changes.values():
            if now - changed_at < _RECENT_SECONDS:
                break
            expired += 1
        for _ in range(expired):
            self._recent_changes.popitem(last=False)
