"""Durable-runs harness: a failing store and scripted providers on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from structlog.testing import LogCapture

from gateway.errors import RunError
from gateway.http.problem_mapping import final_response
from gateway.runs.catalog import Catalog, Provider, Workflow
from gateway.runs.durable.cancellation import RunCancellation
from gateway.runs.durable.journal import DurableRun
from gateway.runs.durable.recovery import Recovery
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.records import CancelResult, FinalState, IdempotencyKey, IdempotencyRecord, StoredResponse, StoredRun
from providers.contract import Call, Reply
from tests.runs.executor_harness import ExecutorHarness, ScriptedUpstream, ScriptStep
from tests.support.clock import ManualClock

T = TypeVar("T")
KEY = IdempotencyKey("one", "key-1", b"f" * 32)
LEASE = 30.0


class FrozenClock(ManualClock):
    """A clock whose sleep never ends."""

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


class FailingStore(MemoryStore):
    """Store whose methods raise StoreUnavailable before the write (`fail_before`) or after it (`fail_after`)."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.fail_before: set[str] = set()
        self.fail_after: set[str] = set()

    async def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        self._raise_before("create_run")
        await asyncio.sleep(0)  # a real store yields to other tasks meanwhile
        return self._raise_after("create_run", await super().create_run(run, key, tags))

    async def advance(self, run: StoredRun, events: bytes = b"") -> bool:
        self._raise_before("advance")
        return self._raise_after("advance", await super().advance(run, events))

    async def revert_to_queued(self, run: StoredRun) -> bool:
        self._raise_before("revert_to_queued")
        return self._raise_after("revert_to_queued", await super().revert_to_queued(run))

    async def finish(self, run_id: str, finish: FinalState) -> bool:
        self._raise_before("finish")
        return self._raise_after("finish", await super().finish(run_id, finish))

    async def revise(self, run_id: str, finish: FinalState) -> bool:
        self._raise_before("finish")
        return self._raise_after("finish", await super().revise(run_id, finish))

    async def cancel_queued(self, run_id: str, finish: FinalState) -> CancelResult:
        self._raise_before("cancel_queued")
        return self._raise_after("cancel_queued", await super().cancel_queued(run_id, finish))

    async def discard_run(self, run_id: str, *, owner: str) -> None:
        self._raise_before("discard_run")
        await super().discard_run(run_id, owner=owner)

    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        self._raise_before("adopt")
        found = await super().adopt(owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        return self._raise_after("adopt", found)

    def _raise_before(self, method: str) -> None:
        if method in self.fail_before:
            raise StoreUnavailable

    def _raise_after(self, method: str, result: T) -> T:
        if method in self.fail_after:
            raise StoreUnavailable
        return result


class BlockedUpstream(ScriptedUpstream):
    """A scripted upstream that blocks until the test unblocks it."""

    def __init__(self, clock: ManualClock, *script: ScriptStep) -> None:
        super().__init__(clock, script)
        self.unblocked = asyncio.Event()

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        self.sent.append((call, self.clock.monotonic(), deadline))
        await self.unblocked.wait()
        self.sent.pop()
        return await super().send(call, deadline, traceparent)


class DurableRunsHarness:
    """Durable runs and recovery of `owner`; replicas, or successive processes, share a store."""

    def __init__(
        self,
        owner: str = "me",
        *,
        predecessor: DurableRunsHarness | None = None,
        clock: ManualClock | None = None,
        **options: Any,
    ) -> None:
        self.clock: ManualClock = (clock or ManualClock()) if predecessor is None else predecessor.clock
        self.harness = ExecutorHarness(clock=self.clock)
        self.store: FailingStore = FailingStore(self.clock) if predecessor is None else predecessor.store
        self.log = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.log], wrapper_class=structlog.make_filtering_bound_logger(0))
        self.runs = DurableRuns(
            self.harness.executor,
            self.store,
            self.clock,
            log,
            owner=owner,
            render_response=final_response,
            lease=LEASE,
            **options,
        )
        self.workflows: dict[str, Workflow] = {}
        self.durable: dict[str, DurableRun] = {}
        catalog = Catalog(self.workflows, {})
        self.recovery = Recovery(self.runs, self.store, catalog, self.clock, log)
        self.cancellation = RunCancellation(self.runs, self.store, catalog, self.clock, log)

    async def open(self) -> DurableRunsHarness:
        """Open the store and return the harness."""
        await self.store.open()
        return self

    def add_workflow(self, workflow: Workflow, upstream: ScriptedUpstream | None = None) -> Workflow:
        """Add a workflow to the catalog, optionally with another upstream."""
        if upstream is not None:
            provider = Provider(workflow.provider.name, workflow.provider.adapter, upstream)
            workflow = replace(workflow, provider=provider)
        self.workflows[workflow.alias] = workflow
        return workflow

    def new_run(self, workflow: Workflow, *, timeout: float = 60.0, **fields: Any) -> RunRecord:
        """Return a new run."""
        spec = RunSpec(client="one", workflow=workflow.alias, timeout=timeout, **fields)
        return RunRecord.create(spec, workflow.provider.name, self.clock)

    async def persist(
        self, run: RunRecord, key: IdempotencyKey | None = None, *, callback_url: str | None = None
    ) -> DurableRun:
        """Store a new run."""
        durable = await self.runs.persist(run, key, callback_url=callback_url)
        assert isinstance(durable, DurableRun)
        self.durable[run.id] = durable
        return durable

    async def run_and_wait(
        self, workflow: Workflow, run: RunRecord | None = None, key: IdempotencyKey | None = KEY
    ) -> StoredResponse | RunError:
        """Store a run and execute it; returns the response, or the error of a run that was not executed."""
        try:
            durable = await self.persist(run or self.new_run(workflow), key)
            return await self.runs.run_and_wait(durable, workflow, "req_1")
        except RunError as problem:
            return problem

    async def run_in_background(
        self, workflow: Workflow, run: RunRecord | None = None, key: IdempotencyKey | None = None
    ) -> RunRecord:
        """Store a run and start it in the background."""
        run = run or self.new_run(workflow, synchronous=False)
        self.runs.run_in_background(await self.persist(run, key), workflow)
        return run

    async def stored_status(self, run: RunRecord) -> str | None:
        """Return the status in the store; None if the store has no such run."""
        stored = await self.store.get_run(run.id)
        return None if stored is None else stored.status

    async def idempotency_record(self) -> IdempotencyRecord | None:
        """Return the record of the key."""
        return await self.store.get_idempotency_record(KEY.client, KEY.text)


async def yield_until(condition: Callable[[], bool]) -> None:
    """Yield to the event loop until the condition holds. Raises TimeoutError."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise TimeoutError


async def yield_to_loop(count: int = 50) -> None:
    """Yield to the event loop `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)
