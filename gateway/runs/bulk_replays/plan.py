"""Plan of a bulk replay: which runs it replays, which it leaves out and why. Nothing is started."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, cast

from gateway.errors import ReplayRefused
from gateway.json import strict_json
from gateway.runs.durable.codec import decode_details
from gateway.runs.run_replay import check_replayable, replay_id
from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import RunFilter

MAX_RUNS = 10_000
"""Runs of one plan."""
WINDOW = 7 * 86_400.0
"""Seconds before now in which runs were created that a filter without `created_after` selects."""

_PAGE = 500  # runs
_MAX_PAGES = 200  # of a search; each examines at most `RunFilter.max_examined` runs
_LOOK_UPS = 50  # at once


PriceOf: TypeAlias = Callable[[str, str | None, int | None], int | None]
"""Returns the declared price of a start in micros, by workflow, label and version; None without one."""


def no_price(_workflow: str, _label: str | None, _version: int | None) -> int | None:
    """Return None."""
    return None


class PlanStore(Protocol):
    """The part of `Store` that a plan is made from. Every method may raise StoreUnavailable."""

    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        """See `Store.list_runs`."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """See `Store.get_overview`."""


@dataclass(slots=True)
class ReplayPlan:
    """Runs to be replayed, oldest first, each with the status for which it was selected.

    `left_out`: numbers of other selected runs by reason, which is an error code, `already_replayed` or `succeeded`.
    `truncated`: there may be more runs than were examined. `selection`: hash of the request that the plan was made for.
    `rate`: starts a second. `prices`: the declared price of each run, in the order of `runs`, as `price_of` tells.
    """

    include_unknown: bool
    rate: float
    selection: str
    runs: list[tuple[str, str]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    truncated: bool = False
    prices: list[int | None] = field(default_factory=list)
    price_of: PriceOf = no_price

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs to be replayed by their outcome."""
        counted = Counter(status for _, status in self.runs)
        return {outcome: counted[outcome] for outcome in ("not_run", "failed", "succeeded", "unknown")}

    @property
    def price_sums(self) -> dict[str, int]:
        """Sum of the declared prices, in micros, by outcome."""
        sums = dict.fromkeys(self.counts, 0)
        for (_, status), price in zip(self.runs, self.prices, strict=False):
            sums[status] += price or 0
        return sums

    @property
    def unpriced(self) -> int:
        """Number of runs without a declared price."""
        return len(self.runs) - sum(price is not None for price in self.prices)

    def encode(self) -> bytes:
        """Return the plan as the store keeps it."""
        names = ("include_unknown", "rate", "selection", "runs", "left_out", "truncated", "prices")
        return strict_json.write({name: getattr(self, name) for name in names})


def decode_plan(text: bytes) -> ReplayPlan:
    """Return a stored plan."""
    members = cast("dict[str, Any]", strict_json.read_stored(text))
    runs = [(run_id, status) for run_id, status in members.pop("runs")]
    return ReplayPlan(runs=runs, left_out=Counter(members.pop("left_out")), **members)


async def add_ids(plan: ReplayPlan, store: PlanStore, run_ids: Sequence[str]) -> None:
    """Add the runs with these ids, in this order, or the reasons why not. Raises StoreUnavailable."""
    distinct = list(dict.fromkeys(run_ids))
    found = await _look_up(store, distinct)
    plan.left_out["not_found"] += len(distinct) - len(found)
    await _add(plan, store, [found[run_id] for run_id in distinct if run_id in found])
    plan.left_out = +plan.left_out


async def add_found(plan: ReplayPlan, store: PlanStore, run_filter: RunFilter, now_at: float) -> None:
    """Add the runs of a filter that were created until now. Raises StoreUnavailable.

    Runs that have succeeded are left out, unless the filter asks for that status.
    """
    until = now_at if run_filter.created_until is None else min(run_filter.created_until, now_at)
    since = now_at - WINDOW if run_filter.created_from is None else run_filter.created_from
    search = replace(run_filter, limit=_PAGE, created_from=since, created_until=until)
    for _ in range(_MAX_PAGES):
        page = await store.list_runs(search)
        selected = page.runs
        if run_filter.status != "succeeded":
            selected = [run for run in page.runs if run.status != "succeeded"]
            plan.left_out["succeeded"] += len(page.runs) - len(selected)
        await _add(plan, store, selected)
        last = page.runs[-1] if len(page.runs) == _PAGE else None
        position = page.stopped_at if last is None else (last.created_at, last.id)
        plan.truncated = position is not None or len(plan.runs) > MAX_RUNS
        if position is None or len(plan.runs) > MAX_RUNS:
            break
        search = replace(search, before=position)
    plan.runs, plan.prices = plan.runs[:MAX_RUNS][::-1], plan.prices[:MAX_RUNS][::-1]
    plan.left_out = +plan.left_out


async def _add(plan: ReplayPlan, store: PlanStore, runs: Sequence[RunOverview]) -> None:
    candidates = []
    for run in runs:
        try:
            check_replayable(run, include_unknown=plan.include_unknown)
        except ReplayRefused as refusal:
            plan.left_out[refusal.code] += 1
        else:
            candidates.append(run)
    replayed = await _look_up(store, [replay_id(run.id) for run in candidates])
    plan.left_out["already_replayed"] += len(replayed)
    for run in candidates:
        if replay_id(run.id) not in replayed:
            plan.runs.append((run.id, run.status))
            plan.prices.append(_price_of(run, plan.price_of))


def _price_of(run: RunOverview, price_of: PriceOf) -> int | None:
    details = decode_details(run)
    label, version = details.get("label"), details.get("version")
    return price_of(
        run.workflow, label if isinstance(label, str) else None, version if isinstance(version, int) else None
    )


async def _look_up(store: PlanStore, run_ids: Sequence[str]) -> Mapping[str, RunOverview]:
    found: dict[str, RunOverview] = {}
    for first in range(0, len(run_ids), _LOOK_UPS):
        part = run_ids[first : first + _LOOK_UPS]
        for run in await asyncio.gather(*(store.get_overview(run_id) for run_id in part)):
            if run is not None:
                found[run.id] = run
    return found
