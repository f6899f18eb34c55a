"""A desk with a store that can fail, around the scripted providers, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from structlog.testing import LogCapture

from gateway.problems import Problem
from gateway.runs.catalog import Catalog, Provider, Workflow
from gateway.runs.desk import Desk
from gateway.runs.record import Order, RunRecord
from gateway.runs.recovery import Recovery
from gateway.store.contract import Answer, Claim, Finish, Key, StoredRun, StoreUnavailable
from gateway.store.memory import MemoryStore
from providers.contract import Call, Reply
from tests.manual_clock import ManualClock
from tests.runs.scripted import Act, Door, World

T = TypeVar("T")
KEY = Key("one", "key-1", b"f" * 32)
LEASE = 30.0


class Shaky(MemoryStore):
    """Raises StoreUnavailable from each method that `down` names: before it does anything, or after it did it all."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.down: set[str] = set()
        self.lost: set[str] = set()

    async def begin(self, run: StoredRun, key: Key | None) -> Claim | None:
        self._before("begin")
        await asyncio.sleep(0)  # a real one lets others go on in the meantime
        return self._after("begin", await super().begin(run, key))

    async def advance(self, run: StoredRun) -> bool:
        self._before("advance")
        return self._after("advance", await super().advance(run))

    async def unsent(self, run: StoredRun) -> bool:
        self._before("unsent")
        return self._after("unsent", await super().unsent(run))

    async def finish(self, run_id: str, finish: Finish) -> bool:
        self._before("finish")
        return self._after("finish", await super().finish(run_id, finish))

    async def drop(self, run_id: str, *, owner: str) -> None:
        self._before("drop")
        await super().drop(run_id, owner=owner)

    async def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, turn: int = 0) -> list[StoredRun]:
        self._before("adopt")
        found = await super().adopt(owner, now_at=now_at, until_at=until_at, limit=limit, turn=turn)
        return self._after("adopt", found)

    def _before(self, method: str) -> None:
        if method in self.down:
            raise StoreUnavailable

    def _after(self, method: str, result: T) -> T:
        if method in self.lost:
            raise StoreUnavailable
        return result


class Held(Door):
    """A script that does not begin before the test says so."""

    def __init__(self, clock: ManualClock, *acts: Act) -> None:
        super().__init__(clock, acts)
        self.go = asyncio.Event()

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        self.sent.append((call, self.clock.monotonic(), deadline))
        await self.go.wait()
        self.sent.pop()
        return await super().send(call, deadline, traceparent)


class Office:
    """A desk and a recovery as `owner`; several may share a `store`, as replicas do, or a process and its next one."""

    def __init__(
        self, owner: str = "me", *, before: Office | None = None, clock: ManualClock | None = None, **desk: Any
    ) -> None:
        self.clock: ManualClock = (clock or ManualClock()) if before is None else before.clock
        self.world = World(clock=self.clock)
        self.store: Shaky = Shaky(self.clock) if before is None else before.store
        self.log = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.desk = Desk(self.world.engine, self.store, self.clock, log, owner=owner, lease=LEASE, **desk)
        self.workflows: dict[str, Workflow] = {}
        self.recovery = Recovery(self.desk, self.store, Catalog(self.workflows, {}), self.clock, log)

    async def open(self) -> Office:
        """The same, with its store open."""
        await self.store.open()
        return self

    def knows(self, workflow: Workflow, door: Door | None = None) -> Workflow:
        """Put a workflow into the catalog, with another upstream where one is given."""
        if door is not None:
            provider = Provider(workflow.provider.name, workflow.provider.adapter, door)
            workflow = replace(workflow, provider=provider)
        self.workflows[workflow.alias] = workflow
        return workflow

    def order(self, workflow: Workflow, *, timeout: float = 60.0, **fields: Any) -> RunRecord:
        """A run that was just asked for."""
        order = Order(client="one", workflow=workflow.alias, timeout=timeout, **fields)
        return RunRecord.open(order, workflow.provider.name, self.clock)

    async def serve(self, workflow: Workflow, run: RunRecord | None = None, key: Key | None = KEY) -> Answer | Problem:
        """Keep a run and bring it to its end: its answer, or why it was not run."""
        run = run or self.order(workflow)
        try:
            assert await self.desk.keep(run, key, callback_url=None) is None
            return await self.desk.serve(run, workflow, "req_1")
        except Problem as problem:
            return problem

    async def start(self, workflow: Workflow, run: RunRecord | None = None, key: Key | None = None) -> RunRecord:
        """Keep a run and start it in the background."""
        run = run or self.order(workflow, waits=False)
        assert await self.desk.keep(run, key, callback_url=None) is None
        self.desk.start(run, workflow)
        return run

    async def status(self, run: RunRecord) -> str | None:
        """What the store says of a run; None where it knows it not."""
        stored = await self.store.run(run.id)
        return None if stored is None else stored.status

    async def claim(self) -> Claim | None:
        """What the key was used for."""
        return await self.store.claim(KEY.client, KEY.text)


async def until(holds: Callable[[], bool]) -> None:
    """Let the others go on until it holds; TimeoutError where it never does."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0)
    raise TimeoutError


async def turns(count: int = 50) -> None:
    """Let the others go on for a while."""
    for _ in range(count):
        await asyncio.sleep(0)
