"""What is said to the server: in order, many at once, and nobody waits longer than the link does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway.limits.redis.counters import ACQUIRE, RELEASE
from gateway.limits.redis.pipeline import RedisArgument, RedisUnavailable, ScriptPipeline


@dataclass
class FakeConnection:
    """A link that writes down what it hears. It answers when it is `let`, or as `fails` has it."""

    batches: list[list[Sequence[RedisArgument]]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    scripts_known: bool = True
    failure: Exception | None = None

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[object]:
        """See `Link.say`."""
        self.batches.append(list(commands))
        await self.released.wait()
        if self.failure is not None:
            raise self.failure
        if not self.scripts_known and commands[0][0] == "EVALSHA":
            return [RuntimeError("NOSCRIPT No matching script.") for _ in commands]
        return [command[-1] for command in commands]

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_gathers_meanwhile_is_said_at_once_and_in_order() -> None:
    connection = FakeConnection()
    pipeline = ScriptPipeline(connection)
    first = pipeline.submit(ACQUIRE, ["k"], [1])
    await asyncio.sleep(0)
    rest = [pipeline.submit(script, ["k"], [n]) for n, script in enumerate((RELEASE, ACQUIRE, RELEASE), 2)]
    connection.released.set()
    assert [1, 2, 3, 4] == await asyncio.gather(first, *rest)
    assert [[ACQUIRE.sha], [RELEASE.sha, ACQUIRE.sha, RELEASE.sha]] == [
        [call[1] for call in batch] for batch in connection.batches
    ]
    assert ("EVALSHA", ACQUIRE.sha, 1, "k", 1) == connection.batches[0][0]


async def test_a_server_that_does_not_know_a_script_is_told_it() -> None:
    connection = FakeConnection(scripts_known=False)
    connection.released.set()
    assert 7 == await ScriptPipeline(connection).submit(ACQUIRE, ["k"], [7])
    assert ("EVAL", ACQUIRE.source, 1, "k", 7) == connection.batches[1][0]


async def test_when_the_server_is_lost_all_who_wait_hear_it_at_once() -> None:
    """A thousand behind a server that hangs wait for one time-out, not for one each."""
    connection = FakeConnection(failure=OSError("a secret"))
    pipeline = ScriptPipeline(connection)
    first = pipeline.submit(ACQUIRE, ["k"], [0])
    await asyncio.sleep(0)
    replies = [first, *(pipeline.submit(ACQUIRE, ["k"], [n]) for n in range(1200))]
    connection.released.set()
    for reply in replies:
        with pytest.raises(RedisUnavailable, match="OSError"):
            await reply
    assert 1 == len(connection.batches)
    connection.failure = None
    assert 5 == await pipeline.submit(ACQUIRE, ["k"], [5])


async def test_a_refusal_is_the_refused_ones_alone() -> None:
    connection = FakeConnection()
    connection.released.set()
    pipeline = ScriptPipeline(connection)
    refused, other = pipeline.submit(ACQUIRE, ["k"], [RuntimeError("OOM")]), pipeline.submit(ACQUIRE, ["k"], [2])  # type: ignore[list-item] # the reply
    with pytest.raises(RedisUnavailable):
        await refused
    assert 2 == await other
