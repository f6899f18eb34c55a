"""Recovery of callbacks: those that were given up, of runs that ended since a time, are delivered again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from gateway.outbound.webhook.callback_url import receiver_host
from gateway.runs.callbacks.dispatcher import GAVE_UP
from gateway.store.records import RunOverview

MAX_CALLBACKS = 1_000
"""Callbacks that one request makes due."""

_MAX_EXAMINED = 50_000
_PAGE = 500
_LOOK_UPS = 50  # at once
_MAX_HOSTS = 50


class RecoveryStore(Protocol):
    """The part of `Store` that a recovery needs. Every method may raise StoreUnavailable."""

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.list_by_callback_state`."""

    async def get_overview(self, run_id: str) -> RunOverview | None:
        """See `Store.get_overview`."""

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver_callback`."""


@dataclass(slots=True)
class CallbackRecovery:
    """Callbacks to be delivered again. `more`: there may be others, which a repetition finds.

    `hosts`: their numbers by host of the receiver; of many hosts the first ones by number.
    """

    run_ids: list[str] = field(default_factory=list)
    hosts: Counter[str] = field(default_factory=Counter)
    more: bool = False

    def top_hosts(self) -> Iterator[tuple[str, int]]:
        """Yield hosts with their numbers, the most frequent first."""
        yield from self.hosts.most_common(_MAX_HOSTS)


async def plan_recovery(store: RecoveryStore, since_at: float, host: str | None = None) -> CallbackRecovery:
    """Return the given-up callbacks of runs that ended at or after `since_at` (seconds since 1970).

    `host`: of this receiver only. At most MAX_CALLBACKS; nothing is changed. Raises StoreUnavailable.
    """
    found, after, examined = CallbackRecovery(), "", 0
    while True:
        page = await store.list_by_callback_state(GAVE_UP, limit=_PAGE, after=after)
        for start in range(0, len(page), _LOOK_UPS):
            ids = page[start : start + _LOOK_UPS]
            for run in await asyncio.gather(*map(store.get_overview, ids)):
                if run is not None and _matches(run, since_at, host):
                    if len(found.run_ids) == MAX_CALLBACKS:
                        found.more = True
                        return found
                    found.run_ids.append(run.id)
                    found.hosts[receiver_host(run.callback_url or "")] += 1
        examined += len(page)
        if len(page) < _PAGE:
            return found
        if examined >= _MAX_EXAMINED:
            found.more = True
            return found
        after = page[-1]


async def recover(store: RecoveryStore, planned: CallbackRecovery, now_at: float) -> int:
    """Make the callbacks due now, with their whole schedule; returns their number. Raises StoreUnavailable."""
    due = 0
    for start in range(0, len(planned.run_ids), _LOOK_UPS):
        ids = planned.run_ids[start : start + _LOOK_UPS]
        due += sum(await asyncio.gather(*(store.redeliver_callback(run_id, now_at=now_at) for run_id in ids)))
    return due


def _matches(run: RunOverview, since_at: float, host: str | None) -> bool:
    ended_at = run.finished_at or run.created_at
    return ended_at >= since_at and (host is None or receiver_host(run.callback_url or "") == host)
