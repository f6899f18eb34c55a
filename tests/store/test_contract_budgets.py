"""Store contract: the ledger of budgets. A budget is never exceeded, and nothing is given back that may be paid."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.money import MAX_AMOUNT
from gateway.store.budgets import CHECK_AFTER, Account, Balance, Charge, OpenReservation, SettledAs, Settlement
from gateway.store.contract import Store, StoreReplaced, StoreUnavailable
from gateway.store.memory.budgets import MemoryBudgets
from tests.store.samples import NOW, STORES, new_redis_store
from tests.support.valkey import shared_server
from tests.support.virtual_clock import VirtualClock

SHOP, ALL = Account("shop", "2026-11"), Account("all: \u00e9", "2026-11-27")
ENDS, EXPIRES = NOW + 86_400.5, NOW + 3600


def charge(amount: int, *, account: Account = SHOP, limit: int | None = 100, earlier: int = 0) -> Charge:
    return Charge(account, amount, limit, ENDS, earlier)


async def reserve(store: Store, run_id: str, *charges: Charge) -> int | None:
    """Reserve; returns the index of the charge that was refused."""
    return (await store.budgets.reserve(run_id, charges, now_at=NOW, expires_at=EXPIRES)).refused_by


async def settle(store: Store, run_id: str, settled_as: SettledAs) -> None:
    await store.budgets.settle([Settlement(run_id, settled_as)])


async def sums(store: Store, account: Account = SHOP) -> tuple[int, int, int]:
    """Return what is reserved, spent and unknown on an account."""
    [balance] = await store.budgets.get_balances([account])
    return balance.reserved, balance.spent, balance.unknown


async def test_an_account_is_never_above_its_limit(store: Store) -> None:
    """1 000 runs at once on a budget for 10: exactly 10 are reserved."""
    results = await asyncio.gather(*(reserve(store, f"run_{number}", charge(10)) for number in range(1000)))
    assert (10, 990) == (results.count(None), results.count(0))
    assert (100, 0, 0) == await sums(store)


async def test_all_accounts_are_charged_or_none(store: Store) -> None:
    charges = charge(60), charge(60, account=ALL, limit=100)
    assert await reserve(store, "run_1", *charges) is None
    result = await store.budgets.reserve("run_2", [charge(40), charge(41, account=ALL)], now_at=NOW, expires_at=EXPIRES)
    assert (1, 60, 60) == (result.refused_by, result.balances[0].used, result.balances[1].used)
    assert [(60, 0, 0), (60, 0, 0)] == [await sums(store), await sums(store, ALL)]
    assert [OpenReservation("run_1", EXPIRES)] == await store.budgets.take_unsettled(now_at=NOW + CHECK_AFTER, limit=10)


async def test_the_result_tells_the_balances_and_the_peaks_before(store: Store) -> None:
    """A warning is due once in a window, when the peak crosses it."""
    budgets = store.budgets
    first = await budgets.reserve("run_1", [charge(70)], now_at=NOW, expires_at=EXPIRES)
    assert (None, (Balance(70, 0, 0, 70),), (0,)) == (first.refused_by, first.balances, first.peaks_before)
    await settle(store, "run_1", "none")
    second = await budgets.reserve("run_2", [charge(30)], now_at=NOW, expires_at=EXPIRES)
    assert ((Balance(30, 0, 0, 70),), (70,)) == (second.balances, second.peaks_before)


async def test_a_repeated_reservation_counts_once(store: Store) -> None:
    """The process that adopts a run reserves again what the one before had reserved."""
    for _ in range(3):
        assert await reserve(store, "run_1", charge(60)) is None
    await asyncio.gather(*(reserve(store, "run_1", charge(60)) for _ in range(20)))
    assert (60, 0, 0) == await sums(store)


async def test_another_price_replaces_the_first(store: Store) -> None:
    """A fallback costs its own price, on the accounts that cover it."""
    assert await reserve(store, "run_1", charge(60), charge(60, account=ALL)) is None
    assert await reserve(store, "run_1", charge(100)) is None
    assert [(100, 0, 0), (0, 0, 0)] == [await sums(store), await sums(store, ALL)]
    assert await reserve(store, "run_1", charge(101)) == 0
    assert (100, 0, 0) == await sums(store)


async def test_a_lowered_limit_refuses_growth_only(store: Store) -> None:
    """A reload lowers the budget below what is used: what is reserved stays, more is refused."""
    assert await reserve(store, "run_1", charge(60)) is None
    assert await reserve(store, "run_1", charge(60, limit=10)) is None
    assert await reserve(store, "run_1", charge(61, limit=10)) == 0
    assert await reserve(store, "run_2", charge(1, limit=10)) == 0
    assert await reserve(store, "run_2", charge(1, limit=61)) is None


async def test_without_a_limit_amounts_are_counted(store: Store) -> None:
    for number in range(3):
        assert await reserve(store, f"run_{number}", charge(MAX_AMOUNT - 1, limit=None)) is None
    assert (3 * MAX_AMOUNT - 3, 0, 0) == await sums(store)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Settlement("run_1", "none"), (0, 0, 0)),
        (Settlement("run_1", "spent"), (0, 60, 0)),
        (Settlement("run_1", "unknown"), (0, 0, 60)),
        (Settlement("run_1", "unknown", last_started=False), (0, 0, 0)),
    ],
)
async def test_a_reservation_is_settled_by_the_outcome(
    store: Store, end: Settlement, expected: tuple[int, int, int]
) -> None:
    """not_run gives back, succeeded and failed keep, unknown keeps and is shown apart; a repetition changes nothing."""
    assert await reserve(store, "run_1", charge(60), charge(60, account=ALL, limit=None)) is None
    for _ in range(2):
        await store.budgets.settle([end])
        assert [expected, expected] == [await sums(store), await sums(store, ALL)]
    assert [] == await store.budgets.take_unsettled(now_at=NOW + 2 * CHECK_AFTER, limit=10)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Settlement("run_1", "none"), (0, 0, 0)),
        (Settlement("run_1", "spent"), (0, 25, 35)),
        (Settlement("run_1", "unknown"), (0, 0, 60)),
        (Settlement("run_1", "unknown", last_started=False), (0, 0, 35)),
    ],
)
async def test_earlier_starts_of_a_repeatable_run_stay_unknown(
    store: Store, end: Settlement, expected: tuple[int, int, int]
) -> None:
    """Each start before the last one may have been paid."""
    assert await reserve(store, "run_1", charge(35)) is None
    assert await reserve(store, "run_1", charge(60, earlier=35)) is None
    await store.budgets.settle([end])
    assert expected == await sums(store)


@pytest.mark.parametrize(("settled_as", "expected"), [("none", (0, 0, 0)), ("spent", (0, 60, 0))])
async def test_an_unknown_amount_is_settled_later(
    store: Store, settled_as: SettledAs, expected: tuple[int, int, int]
) -> None:
    """The provider reports the end after the deadline, or an operator finds out."""
    assert await reserve(store, "run_1", charge(60)) is None
    await settle(store, "run_1", "unknown")
    for last in (settled_as, "unknown", settled_as):
        await settle(store, "run_1", last)
        assert expected == await sums(store)


async def test_an_operator_may_correct_a_judgement(store: Store) -> None:
    assert await reserve(store, "run_1", charge(35)) is None
    assert await reserve(store, "run_1", charge(60, earlier=35)) is None
    await settle(store, "run_1", "unknown")
    await settle(store, "run_1", "spent")
    assert (0, 25, 35) == await sums(store)
    await settle(store, "run_1", "none")
    assert (0, 0, 0) == await sums(store)
    await settle(store, "run_1", "spent")
    assert (0, 25, 35) == await sums(store)


async def test_a_run_that_was_given_up_too_early_reserves_again(store: Store) -> None:
    assert await reserve(store, "run_1", charge(60)) is None
    await settle(store, "run_1", "unknown")
    assert await reserve(store, "run_1", charge(60)) is None
    assert (60, 0, 0) == await sums(store)
    await settle(store, "run_1", "spent")
    assert (0, 60, 0) == await sums(store)


async def test_settling_what_was_never_reserved_changes_nothing(store: Store) -> None:
    await store.budgets.settle([Settlement("run_9", "spent"), Settlement("run_8", "unknown")])
    assert (0, 0, 0) == await sums(store)


async def test_open_reservations_are_taken_once_in_each_interval(store: Store) -> None:
    budgets = store.budgets
    for number in range(3):
        await budgets.reserve(f"run_{number}", [charge(1)], now_at=NOW + number, expires_at=EXPIRES + number)
    assert [] == await budgets.take_unsettled(now_at=NOW + CHECK_AFTER - 1, limit=10)
    taken = await budgets.take_unsettled(now_at=NOW + CHECK_AFTER + 2, limit=2)
    assert [OpenReservation(f"run_{number}", EXPIRES + number) for number in range(2)] == taken
    assert ["run_2"] == [each.run_id for each in await budgets.take_unsettled(now_at=NOW + CHECK_AFTER + 2, limit=2)]
    assert [] == await budgets.take_unsettled(now_at=NOW + CHECK_AFTER + 2, limit=2)
    assert 3 == len(await budgets.take_unsettled(now_at=NOW + 2 * CHECK_AFTER + 2, limit=10))


async def test_a_clock_that_is_set_back_hides_no_reservation(store: Store) -> None:
    await store.budgets.reserve("run_1", [charge(1)], now_at=NOW + 10 * CHECK_AFTER, expires_at=EXPIRES)
    assert ["run_1"] == [each.run_id for each in await store.budgets.take_unsettled(now_at=NOW, limit=10)]


async def test_old_windows_are_purged(store: Store) -> None:
    """With the reservations settled as unknown there; an open one never disappears."""
    later = replace(charge(7, account=ALL), ends_at=ENDS + 1000)
    assert await reserve(store, "run_1", charge(60)) is None
    assert await reserve(store, "run_2", charge(20), later) is None
    assert await reserve(store, "run_3", charge(5)) is None
    await settle(store, "run_1", "unknown")
    await settle(store, "run_2", "unknown")
    assert 0 == await store.budgets.purge(ended_before_at=ENDS)
    assert 1 == await store.budgets.purge(ended_before_at=ENDS + 1)
    assert [(0, 0, 0), (0, 0, 7)] == [await sums(store), await sums(store, ALL)]
    await settle(store, "run_1", "spent")
    await settle(store, "run_2", "spent")
    await settle(store, "run_3", "spent")
    assert [(0, 0, 0), (0, 7, 0)] == [await sums(store), await sums(store, ALL)]


@pytest.mark.parametrize("name", sorted(name for name in STORES if not name.startswith("memory")))
async def test_the_ledger_survives_a_restart(name: str, tmp_path: Path, clock: VirtualClock) -> None:
    store = STORES[name](tmp_path, clock)
    await store.open()
    assert await reserve(store, "run_1", charge(60)) is None
    assert await reserve(store, "run_2", charge(20)) is None
    await settle(store, "run_2", "unknown")
    await store.close()
    with pytest.raises(StoreUnavailable):
        await sums(store)
    await store.open()
    assert (60, 0, 20) == await sums(store)
    assert await reserve(store, "run_3", charge(21)) == 0
    await store.close()


async def test_deleted_data_do_not_renew_a_budget(tmp_path: Path, clock: VirtualClock) -> None:
    """FLUSHALL."""
    store = new_redis_store(tmp_path, clock)
    await store.open()
    assert await reserve(store, "run_1", charge(60)) is None
    async with Redis(port=shared_server().port) as server:
        await server.delete(*[key async for key in server.scan_iter(f"{tmp_path}:*")])
    with pytest.raises(StoreReplaced):
        await reserve(store, "run_2", charge(60))
    await store.close()


ACCOUNTS = (SHOP, ALL, Account("third", "2026-W48"))
STEPS = ("reserve", "reserve", "none", "spent", "unknown", "not started")


def _random_charges(choice: random.Random) -> Sequence[Charge]:
    accounts = choice.sample(ACCOUNTS, choice.randint(1, 3))
    amount = choice.choice((1, 30, 60, MAX_AMOUNT - 5))
    earlier = choice.choice((0, 0, min(amount, 7)))
    limits = (None, 90, 100, MAX_AMOUNT)
    return [Charge(account, amount, choice.choice(limits), ENDS, earlier) for account in accounts]


@pytest.mark.parametrize("seed", range(5))
async def test_every_store_keeps_the_same_ledger(store: Store, seed: int) -> None:
    """Random reservations and settlements give the balances of the memory store."""
    choice = random.Random(seed)
    model = MemoryBudgets(lambda: None)
    for _ in range(150):
        run_id, step = f"run_{choice.randint(1, 6)}", choice.choice(STEPS)
        if step == "reserve":
            charges = _random_charges(choice)
            expected = await model.reserve(run_id, charges, now_at=NOW, expires_at=EXPIRES)
            assert expected == await store.budgets.reserve(run_id, charges, now_at=NOW, expires_at=EXPIRES)
        else:
            settled_as: SettledAs = "unknown" if step == "not started" else step  # type: ignore[assignment]
            for each in (model, store.budgets):
                await each.settle([Settlement(run_id, settled_as, last_started=step != "not started")])
        assert await model.get_balances(ACCOUNTS) == await store.budgets.get_balances(ACCOUNTS)
