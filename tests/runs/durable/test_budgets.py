"""Budgets of durable runs: what a process that dies has reserved is settled by the one that adopts the run."""

from __future__ import annotations

import asyncio

import pytest

from gateway.runs.budgets.budget import Budget
from gateway.runs.budgets.keeper import BudgetKeeper
from gateway.runs.budgets.settlement import Settler
from gateway.runs.budgets.sweep import BudgetSweep
from gateway.runs.catalog import Workflow
from gateway.runs.model import RunRecord
from gateway.runs.prices import PriceTable
from gateway.store.budgets import CHECK_AFTER
from gateway.store.contract import StoreUnavailable
from gateway.store.records import IdempotencyKey
from tests.runs.durable.durable_harness import LEASE, BlockedUpstream, DurableRunsHarness, yield_to_loop
from tests.runs.executor_harness import DONE, ENDED, STARTED, ScriptedUpstream

PRICE = 40
BUDGET = Budget("all", 100, "month")


class Replica(DurableRunsHarness):
    """A replica with a budget, and a workflow at PromptLayer with a price."""

    def __init__(self, owner: str, *script: object, predecessor: DurableRunsHarness | None = None) -> None:
        super().__init__(owner, predecessor=predecessor)
        metrics, ledger = self.harness.metrics, self.store.budgets
        self.settler = Settler(ledger, self.clock, self.runs.log, metrics.settlement_dropped)
        keeper = self.harness.context.budgets = BudgetKeeper(ledger, self.settler, self.clock, metrics, self.runs.log)
        keeper.reconfigure((BUDGET,))
        self.sweep = BudgetSweep(keeper, self.store, self.clock, metrics, self.runs.log)
        self.upstream = ScriptedUpstream(self.clock, script)  # type: ignore[arg-type]
        self.workflow = self.add_workflow(self.harness.layer(prices=PriceTable(PRICE)), self.upstream)

    async def sums(self) -> tuple[int, int, int]:
        """Return what is reserved, spent and unknown, after the settlements of this replica."""
        await self.settler.flush()
        [balance] = await self.store.budgets.get_balances([BUDGET.account(self.clock.now())[0]])
        return balance.reserved, balance.spent, balance.unknown

    def block(self) -> BlockedUpstream:
        """Let the provider answer no more."""
        blocked = BlockedUpstream(self.clock, STARTED, ENDED)
        self.workflow = self.add_workflow(self.workflow, blocked)
        return blocked

    async def die(self) -> None:
        """End the work on all runs, as a killed process does: nothing else is written."""
        for run in self.durable.values():
            if run.task is not None:
                run.task.cancel()
        await yield_to_loop()
        self.clock.advance(LEASE + 1)


async def adopt(dead: Replica, *script: object) -> Replica:
    """Let another replica adopt the runs of one that died."""
    other = Replica("other", *script, predecessor=dead)
    await other.recovery.adopt_expired_runs()
    await yield_to_loop()
    return other


async def start(replica: Replica, workflow: Workflow | None = None) -> RunRecord:
    run = await replica.run_in_background(workflow or replica.workflow)
    await yield_to_loop()
    return run


