"""Delivers what is due, at least once: signed, on the schedule, no receiver waiting for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.runs.webhook import Again, Delivered, GaveUp, next_step, signed, stretched
from gateway.store.contract import PENDING, Delivery, Store, StoreUnavailable
from gateway.upstream.courier import Answered, Courier, Result

DELIVERED, GAVE_UP = "delivered", "gave_up"
STATES = (PENDING, DELIVERED, GAVE_UP)
"""What may have become of a callback."""

_LOOK_EVERY = 0.5  # seconds
_MOST_AT_ONCE = 200
_TAKEN_FOR = 20.0  # seconds: longer than a delivery takes; after a crash it is due again then


@dataclass(slots=True)
class Callbacks:
    """Takes due deliveries out of `store` and hands them to `courier`. `schedule` is in seconds."""

    store: Store
    courier: Courier
    keys: Sequence[bytes]
    schedule: Sequence[float]
    clock: Clock
    metrics: Metrics
    log: FilteringBoundLogger
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def first_delay(self) -> float:
        """Seconds from the end of a run to the first attempt."""
        return stretched(self.schedule[0], self.clock)

    async def keep_delivering(self) -> None:
        """For ever."""
        while True:
            try:
                await self.look_once()
            except StoreUnavailable:
                self.log.warning("store_unavailable")
            except Exception as mistake:  # noqa: BLE001 - ours; nothing would be delivered any more
                self.log.error("mistake", **logs.describe(mistake))
            await self.clock.sleep(_LOOK_EVERY)

    async def look_once(self) -> None:
        """Begin to deliver what is due. Raises StoreUnavailable."""
        room = _MOST_AT_ONCE - len(self._tasks)
        if room <= 0 or not self.keys:  # what is not signed could be anybody's: it waits until there is a secret again
            return
        now = self.clock.now().timestamp()
        for delivery in await self.store.due(now_at=now, until_at=now + _TAKEN_FOR, limit=room):
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def reconfigure(self, keys: Sequence[bytes], schedule: Sequence[float]) -> None:
        """Sign with these keys from the next attempt on, and wait as this schedule says after the next answer."""
        self.keys, self.schedule = keys, schedule

    async def close(self) -> None:
        """Stop; what was not delivered is due again for whoever comes next."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _deliver(self, delivery: Delivery) -> None:
        message = signed(delivery.run_id, delivery.body, self.keys, self.clock.now())
        result = await self.courier.deliver(delivery.url, message)
        self.metrics.callback_tried(_word(result))
        try:
            await self._note(delivery, next_step(delivery.attempts + 1, result, self.schedule, self.clock))
        except StoreUnavailable:  # it is due again, and is delivered twice rather than never
            self.log.warning("not_written", run_id=delivery.run_id, phase="callback")
        except KeyError:  # somebody else has settled it meanwhile
            self.log.info("callback_settled", run_id=delivery.run_id)

    async def _note(self, delivery: Delivery, step: Delivered | GaveUp | Again) -> None:
        if isinstance(step, Again):
            await self.store.postpone(delivery.run_id, due_at=step.at)
            return
        state = DELIVERED if isinstance(step, Delivered) else GAVE_UP
        await self.store.delivered(delivery.run_id, state)
        if state == GAVE_UP:
            self.metrics.callback_given_up()
            self.log.warning("callback_given_up", run_id=delivery.run_id, client=delivery.client)


def _word(result: Result) -> str:
    return f"{result.status // 100}xx" if isinstance(result, Answered) else result.value
