"""All workers: each place is filled again when its worker dies, until the crew is told to drain."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from gateway.clock import Clock
from gateway.lifecycle import first_of
from gateway.metrics import Metrics
from gateway.supervisor.relaunch import Relaunch
from gateway.supervisor.totals import GAUGES, Families, Totals
from gateway.supervisor.worker import Worker

_REFUSED = 2  # a worker's exit code where its configuration can not be served
_GRACE = 3.0  # seconds for last words, where all must end at once
_EVERY = 1.0
_CLEAN = (0, -signal.SIGTERM)  # the latter only before it is ready to be told


class GaveUp(Exception):
    """No worker serves, and none can be started. The text is for people."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(slots=True)
class Crew:
    """`count` places, each with a worker from `launch`. `metrics` are the supervisor's own."""

    count: int
    launch: Callable[[int], Awaitable[Worker]]
    metrics: Metrics
    clock: Clock
    log: FilteringBoundLogger
    workers: dict[int, Worker] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    complete: asyncio.Event = field(default_factory=asyncio.Event)
    clean: bool = True
    _proven: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def ready(self) -> int:
        """How many workers take new work."""
        return sum(worker.ready for worker in self.workers.values())

    @property
    def answering(self) -> int:
        """How many workers answer at all."""
        return sum(not worker.silent for worker in self.workers.values())

    @property
    def store_fails(self) -> bool:
        """Whether a worker that answers can not use the store."""
        return any(worker.last.store_fails and not worker.silent for worker in self.workers.values())

    def reload(self) -> None:
        """Have all read their configuration anew; one that is only starting does so once it is ready."""
        for worker in self.workers.values():
            worker.tell("reload")

    async def serve(self) -> None:
        """Keep every place filled until all workers have drained. Raises GaveUp, and then none is left."""
        places = [asyncio.create_task(self._keep(place)) for place in range(self.count)]
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*places)
        finally:
            self.draining.set()
            for task in (watching, *places):
                task.cancel()
            await asyncio.gather(watching, *places, return_exceptions=True)
            for worker in self.workers.values():
                worker.signal(signal.SIGKILL)
                await worker.process.wait()

    def drain(self) -> None:
        """Tell all to end, in their own time."""
        self.draining.set()
        self._proven.set()
        for worker in self.workers.values():
            worker.tell("drain")

    async def hurry(self) -> None:
        """Have all ended at once; who still lives after a grace is killed."""
        for worker in self.workers.values():
            worker.tell("hurry")
        await self.clock.sleep(_GRACE)
        for worker in self.workers.values():
            worker.signal(signal.SIGKILL)

    async def ask(self) -> Families:
        """The numbers of all, dead and alive. Who does not answer in time counts with what it said last."""
        await asyncio.gather(*(worker.ask() for worker in self.workers.values()))
        own = {name: numbers for name, numbers in self.metrics.numbers().items() if name not in GAUGES}
        return self.totals.merged([own, *(worker.last.numbers for worker in self.workers.values())])

    async def _watch(self) -> None:
        """Ask all the time: what a worker counted since is all that is lost when it is killed."""
        while True:
            await self.clock.sleep(_EVERY)
            await asyncio.gather(*(worker.ask() for worker in self.workers.values()))

    async def _keep(self, place: int) -> None:
        relaunch = Relaunch()
        if place:  # where the first can not be started, no other can: one complaint is enough
            await self._proven.wait()
        while not self.draining.is_set():
            began = self.clock.monotonic()
            code = await self._live(place)
            if self.draining.is_set():
                self.clean &= code in _CLEAN
                return
            pause = relaunch.after(self.clock.monotonic() - began)
            self.metrics.worker_ended()
            self.log.error("worker_ended", worker=place, exit_code=code, again_in=pause)
            self._judge(place, code, relaunch)
            await first_of(self.clock.sleep(pause), self.draining.wait())

    async def _live(self, place: int) -> int | None:
        """One worker's life; its exit code, None where it was never born."""
        try:
            worker = await self.launch(place)
        except OSError:
            return None
        self.workers[place] = worker
        if self.draining.is_set():
            worker.tell("drain")
        try:
            return await worker.ended(self._look)
        finally:
            if worker.process.returncode is not None:
                del self.workers[place]
                self.totals.retire(worker.last.numbers)

    def _look(self) -> None:
        if self.ready:
            self._proven.set()
        if self.ready == self.count:
            self.complete.set()

    def _judge(self, place: int, code: int | None, relaunch: Relaunch) -> None:
        if code == _REFUSED and not self._proven.is_set():
            raise GaveUp("the first worker could not start", _REFUSED)
        # While others serve, giving up would cut off their clients.
        if relaunch.hopeless and not self.ready:
            raise GaveUp(
                f"worker {place} ended {relaunch.row} times in a row (exit code {code}), and no other serves", 1
            )
