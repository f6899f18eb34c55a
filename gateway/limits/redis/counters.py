"""Counters shared by replicas: one round trip to a Redis or Valkey server for all parts of a request.

The server counts every rate, daily quota and slot over all replicas. While it cannot be reached, each replica counts
for itself, up to its share of every limit by the last known number of replicas. Slots are leases: a heartbeat renews
them, and the slots of a replica without heartbeat are freed. The wait queues stay local to each replica.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

from gateway.clock import Clock
from gateway.limits.client_limiter import ClientLimiter
from gateway.limits.config import LimitsConfig
from gateway.limits.counters import LocalCounters, Part, Parts, TakeMode, TakeResult
from gateway.limits.gcra import RateLimiter
from gateway.limits.redis.counter_bindings import KEY_PREFIX, RedisCounter, counters_of
from gateway.limits.redis.outage_usage import Charge, OutageUsage
from gateway.limits.resource_limiter import ResourceLimiter
from gateway.observability.logger_protocol import Logger
from gateway.redis.errors import RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply, RedisScript
from gateway.redis.pipeline import ScriptConnection, ScriptPipeline

_LUA_DIRECTORY = Path(__file__).parent / "lua"
_RECONNECT_INTERVAL = 1.0  # seconds between attempts to reach a lost server
_MAX_BATCH = 500  # scripts in one round trip
_RENEW_BATCH = 1000  # slots renewed by one script
_CHARGE_BATCH = 500  # counters charged by one script


def _load(name: str) -> RedisScript:
    return RedisScript.from_text("".join((_LUA_DIRECTORY / f"{part}.lua").read_text() for part in ("prelude", name)))


ACQUIRE, RELEASE, HEARTBEAT, CHARGE = _load("acquire"), _load("release"), _load("heartbeat"), _load("charge")


@dataclass(frozen=True, slots=True)
class _Plan:
    """Split of parts: `counters` are in the server; slots of `local_slots`, which have no limit, in this process."""

    counters: tuple[RedisCounter, ...]
    local_slots: Parts


class RedisCounters:
    """`Counters` in a server, with the slots that this replica holds there. `fallback` counts while it is lost.

    `lease`: seconds without heartbeat after which a replica's slots are freed; it sends three heartbeats in that time.
    `on_shared_change` is called with 1 when the server starts to count, and with 0 when it is lost. Time is the
    server's, so the clocks of replicas may differ; `server_time=False` uses `clock`, for tests.
    """

    def __init__(
        self,
        connection: ScriptConnection,
        clock: Clock,
        log: Logger,
        *,
        fallback: LocalCounters | None = None,
        on_shared_change: Callable[[int], None] = lambda _: None,
        lease: float = 30.0,
        server_time: bool = True,
    ) -> None:
        self._connection = connection
        self._pipeline = ScriptPipeline(connection, lanes=1, max_batch=_MAX_BATCH)
        self._clock = clock
        self._log = log
        self._fallback = fallback or LocalCounters()
        self._on_shared_change = on_shared_change
        self._lease = lease
        self._server_time = server_time
        self._counters: dict[Part, tuple[RedisCounter, ...]] = {}
        self._plans: dict[Parts, _Plan] = {}
        self._held: dict[str, dict[str, RedisCounter]] = {}  # slot id -> key -> counter
        self._own_counts: Counter[str] = Counter()  # slots held by this replica, by key
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._outage: OutageUsage | None = None
        self._sequence = 0
        self._replica_id = clock.token(8).hex()
        self.replica_count = 1
        self.shared = False
        self.on_change: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        """True if no script is queued or in flight."""
        return self._pipeline.idle

    async def open(self) -> None:
        """Connect to the server and start the heartbeat."""
        await self.renew_leases()
        if not self.shared:
            self._report_change()
        self._heartbeat_task = asyncio.get_running_loop().create_task(self._heartbeat_loop())

    async def close(self) -> None:
        """Sign off. Slots that are still held are freed when their leases end."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
            await asyncio.wait([self._heartbeat_task])
        if self.shared:
            self._pipeline.submit(HEARTBEAT, [KEY_PREFIX + "replicas"], [*self._time_arguments(), self._replica_id, 0])
        await self._pipeline.close()
        await self._connection.close()

    def new_slot_id(self) -> str:
        """Return an id that no other run of any replica has."""
        self._sequence += 1
        return f"{self._replica_id}:{self._sequence}"

    def effective_config(self, config: LimitsConfig) -> LimitsConfig:
        """Return all of `config` while the server counts, else the share of this replica."""
        return config if self.shared else config.per_replica(self.replica_count)

    def register(self, limiters: Mapping[str, ClientLimiter | ResourceLimiter]) -> None:
        """Count these limiters from now on, and their rates alone."""
        self._plans = {}
        self._counters = {}
        for name, limiter in limiters.items():
            self._add(name, limiter)

    def register_one(self, name: str, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Count one more limiter from now on, or one with other limits than before."""
        self._plans = {}
        self._add(name, limiter)

    def unregister(self, limiter: ClientLimiter | ResourceLimiter) -> None:
        """Count a limiter no longer; it holds no slot."""
        self._plans = {}
        self._counters.pop(limiter, None)
        self._counters.pop(limiter.rate_limiter, None)

    def try_take(self, slot_id: str, parts: Parts, mode: TakeMode, now: float) -> TakeResult | Awaitable[TakeResult]:
        """Take every part or none: in the server, or by the fallback while it is lost or nothing is limited."""
        plan = self._plan(parts)
        if self.shared and plan.counters:
            return self._take_shared(slot_id, plan, mode)
        result = self._fallback.try_take(slot_id, parts, mode, now)
        if result is TakeResult.TAKEN:
            self._track(slot_id, plan.counters)
        return result

    def give_back(self, slot_id: str, parts: Parts, on_done: Callable[[], None], *, refund: bool = False) -> None:
        """Free the slots of `parts`, with `refund` also their charges; then call `on_done`."""
        held = [counter for counter in self._held.get(slot_id, {}).values() if counter.part in parts]
        self._untrack(slot_id, held)
        if not self.shared:
            self._fallback.give_back(slot_id, parts, on_done, refund=refund)
            return
        in_server = {counter.part for counter in held}
        for part in parts:
            if part not in in_server:
                part.release()
        charges = [counter for counter in self._plan(parts).counters if counter.kind != "slots"] if refund else []
        if charges or held:
            self._release(slot_id, (*charges, *held), on_done)
        else:
            on_done()

    async def renew_leases(self) -> None:
        """Send a heartbeat: renew the leases of this replica and of all slots that it holds."""
        held = [(key, slot_id) for slot_id, keys in self._held.items() for key in keys]
        try:
            for first in range(0, max(1, len(held)), _RENEW_BATCH):
                # Without the slots freed since `held` was made: a later release is sent after this script.
                batch = held[first : first + _RENEW_BATCH]
                some = [(key, slot) for key, slot in batch if key in self._held.get(slot, ())]
                keys, slots = [key for key, _ in some], [slot for _, slot in some]
                arguments = [*self._time_arguments(), self._replica_id, self._lease, *slots]
                replicas = await self._pipeline.submit(HEARTBEAT, [KEY_PREFIX + "replicas", *keys], arguments)
                self.replica_count = max(1, cast("int", replicas))
        except RedisUnavailable:
            self._set_shared(shared=False)
        else:
            self._set_shared(shared=True)

    def _add(self, name: str, limiter: ClientLimiter | ResourceLimiter) -> None:
        counters = counters_of(name, limiter)
        self._counters[limiter] = counters
        self._counters[limiter.rate_limiter] = tuple(counter for counter in counters if counter.kind == "rate")

    def _plan(self, parts: Parts) -> _Plan:
        plan = self._plans.get(parts)
        if plan is None:
            counters = tuple(chain.from_iterable(self._counters.get(part, ()) for part in parts))
            with_slots = {counter.part for counter in counters if counter.kind == "slots"}
            plan = _Plan(counters, tuple(part for part in parts if part not in with_slots))
            if all(part in self._counters for part in parts):  # so the size is bounded by the configuration
                self._plans[parts] = plan
        return plan

    async def _take_shared(self, slot_id: str, plan: _Plan, mode: TakeMode) -> TakeResult:
        counters = plan.counters
        arguments: list[RedisArgument] = [*self._time_arguments(), mode, slot_id, self._replica_id, self._lease]
        for counter in counters:
            arguments += counter.arguments
        reply = self._pipeline.submit(ACQUIRE, [counter.key for counter in counters], arguments)
        try:
            taken, *usage = _decode_reply(await asyncio.shield(reply))
        except asyncio.CancelledError:
            reply.add_done_callback(lambda done: self._release_cancelled(done, slot_id, counters))
            raise
        except RedisUnavailable:
            self._set_shared(shared=False)
            return TakeResult.UNAVAILABLE
        self._update(counters, usage)
        if taken != "1":
            return TakeResult.BLOCKED
        self._track(slot_id, counters)
        for part in plan.local_slots:
            part.take_slot()
        return TakeResult.TAKEN

    def _release_cancelled(
        self, reply: asyncio.Future[RedisReply], slot_id: str, counters: Sequence[RedisCounter]
    ) -> None:
        if not reply.cancelled() and reply.exception() is None and _decode_reply(reply.result())[0] == "1":
            self._release(slot_id, counters, lambda: None)  # waiting requests ask for the slot again

    def _release(self, slot_id: str, counters: Sequence[RedisCounter], on_done: Callable[[], None]) -> None:
        """Free the slots, and take the charges of the other counters back, in the server."""
        arguments: list[RedisArgument] = [*self._time_arguments(), slot_id, self._lease]
        for counter in counters:
            arguments += counter.arguments[:2]
        reply = self._pipeline.submit(RELEASE, [counter.key for counter in counters], arguments)

        def on_reply(reply: asyncio.Future[RedisReply]) -> None:
            self._update_from(counters, reply)
            on_done()

        reply.add_done_callback(on_reply)

    def _track(self, slot_id: str, counters: Iterable[RedisCounter]) -> None:
        """Remember slots, and renew their leases from now on."""
        for counter in counters:
            if counter.kind == "slots":
                self._held.setdefault(slot_id, {})[counter.key] = counter
                self._own_counts[counter.key] += 1

    def _untrack(self, slot_id: str, counters: Iterable[RedisCounter]) -> None:
        """Do not renew the leases of these slots any more."""
        held = self._held.get(slot_id, {})
        for counter in counters:
            if held.pop(counter.key, None) is not None:
                self._own_counts[counter.key] -= 1
        if not held:
            self._held.pop(slot_id, None)

    def _update(self, counters: Sequence[RedisCounter], usage: Sequence[str]) -> None:
        now = self._clock.monotonic()
        for counter, value in zip(counters, usage, strict=True):
            if value:
                counter.update(now, value)

    def _time_arguments(self) -> tuple[RedisArgument, RedisArgument]:
        if self._server_time:
            return "", ""
        wall = self._clock.now().timestamp() % 86400
        return repr(self._clock.monotonic()), repr(wall)

    async def _heartbeat_loop(self) -> None:
        while True:
            await self._clock.sleep(self._lease / 3 if self.shared else _RECONNECT_INTERVAL)
            await self.renew_leases()

    def _set_shared(self, *, shared: bool) -> None:
        if self.shared == shared:
            return
        outage, self._outage = self._outage, None
        charges = {} if outage is None else outage.charges(self._charged_counters(), self._clock.monotonic())
        self.shared = shared
        self._report_change()
        self._charge(charges)

    def _report_change(self) -> None:
        for counter in chain.from_iterable(self._counters.values()):
            if counter.kind == "slots":  # a replica that counts for itself knows only its own slots
                counter.update(0.0, str(self._own_counts[counter.key]))
        if not self.shared:
            self._outage = OutageUsage(self._charged_counters())
        self.on_change()
        if self._outage is not None:
            self._outage.begin(self._charged_counters())
        self._on_shared_change(int(self.shared))
        if self.shared:
            self._log.info("limits_shared", replicas=self.replica_count)
        else:
            self._log.warning("limits_local", replicas=self.replica_count)

    def _charged_counters(self) -> list[RedisCounter]:
        """Return the rates and daily quotas."""
        by_limiter = (found for part, found in self._counters.items() if not isinstance(part, RateLimiter))
        return [counter for counter in chain.from_iterable(by_limiter) if counter.kind != "slots"]

    def _charge(self, charges: Mapping[str, Charge]) -> None:
        """Charge usage that the server has not seen. Scripts submitted later see it."""
        counters = [counter for counter in self._charged_counters() if counter.key in charges]
        for first in range(0, len(counters), _CHARGE_BATCH):
            batch = counters[first : first + _CHARGE_BATCH]
            arguments: list[RedisArgument] = [*self._time_arguments()]
            for counter in batch:
                arguments += (*counter.arguments, *map(repr, charges[counter.key]))
            reply = self._pipeline.submit(CHARGE, [counter.key for counter in batch], arguments)
            reply.add_done_callback(partial(self._update_from, batch))

    def _update_from(self, counters: Sequence[RedisCounter], reply: asyncio.Future[RedisReply]) -> None:
        """Update the local copies from the reply of a script; an error of the server shows in the next heartbeat."""
        if not reply.cancelled() and reply.exception() is None and self.shared:
            self._update(counters, _decode_reply(reply.result()))


def _decode_reply(reply: RedisReply) -> list[str]:
    """Return a script's reply as text."""
    return [str(item, "ascii") if isinstance(item, bytes) else str(item) for item in reply]
