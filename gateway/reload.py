"""Changes the configuration of a running gateway: all of it that can be changed, or nothing.

Everything new is built first, beside what is in use. Only if that worked it is swapped in, between two steps of the
event loop. Connections stay open; a run keeps the workflow that it began with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from pydantic import BaseModel
from structlog.typing import FilteringBoundLogger

from gateway import logs
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.plan import Plan, draw
from gateway.settings import Settings, SettingsError
from gateway.watch import moments

Swap: TypeAlias = Callable[[Plan], None]
"""Puts a part of a plan to use. It can not fail: whatever can was done when the plan was drawn."""

_QUIET = 0.25  # seconds without a change
_LONGEST_BURST = 10  # times that

_SWAPPED = {
    *("providers", "workflows", "clients", "callbacks", "retries", "breaker", "polling"),
    *("logs.level", "store.retention"),
}
"""The settings that a plan's swaps put to use; all others need a restart."""


class Source(Protocol):
    """Where the configuration comes from. The methods may read the disk, and are called in a thread, one at a time."""

    def load(self) -> Settings:
        """Load and check it. Raises SettingsError."""

    def changed(self) -> bool:
        """Whether it may be another one than when it was loaded last."""

    def folders(self) -> frozenset[Path]:
        """Where the files are."""


@dataclass(slots=True)
class Reload:
    """Swaps the `plan` in use for the next one, on a change of its files or on `ask`; calls `done` after each try."""

    source: Source
    plan: Plan
    swaps: Sequence[Swap]
    clock: Clock
    metrics: Metrics
    log: FilteringBoundLogger
    done: Callable[[], object] = lambda: None
    _started: Settings = field(init=False)
    _moment: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started = self.plan.settings

    def begin(self) -> None:
        """Watch the files from now on."""
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_up())]

    def ask(self) -> None:
        """Reload soon, whether anything has changed or not. To ask twice is to ask once."""
        self._asked = True
        self._moment.set()

    def look(self) -> None:
        """Reload soon, if anything has changed."""
        self._moment.set()

    async def close(self) -> None:
        """Stay with what there is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def once(self) -> None:
        """Load the configuration and put it to use, or say why not."""
        try:
            plan = await asyncio.to_thread(self._draw)
        except SettingsError as error:
            self._refuse(places=[f"{place}: {complaint}" for place, complaint in error.places])
            return
        except Exception as mistake:  # noqa: BLE001 - whatever it is, what runs has to go on
            self._refuse(**logs.describe(mistake))
            return
        before, self.plan = self.plan, plan
        for name, fresh in plan.renewals.items():
            plan.doors[name].reconfigure(fresh)
        for swap in self.swaps:
            swap(plan)
        for door in set(before.doors.values()) - set(plan.doors.values()):
            door.retire()
        self._tell(plan)

    def _draw(self) -> Plan:
        return draw(self.source.load(), self.clock, self.metrics, self.plan)

    def _refuse(self, **why: object) -> None:
        self.metrics.reload_refused()
        self.log.error("reload_refused", **why)

    def _tell(self, plan: Plan) -> None:
        self.metrics.reloaded(self.clock.now())
        counts = {kind: len(getattr(plan, kind)) for kind in ("providers", "workflows", "clients")}
        self.log.info("reloaded", **counts)
        waiting = list(fixed(self._started, plan.settings))
        if waiting:
            self.log.warning("needs_restart", settings=waiting)

    async def _watch(self) -> None:
        async for _ in moments(self.source.folders, self.clock, self.log):
            self.look()

    async def _keep_up(self) -> None:
        while True:
            await self._moment.wait()
            await self._silence()
            asked, self._asked = self._asked, False
            if asked or await asyncio.to_thread(self.source.changed):
                await self.once()
                self.done()

    async def _silence(self) -> None:
        """Let a burst of changes come to its end; where it has none, be content with what there is."""
        for _ in range(_LONGEST_BURST):
            self._moment.clear()
            await self.clock.sleep(_QUIET)
            if not self._moment.is_set():
                return


def fixed(started: Settings, wanted: Settings) -> Iterator[str]:
    """The settings that are wanted otherwise than the gateway was started with, and that it can not change now."""
    for section in sorted(set(Settings.model_fields) - _SWAPPED):
        before, after = getattr(started, section), getattr(wanted, section)
        if not isinstance(before, BaseModel):
            yield from (section,) if before != after else ()
            continue
        for name in type(before).model_fields:
            if f"{section}.{name}" not in _SWAPPED and getattr(before, name) != getattr(after, name):
                yield f"{section}.{name}"
