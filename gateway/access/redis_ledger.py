"""The counts that replicas share: what a request takes of them, what it gives back, and whether they can be reached."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from gateway.access.redis_server import Script, ServerLost, Speaker, Word
from gateway.clock import Clock

TAKE, LEAVE, TEND = Script.read("take"), Script.read("leave"), Script.read("tend")
KEYS = "runward:limits:1:"  # 1 is the version of this layout

_MISSED = 1.0  # seconds between two attempts to reach a server that was lost
_SLOTS = 1000  # slots that are renewed at once

How: TypeAlias = Literal["take", "look", "wait"]
"""Take all or nothing; take nothing; take, or stand in line among the replicas."""


@dataclass(frozen=True, slots=True)
class Part:
    """One bucket: its key, its kind ("rate", "daily" or "slots"), two numbers for the script, and who sees its state.

    `words` are the kind and the numbers: of a rate the interval and the tolerance in seconds, of a day the limit, of
    slots their number and 1 where one waits for them. `see` is told the monotonic moment and the script's word about
    what is used.
    """

    key: str
    kind: str
    numbers: tuple[float, float]
    see: Callable[[float, str], None]
    words: tuple[str, str, str] = field(init=False)

    @property
    def waited_for(self) -> bool:
        """Whether they are slots of a workflow or provider."""
        return self.kind == "slots" and self.numbers[1] > 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", (self.kind, *map(repr, self.numbers)))


class Ledger:
    """What this replica says to the server, and the slots that it holds there.

    `shared` says whether the server can be reached; `changed` is called when that has changed.
    """

    def __init__(self, speaker: Speaker, clock: Clock, *, lease: float = 30.0, server_time: bool = True) -> None:
        """A replica that says nothing for `lease` seconds loses its slots; each speaks three times as often.

        Where not by the server's time, by `clock`: for tests.
        """
        self._speaker = speaker
        self._clock = clock
        self._lease = lease
        self._server_time = server_time
        self._held: dict[str, dict[str, Part]] = {}  # the parts of each slot, by their keys
        self._own: Counter[str] = Counter()
        self._tending: asyncio.Task[None] | None = None
        self._number = 0
        self.replica = clock.token(8).hex()
        self.replicas = 1
        self.shared = False
        self.changed: Callable[[], None] = lambda: None

    def new_slot(self) -> str:
        """A name that no other run has."""
        self._number += 1
        return f"{self.replica}:{self._number}"

    async def open(self) -> None:
        """Look for the server, and from now on say every few seconds that this replica lives."""
        await self._tend()
        self._tending = asyncio.get_running_loop().create_task(self._go_on())

    async def close(self) -> None:
        """Say good-bye."""
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        if self.shared:
            self._speaker.run(TEND, [KEYS + "replicas"], [*self._now(), self.replica, 0])
        await self._speaker.close()

    async def ask(self, how: How, slot: str, parts: Sequence[Part]) -> bool:
        """Take every bucket, or none; each is told what is used of it. Whether all were taken.

        Whoever is cancelled takes nothing. Raises ServerLost.
        """
        words: list[Word] = [*self._now(), how, slot, self.replica, self._lease]
        for part in parts:
            words += part.words
        reply = self._speaker.run(TAKE, [part.key for part in parts], words)
        try:
            taken, *used = _words(await asyncio.shield(reply))
        except asyncio.CancelledError:
            reply.add_done_callback(lambda done: self._was_in_vain(done, slot, parts))
            raise
        except ServerLost:
            self._lose()
            raise
        self._see(parts, used)
        if taken == "1":
            self.hold(slot, parts)
        return taken == "1"

    def give_back(self, slot: str, parts: Sequence[Part], then: Callable[[], None] = lambda: None) -> None:
        """Free the slots and take the charges back, as if nothing had been asked for; `then` is called afterwards."""
        self.let_go(slot, parts)
        words: list[Word] = [*self._now(), slot, self._lease]
        for part in parts:
            words += part.words[:2]
        reply = self._speaker.run(LEAVE, [part.key for part in parts], words)

        def given(reply: asyncio.Future[object]) -> None:
            if not reply.cancelled() and reply.exception() is None and self.shared:
                self._see(parts, _words(reply.result()))
            then()

        reply.add_done_callback(given)

    def leave(self, slot: str, parts: Sequence[Part], then: Callable[[], None]) -> None:
        """Free the slots that are `held`; `then` is called when they are."""
        if parts:
            self.give_back(slot, parts, then)

    def hold(self, slot: str, parts: Iterable[Part]) -> None:
        """Remember slots, and renew them from now on."""
        for part in parts:
            if part.kind == "slots":
                self._held.setdefault(slot, {})[part.key] = part
                self._own[part.key] += 1

    def let_go(self, slot: str, parts: Iterable[Part]) -> None:
        """Do not renew them any more."""
        held = self._held.get(slot, {})
        for part in parts:
            if held.pop(part.key, None) is not None:
                self._own[part.key] -= 1
        if not held:
            self._held.pop(slot, None)

    def held(self, slot: str) -> tuple[Part, ...]:
        """What it holds, whatever has become of the configuration since."""
        return tuple(self._held.get(slot, {}).values())

    def own(self, key: str) -> int:
        """How many slots this replica itself holds."""
        return self._own[key]

    def _see(self, parts: Sequence[Part], words: Sequence[str]) -> None:
        now = self._clock.monotonic()
        for part, word in zip(parts, words, strict=True):
            if word:
                part.see(now, word)

    def _was_in_vain(self, reply: asyncio.Future[object], slot: str, parts: Sequence[Part]) -> None:
        if not reply.cancelled() and reply.exception() is None and _words(reply.result())[0] == "1":
            self.give_back(slot, parts)  # who waits for a slot finds it by asking again

    def _now(self) -> tuple[Word, Word]:
        if self._server_time:
            return "", ""
        wall = self._clock.now().timestamp() % 86400
        return repr(self._clock.monotonic()), repr(wall)

    async def _go_on(self) -> None:
        while True:
            await self._clock.sleep(self._lease / 3 if self.shared else _MISSED)
            await self._tend()

    async def _tend(self) -> None:
        held = [(key, slot) for slot, keys in self._held.items() for key in keys]
        try:
            for first in range(0, max(1, len(held)), _SLOTS):
                # What was left in the meantime is not taken anew; what is left from here on is said after this.
                some = [(key, slot) for key, slot in held[first : first + _SLOTS] if key in self._held.get(slot, ())]
                keys, slots = [key for key, _ in some], [slot for _, slot in some]
                words = [*self._now(), self.replica, self._lease, *slots]
                self.replicas = max(1, cast("int", await self._speaker.run(TEND, [KEYS + "replicas", *keys], words)))
        except ServerLost:
            self._lose()
        else:
            if not self.shared:
                self.shared = True
                self.changed()

    def _lose(self) -> None:
        if self.shared:
            self.shared = False
            self.changed()


def _words(reply: object) -> list[str]:
    """A script's reply, as text."""
    return [str(word, "ascii") if isinstance(word, bytes) else str(word) for word in cast("list[object]", reply)]
