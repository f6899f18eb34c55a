"""The counts that replicas share: what a request takes of them, what it gives back, and whether they can be reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, cast

from gateway.clock import Clock
from gateway.redis.errors import RedisUnavailable
from gateway.redis.pipeline import ScriptConnection, ScriptPipeline
from gateway.redis.script import RedisArgument, RedisReply, RedisScript

_LUA_DIRECTORY = Path(__file__).parent / "lua"


def _load(name: str) -> RedisScript:
    return RedisScript.from_text("".join((_LUA_DIRECTORY / f"{part}.lua").read_text() for part in ("prelude", name)))


ACQUIRE, RELEASE, HEARTBEAT = _load("acquire"), _load("release"), _load("heartbeat")
KEY_PREFIX = "runward:limits:1:"  # 1 is the version of this layout

_RECONNECT_INTERVAL = 1.0  # seconds between two attempts to reach a server that was lost
_MAX_BATCH = 500  # scripts in one round trip
_RENEW_BATCH = 1000  # slots that are renewed at once

AcquireMode: TypeAlias = Literal["take", "peek", "reserve"]
"""Take all or nothing; take nothing; take, or stand in line among the replicas."""


@dataclass(frozen=True, slots=True)
class RedisCounter:
    """One bucket: its key, its kind ("rate", "daily" or "slots"), two numbers for the script, and who sees its state.

    `words` are the kind and the numbers: of a rate the interval and the tolerance in seconds, of a day the limit, of
    slots their number and 1 where one waits for them. `see` is told the monotonic moment and the script's word about
    what is used.
    """

    key: str
    kind: str
    parameters: tuple[float, float]
    update: Callable[[float, str], None]
    arguments: tuple[str, str, str] = field(init=False)

    @property
    def counts_shared_slots(self) -> bool:
        """Whether they are slots of a workflow or provider."""
        return self.kind == "slots" and self.parameters[1] > 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", (self.kind, *map(repr, self.parameters)))


class RedisCounters:
    """What this replica says to the server, and the slots that it holds there.

    `shared` says whether the server can be reached; `changed` is called when that has changed.
    """

    def __init__(
        self, connection: ScriptConnection, clock: Clock, *, lease: float = 30.0, server_time: bool = True
    ) -> None:
        """A replica that says nothing for `lease` seconds loses its slots; each speaks three times as often.

        Where not by the server's time, by `clock`: for tests.
        """
        self._connection = connection
        self._pipeline = ScriptPipeline(connection, lanes=1, max_batch=_MAX_BATCH)
        self._clock = clock
        self._lease = lease
        self._server_time = server_time
        self._held_slots: dict[str, dict[str, RedisCounter]] = {}  # the parts of each slot, by their keys
        self._own_counts: Counter[str] = Counter()
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._sequence = 0
        self.replica_id = clock.token(8).hex()
        self.replica_count = 1
        self.connected = False
        self.on_change: Callable[[], None] = lambda: None

    def new_slot_id(self) -> str:
        """A name that no other run has."""
        self._sequence += 1
        return f"{self.replica_id}:{self._sequence}"

    async def open(self) -> None:
        """Look for the server, and from now on say every few seconds that this replica lives."""
        await self._renew_leases()
        self._heartbeat_task = asyncio.get_running_loop().create_task(self._heartbeat_loop())

    async def close(self) -> None:
        """Say good-bye."""
        if self._heartbeat_task is not None:
            self._heartbeat_task.cancel()
            await asyncio.wait([self._heartbeat_task])
        if self.connected:
            self._pipeline.submit(HEARTBEAT, [KEY_PREFIX + "replicas"], [*self._time_arguments(), self.replica_id, 0])
        await self._pipeline.close()
        await self._connection.close()

    async def try_acquire(self, mode: AcquireMode, slot_id: str, counters: Sequence[RedisCounter]) -> bool:
        """Take every bucket, or none; each is told what is used of it. Whether all were taken.

        Whoever is cancelled takes nothing. Raises ServerLost.
        """
        arguments: list[RedisArgument] = [*self._time_arguments(), mode, slot_id, self.replica_id, self._lease]
        for counter in counters:
            arguments += counter.arguments
        reply = self._pipeline.submit(ACQUIRE, [counter.key for counter in counters], arguments)
        try:
            taken, *used = _decode_reply(await asyncio.shield(reply))
        except asyncio.CancelledError:
            reply.add_done_callback(lambda done: self._release_cancelled(done, slot_id, counters))
            raise
        except RedisUnavailable:
            self._mark_disconnected()
            raise
        self._update(counters, used)
        if taken == "1":
            self.track(slot_id, counters)
        return taken == "1"

    def release(
        self, slot_id: str, counters: Sequence[RedisCounter], on_done: Callable[[], None] = lambda: None
    ) -> None:
        """Free the slots and take the charges back, as if nothing had been asked for; `then` is called afterwards."""
        self.untrack(slot_id, counters)
        arguments: list[RedisArgument] = [*self._time_arguments(), slot_id, self._lease]
        for counter in counters:
            arguments += counter.arguments[:2]
        reply = self._pipeline.submit(RELEASE, [counter.key for counter in counters], arguments)

        def on_reply(reply: asyncio.Future[RedisReply]) -> None:
            if not reply.cancelled() and reply.exception() is None and self.connected:
                self._update(counters, _decode_reply(reply.result()))
            on_done()

        reply.add_done_callback(on_reply)

    def release_slots(self, slot_id: str, counters: Sequence[RedisCounter], on_done: Callable[[], None]) -> None:
        """Free the slots that are `held`; `then` is called when they are."""
        if counters:
            self.release(slot_id, counters, on_done)

    def track(self, slot_id: str, counters: Iterable[RedisCounter]) -> None:
        """Remember slots, and renew them from now on."""
        for counter in counters:
            if counter.kind == "slots":
                self._held_slots.setdefault(slot_id, {})[counter.key] = counter
                self._own_counts[counter.key] += 1

    def untrack(self, slot_id: str, counters: Iterable[RedisCounter]) -> None:
        """Do not renew them any more."""
        held = self._held_slots.get(slot_id, {})
        for counter in counters:
            if held.pop(counter.key, None) is not None:
                self._own_counts[counter.key] -= 1
        if not held:
            self._held_slots.pop(slot_id, None)

    def held_slots(self, slot_id: str) -> tuple[RedisCounter, ...]:
        """What it holds, whatever has become of the configuration since."""
        return tuple(self._held_slots.get(slot_id, {}).values())

    def own_count(self, key: str) -> int:
        """How many slots this replica itself holds."""
        return self._own_counts[key]

    def _update(self, counters: Sequence[RedisCounter], values: Sequence[str]) -> None:
        now = self._clock.monotonic()
        for counter, value in zip(counters, values, strict=True):
            if value:
                counter.update(now, value)

    def _release_cancelled(
        self, reply: asyncio.Future[RedisReply], slot_id: str, counters: Sequence[RedisCounter]
    ) -> None:
        if not reply.cancelled() and reply.exception() is None and _decode_reply(reply.result())[0] == "1":
            self.release(slot_id, counters)  # who waits for a slot finds it by asking again

    def _time_arguments(self) -> tuple[RedisArgument, RedisArgument]:
        if self._server_time:
            return "", ""
        wall = self._clock.now().timestamp() % 86400
        return repr(self._clock.monotonic()), repr(wall)

    async def _heartbeat_loop(self) -> None:
        while True:
            await self._clock.sleep(self._lease / 3 if self.connected else _RECONNECT_INTERVAL)
            await self._renew_leases()

    async def _renew_leases(self) -> None:
        held = [(key, slot_id) for slot_id, keys in self._held_slots.items() for key in keys]
        try:
            for first in range(0, max(1, len(held)), _RENEW_BATCH):
                # What was left in the meantime is not taken anew; what is left from here on is said after this.
                some = [
                    (key, slot)
                    for key, slot in held[first : first + _RENEW_BATCH]
                    if key in self._held_slots.get(slot, ())
                ]
                keys, slots = [key for key, _ in some], [slot for _, slot in some]
                arguments = [*self._time_arguments(), self.replica_id, self._lease, *slots]
                self.replica_count = max(
                    1, cast("int", await self._pipeline.submit(HEARTBEAT, [KEY_PREFIX + "replicas", *keys], arguments))
                )
        except RedisUnavailable:
            self._mark_disconnected()
        else:
            if not self.connected:
                self.connected = True
                self.on_change()

    def _mark_disconnected(self) -> None:
        if self.connected:
            self.connected = False
            self.on_change()


def _decode_reply(reply: object) -> list[str]:
    """A script's reply, as text."""
    return [str(item, "ascii") if isinstance(item, bytes) else str(item) for item in cast("list[object]", reply)]