async def test_a_run_that_was_reserved_and_not_sent_is_reserved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It died between the reservation and the write-ahead."""
    dead = await Replica("dead", STARTED, ENDED).open()
    assert isinstance(dead, Replica)
    with monkeypatch.context() as patched:
        patched.setattr(dead.store, "advance", lambda *_: asyncio.Event().wait())
        await start(dead)
    assert (PRICE, 0, 0) == await dead.sums()
    await dead.die()
    other = await adopt(dead, STARTED, ENDED)
    assert ((0, PRICE, 0), 0, 1) == (await other.sums(), dead.upstream.starts, other.upstream.starts)


async def test_a_run_that_was_maybe_sent_stays_charged() -> None:
    """It died while the start was sent: unknown, and not started again."""
    dead = await Replica("dead").open()
    assert isinstance(dead, Replica)
    dead.block()
    run = await start(dead)
    await dead.die()
    other = await adopt(dead, DONE)
    assert ("unknown", (0, 0, PRICE)) == (await other.stored_status(run), await other.sums())
    assert 0 == other.upstream.starts
    assert PRICE / 1e6 == pytest.approx(other.harness.metric_value("runward_spend_total", certainty="unknown"))


async def test_a_run_that_the_provider_has_is_settled_by_its_end() -> None:
    """It died while it polled."""
    dead = await Replica("dead", STARTED, lambda: (_ for _ in ()).throw(asyncio.CancelledError)).open()
    assert isinstance(dead, Replica)
    run = await start(dead)
    assert (PRICE, 0, 0) == await dead.sums()
    await dead.die()
    other = await adopt(dead, ENDED)
    assert ("succeeded", (0, PRICE, 0)) == (await other.stored_status(run), await other.sums())
    assert PRICE / 1e6 == pytest.approx(other.harness.metric_value("runward_spend_total", certainty="spent"))


async def test_a_run_whose_client_waited_in_vain_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent, and nothing will be: the adopter deletes it."""
    dead = await Replica("dead", STARTED, ENDED).open()
    assert isinstance(dead, Replica)
    with monkeypatch.context() as patched:
        patched.setattr(dead.store, "advance", lambda *_: asyncio.Event().wait())
        request = asyncio.create_task(dead.run_and_wait(dead.workflow))
        await yield_to_loop()
        assert (PRICE, 0, 0) == await dead.sums()
        request.cancel()
        await asyncio.wait([request])
    await dead.die()
    other = await adopt(dead)
    assert ((0, 0, 0), None) == (await other.sums(), await other.idempotency_record())


async def test_a_cancelled_run_gives_back_what_its_owner_had_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """At another replica, between the reservation and the write-ahead."""
    owner = await Replica("owner", STARTED, ENDED).open()
    assert isinstance(owner, Replica)
    blocked = asyncio.Event()
    with monkeypatch.context() as patched:
        advance = owner.store.advance

        async def slow(*arguments: object) -> bool:
            await blocked.wait()
            return await advance(*arguments)  # type: ignore[arg-type]

        patched.setattr(owner.store, "advance", slow)
        run = await start(owner)
        other = Replica("other", predecessor=owner)
        await other.cancellation.cancel("one", run.id)
        assert (0, 0, 0) == await other.sums()
        blocked.set()
        await yield_to_loop()
    assert ((0, 0, 0), 0) == (await owner.sums(), owner.upstream.starts)


async def test_an_end_that_was_stored_and_not_settled_is_found() -> None:
    """It died right after the end of the run."""
    dead = await Replica("dead", STARTED, ENDED).open()
    assert isinstance(dead, Replica)
    dead.store.budgets.settle = _unavailable  # type: ignore[method-assign, assignment]
    run = await start(dead)
    assert "succeeded" == await dead.stored_status(run)
    del dead.store.budgets.settle
    dead.clock.advance(CHECK_AFTER + 1)
    other = Replica("other", predecessor=dead)
    assert (1, (0, PRICE, 0)) == (await other.sweep.sweep(), await other.sums())


async def _unavailable(_settlements: object) -> None:
    raise StoreUnavailable


async def test_a_refused_run_frees_its_key() -> None:
    """The same key may be used once there is room again."""
    replica = await Replica("me", STARTED, ENDED, STARTED, ENDED).open()
    assert isinstance(replica, Replica)
    for text in ("first", "second"):
        await replica.run_and_wait(replica.workflow, key=IdempotencyKey("one", text, b"f" * 32))
    refused = await replica.run_and_wait(replica.workflow)
    assert "budget_exhausted" == getattr(refused, "code", None)
    assert ((0, 2 * PRICE, 0), None) == (await replica.sums(), await replica.idempotency_record())
