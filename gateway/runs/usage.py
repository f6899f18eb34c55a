"""Usage of runs, as the store counts it, and that of runs without a record, which is written by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import TypeAlias

from gateway.clock import Clock
from gateway.runs.model import ApiName, RunRecord
from gateway.runs.prices import cost_of
from gateway.store.contract import Store
from gateway.store.usage import OTHERS, RunUsage, UsageBatch, add_up_counts

DAY = 86_400
"""Seconds."""
_MAX_DIFFERENT = 10_000  # pending usages, before those of rare workflows, keys and tags are counted together
_ROWS = 500  # rows of one batch


def usage_of(run: RunRecord) -> RunUsage:
    """Return the usage of a run that has ended."""
    spec, day = run.spec, int(run.created_at.timestamp() // DAY)
    if run.status == "succeeded" and not spec.tags:  # most runs: one look-up
        facts = spec.client, spec.workflow, run.provider, spec.api, spec.team, spec.key_id, run.price, run.maybe_paid
        return usage_of_success(day, facts)
    cost = run.cost()
    return RunUsage(
        day,
        spec.client,
        spec.workflow,
        run.provider,
        spec.api,
        run.status,
        spec.team or "",
        spec.key_id or "",
        spec.tags,
        cost.spent,
        cost.unknown,
    )


SuccessFacts: TypeAlias = tuple[str, str, str, ApiName, str | None, str | None, int | None, int]
"""Of a run that succeeded: its client, workflow, provider, API, team, key, price and `maybe_paid`."""


@lru_cache(maxsize=1024)
def usage_of_success(day: int, facts: SuccessFacts) -> RunUsage:
    """Return `usage_of` a run without tags that succeeded; most have that of another run, so this is one look-up.

    `day`: days since 1970.
    """
    client, workflow, provider, api, team, key, price, maybe_paid = facts
    cost = cost_of("succeeded", price, maybe_paid)
    values = client, workflow, provider, api, "succeeded", team or "", key or ""
    return RunUsage(day, *values, spent=cost.spent, unknown=cost.unknown)


@dataclass(slots=True)
class UnrecordedUsage:
    """Usage of runs of this process that have no record: none is kept, or it was dropped.

    It takes little memory, however many runs there are, so that it can wait for the store.
    """

    store: Store
    clock: Clock
    _counts: dict[RunUsage, int] = field(default_factory=dict)
    _batches: deque[UsageBatch] = field(default_factory=deque)  # each is repeated until the store has it
    _writer: str = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self._writer = self.clock.token(8).hex()

    def count(self, usage: RunUsage) -> None:
        """Count a run."""
        if usage not in self._counts and len(self._counts) >= _MAX_DIFFERENT:
            key, tags = usage.key and OTHERS, (OTHERS,) if usage.tags else ()
            usage = usage._replace(workflow=OTHERS, key=key, tags=tags)
        self._counts[usage] = self._counts.get(usage, 0) + 1

    def count_all(self, usages: Iterable[RunUsage | None]) -> None:
        """Count runs; None is no run."""
        for usage in usages:
            if usage is not None:
                self.count(usage)

    async def write(self) -> None:
        """Write what is pending. Raises StoreUnavailable; then it stays pending."""
        while self._counts or self._batches:
            if not self._batches:
                self._make_batches()
            await self.store.usage.add(self._batches[0], now_at=self.clock.now().timestamp())
            self._batches.popleft()

    def _make_batches(self) -> None:
        rows = iter(add_up_counts(self._counts).items())
        self._counts = {}
        while batch := tuple(islice(rows, _ROWS)):
            self._number += 1
            self._batches.append(UsageBatch(self._writer, self._number, batch))
