"""Daily usage in a store: a restart of a process that counts for itself does not renew the daily quotas.

The store counts a request before the request goes on, so that a crash renews nothing either. To avoid one write for
each request of a large quota, the store is a small part of the quota ahead; after a crash that part is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

from gateway.clock import Clock
from gateway.limits.daily_quota import DailyQuota
from gateway.observability.logger_protocol import Logger

Usage: TypeAlias = tuple[int, float]
"""Number of requests, and the end of their day in seconds since 1970."""

_AHEAD_SHARE = 200  # the store is up to 1/200 of a quota ahead
_MAX_AHEAD = 1_000  # requests
_MAX_WAIT = 1.0  # seconds that a request waits for the store


@runtime_checkable
class DailyUsageStore(Protocol):
    """A store that keeps daily usage by client. Its methods raise an exception if it is unavailable."""

    async def get_daily_usage(self) -> dict[str, Usage]:
        """Return what is stored, by client."""

    async def set_daily_usage(self, client: str, usage: Usage) -> None:
        """Store the usage of a client; it is durable when this method returns."""


class DailyUsageRecorder:
    """Records the usage of daily quotas, and restores it. While the store is unavailable, only this process counts."""

    def __init__(self, store: DailyUsageStore, clock: Clock, log: Logger) -> None:
        self._store = store
        self._clock = clock
        self._log = log
        self._usage: dict[str, Usage] = {}
        self._clients: dict[DailyQuota, str] = {}
        self._writes: dict[DailyQuota, asyncio.Task[None]] = {}
        self._failing = False

    async def open(self) -> None:
        """Read the usage before this process. Raises the store's exception."""
        self._usage = await self._store.get_daily_usage()

    async def close(self) -> None:
        """Store the exact usage."""
        await asyncio.gather(*self._writes.values())
        for quota in self._clients:
            await self._write(quota, ahead=0)

    def bind(self, quotas: Mapping[str, DailyQuota]) -> None:
        """Record these quotas from now on, by client. The usage of each new one is restored."""
        for client, quota in quotas.items():
            if quota not in self._clients:
                used, ends_at = self._usage.get(client, (0, 0.0))
                quota.restore(used, ends_at - self._clock.now().timestamp(), self._clock.monotonic())
        self._clients = {quota: client for client, quota in quotas.items()}

    async def record(self, quota: DailyQuota) -> None:
        """Return once the store counts what `quota` has taken, at once if it does already."""
        while (client := self._clients.get(quota)) is not None and quota.record_due:
            if quota not in self._writes:
                self._writes[quota] = asyncio.create_task(self._write_ahead(quota))
            if quota.used <= quota.recorded or self._failing:
                return
            await asyncio.wait([self._writes[quota]], timeout=_MAX_WAIT)
            if quota in self._writes and quota.used > quota.recorded:
                self._fail(client, "it takes too long")

    async def _write_ahead(self, quota: DailyQuota) -> None:
        try:
            await self._write(quota, ahead=min(quota.limit // _AHEAD_SHARE, _MAX_AHEAD))
        finally:
            del self._writes[quota]

    async def _write(self, quota: DailyQuota, *, ahead: int) -> None:
        client, ends_in = self._clients.get(quota), quota.resets_in(self._clock.monotonic())
        if client is None or ends_in <= 0:
            return
        usage = (quota.used + ahead, self._clock.now().timestamp() + ends_in)
        day = quota.day
        try:
            await self._store.set_daily_usage(client, usage)
        except Exception as error:  # noqa: BLE001  # whatever the store raises, requests go on
            self._fail(client, str(error))
            return
        self._failing = False
        self._usage[client] = usage
        if quota.day == day:
            quota.set_recorded(usage[0], refill_below=ahead // 2)

    def _fail(self, client: str, why: str) -> None:
        if not self._failing:
            self._log.warning("daily_usage_not_written", client=client, why=why)
        self._failing = True
