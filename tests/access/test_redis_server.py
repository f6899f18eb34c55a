"""What is said to the server: in order, many at once, and nobody waits longer than the link does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway.access.redis_ledger import LEAVE, TAKE
from gateway.access.redis_server import ServerLost, Speaker, Word


@dataclass
class Listener:
    """A link that writes down what it hears. It answers when it is `let`, or as `fails` has it."""

    heard: list[list[Sequence[Word]]] = field(default_factory=list)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    knows: bool = True
    fails: Exception | None = None

    async def say(self, *commands: Sequence[Word]) -> list[object]:
        """See `Link.say`."""
        self.heard.append(list(commands))
        await self.let.wait()
        if self.fails is not None:
            raise self.fails
        if not self.knows and commands[0][0] == "EVALSHA":
            return [RuntimeError("NOSCRIPT No matching script.") for _ in commands]
        return [command[-1] for command in commands]

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_gathers_meanwhile_is_said_at_once_and_in_order() -> None:
    link = Listener()
    speaker = Speaker(link)
    first = speaker.run(TAKE, ["k"], [1])
    await asyncio.sleep(0)
    rest = [speaker.run(script, ["k"], [n]) for n, script in enumerate((LEAVE, TAKE, LEAVE), 2)]
    link.let.set()
    assert [1, 2, 3, 4] == await asyncio.gather(first, *rest)
    assert [[TAKE.sha], [LEAVE.sha, TAKE.sha, LEAVE.sha]] == [[said[1] for said in batch] for batch in link.heard]
    assert ("EVALSHA", TAKE.sha, 1, "k", 1) == link.heard[0][0]


async def test_a_server_that_does_not_know_a_script_is_told_it() -> None:
    link = Listener(knows=False)
    link.let.set()
    assert 7 == await Speaker(link).run(TAKE, ["k"], [7])
    assert ("EVAL", TAKE.text, 1, "k", 7) == link.heard[1][0]


async def test_when_the_server_is_lost_all_who_wait_hear_it_at_once() -> None:
    """A thousand behind a server that hangs wait for one time-out, not for one each."""
    link = Listener(fails=OSError("a secret"))
    speaker = Speaker(link)
    first = speaker.run(TAKE, ["k"], [0])
    await asyncio.sleep(0)
    replies = [first, *(speaker.run(TAKE, ["k"], [n]) for n in range(1200))]
    link.let.set()
    for reply in replies:
        with pytest.raises(ServerLost, match="OSError"):
            await reply
    assert 1 == len(link.heard)
    link.fails = None
    assert 5 == await speaker.run(TAKE, ["k"], [5])


async def test_a_refusal_is_the_refused_ones_alone() -> None:
    link = Listener()
    link.let.set()
    speaker = Speaker(link)
    refused, other = speaker.run(TAKE, ["k"], [RuntimeError("OOM")]), speaker.run(TAKE, ["k"], [2])  # type: ignore[list-item] # the reply
    with pytest.raises(ServerLost):
        await refused
    assert 2 == await other
