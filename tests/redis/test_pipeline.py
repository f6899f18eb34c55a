"""Script pipeline: batches, order, unknown scripts, failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from gateway.redis import pipeline as pipeline_module
from gateway.redis.errors import RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply, RedisScript
from gateway.redis.pipeline import ScriptPipeline, _ExpiringReplies

ONE, OTHER = RedisScript.from_text("return 1"), RedisScript.from_text("return 2")


class FakeErrorReply(Exception):
    """Error reply to one command."""


@dataclass
class FakeConnection:
    """Connection that records batches. A batch is answered once `released` is set; `failure` fails it.

    The reply to a command is its last argument. EVALSHA of a script that is not in `scripts` gets NOSCRIPT.
    """

    batches: list[list[Sequence[RedisArgument]]] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    scripts: set[RedisArgument] = field(default_factory=set)
    failure: Exception | None = None
    timeout: float = 1.0
    waitaof_reply: object = (1, 0)

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[RedisReply]:
        """Record the batch and answer it."""
        self.batches.append(list(commands))
        await self.released.wait()
        if self.failure is not None:
            raise self.failure
        return [self._reply(command) for command in commands]

    def _reply(self, command: Sequence[RedisArgument]) -> RedisReply:
        if command[0] == "WAITAOF":
            return self.waitaof_reply
        if command[0] == "EVALSHA" and command[1] not in self.scripts:
            return FakeErrorReply("NOSCRIPT")
        self.scripts |= {script.sha for script in (ONE, OTHER) if command[1] == script.text}
        return command[-1]

    def is_script_missing(self, reply: RedisReply) -> bool:
        """Return True for NOSCRIPT."""
        return isinstance(reply, FakeErrorReply) and str(reply) == "NOSCRIPT"

    def error_of(self, reply: RedisReply) -> RedisUnavailable | None:
        """Return the error of an error reply."""
        return RedisUnavailable("refused") if isinstance(reply, FakeErrorReply) else None

    async def close(self) -> None:
        """Nothing is open."""


def _pipeline(connection: FakeConnection, *, lanes: int = 1, wait_for_fsync: bool = False) -> ScriptPipeline:
    return ScriptPipeline(connection, lanes=lanes, max_batch=500, wait_for_fsync=wait_for_fsync)


async def test_calls_submitted_while_a_batch_is_in_flight_are_sent_together_and_in_order() -> None:
    connection = FakeConnection(scripts={ONE.sha, OTHER.sha})
    pipeline = _pipeline(connection)
    first = pipeline.submit(ONE, ["k"], [1])
    await asyncio.sleep(0)
    rest = [pipeline.submit(script, ["k"], [n]) for n, script in enumerate((OTHER, ONE, OTHER), 2)]
    connection.released.set()
    assert [1, 2, 3, 4] == await asyncio.gather(first, *rest)
    assert [[1], [2, 3, 4]] == [[command[-1] for command in batch] for batch in connection.batches]
    assert pipeline.idle


async def test_a_script_is_sent_with_its_text_once_and_by_its_hash_from_then_on() -> None:
    connection = FakeConnection()
    connection.released.set()
    pipeline = _pipeline(connection)
    for number in (1, 2):
        assert number == await pipeline.submit(ONE, ["k"], [number])
    assert [[("EVAL", ONE.text, 1, "k", 1)], [("EVALSHA", ONE.sha, 1, "k", 2)]] == connection.batches


async def test_the_order_is_kept_though_the_server_does_not_know_one_of_the_scripts() -> None:
    """A release followed by an acquire of the same slot: in the reverse order the slot would be lost."""
    connection = FakeConnection()
    connection.released.set()
    pipeline = _pipeline(connection)
    await pipeline.submit(ONE, ["k"], [1])
    await asyncio.gather(pipeline.submit(OTHER, ["k"], [2]), pipeline.submit(ONE, ["k"], [3]))
    assert [("EVAL", OTHER.text, 1, "k", 2), ("EVALSHA", ONE.sha, 1, "k", 3)] == connection.batches[-1]


async def test_a_script_that_the_server_has_lost_is_sent_again_with_its_text() -> None:
    connection = FakeConnection()
    connection.released.set()
    pipeline = _pipeline(connection)
    await pipeline.submit(ONE, ["k"], [1])
    connection.scripts.clear()
    assert 7 == await pipeline.submit(ONE, ["k"], [7])
    assert ("EVAL", ONE.text, 1, "k", 7) == connection.batches[-1][0]


async def test_an_ordered_pipeline_fails_every_queued_call_with_the_batch_in_flight() -> None:
    """1 200 calls behind a server that hangs wait for one time-out, not for one each."""
    connection = FakeConnection(failure=OSError("a secret"))
    pipeline = _pipeline(connection)
    first = pipeline.submit(ONE, ["k"], [0])
    await asyncio.sleep(0)
    replies = [first, *(pipeline.submit(ONE, ["k"], [n]) for n in range(1200))]
    connection.released.set()
    for reply in replies:
        with pytest.raises(RedisUnavailable, match="OSError"):
            await reply
    assert 1 == len(connection.batches)
    connection.failure = None
    assert 5 == await pipeline.submit(ONE, ["k"], [5])


async def test_a_failed_batch_does_not_fail_the_calls_queued_for_other_lanes() -> None:
    connection = FakeConnection(failure=RedisUnavailable("gone"))
    pipeline = ScriptPipeline(connection, lanes=2, max_batch=2)
    failing = [pipeline.submit(ONE, ["k"], [n]) for n in range(2)]
    await asyncio.sleep(0)
    connection.released.set()
    assert [RedisUnavailable] * 2 == [type(e) for e in await asyncio.gather(*failing, return_exceptions=True)]
    connection.failure = None
    assert 9 == await pipeline.submit(ONE, ["k"], [9])


async def test_an_error_reply_fails_its_own_call_alone() -> None:
    connection = FakeConnection()
    connection.released.set()
    pipeline = _pipeline(connection)
    refusal = FakeErrorReply("OOM")
    refused, other = pipeline.submit(ONE, ["k"], [refusal]), pipeline.submit(ONE, ["k"], [2])  # type: ignore[list-item] # the reply
    with pytest.raises(RedisUnavailable, match="refused"):
        await refused
    assert 2 == await other


async def test_lanes_send_batches_at_the_same_time() -> None:
    connection = FakeConnection()
    pipeline = _pipeline(connection, lanes=2)
    replies = []
    for number in range(4):
        replies.append(pipeline.submit(ONE, ["k"], [number]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [1, 1] == [len(batch) for batch in connection.batches]
    connection.released.set()
    assert [0, 1, 2, 3] == await asyncio.gather(*replies)
    assert pipeline.idle


@pytest.mark.parametrize("waitaof_reply", [(0, 0), FakeErrorReply("ERR")])
async def test_a_batch_that_is_not_on_the_servers_disk_is_unavailable(waitaof_reply: object) -> None:
    connection = FakeConnection(waitaof_reply=waitaof_reply)
    connection.released.set()
    pipeline = _pipeline(connection, wait_for_fsync=True)
    with pytest.raises(RedisUnavailable, match="on its disk"):
        await pipeline.execute(ONE, ["k"], [1])
    connection.waitaof_reply = (1, 0)
    assert 2 == await pipeline.execute(ONE, ["k"], [2])
    assert ("WAITAOF", 1, 0, 750) == connection.batches[-1][-1]


async def test_execute_refuses_calls_beyond_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "MAX_QUEUED", 3)
    connection = FakeConnection()
    pipeline = _pipeline(connection)
    waiting = [pipeline.submit(ONE, ["k"], [n]) for n in range(3)]
    with pytest.raises(RedisUnavailable, match="too many calls"):
        await pipeline.execute(ONE, ["k"], [4])
    connection.released.set()
    assert [0, 1, 2] == await asyncio.gather(*waiting)


async def test_execute_does_not_wait_for_a_server_that_hangs() -> None:
    connection = FakeConnection(timeout=0.02)
    pipeline = _pipeline(connection)
    with pytest.raises(RedisUnavailable, match="does not answer in time"):
        await pipeline.execute(ONE, ["k"], [1])
    connection.released.set()
    await pipeline.close()
    assert pipeline.idle


async def test_calls_expire_in_their_order_with_one_timer() -> None:
    """A call that was answered or cancelled in between changes nothing; a later call has its own time."""
    replies = _ExpiringReplies(0.05)
    loop = asyncio.get_running_loop()
    first, answered, cancelled, later = [loop.create_future() for _ in range(4)]
    for reply in (first, answered, cancelled):
        replies.add(reply)
    answered.set_result(1)
    cancelled.cancel()
    await asyncio.sleep(0.02)
    replies.add(later)
    with pytest.raises(RedisUnavailable, match="does not answer in time"):
        await first
    assert 1 == answered.result()
    with pytest.raises(RedisUnavailable, match="does not answer in time"):
        await later
    assert 0 == len(replies._replies)
    assert replies._timer is None


async def test_answered_calls_are_not_kept_until_they_would_expire() -> None:
    replies = _ExpiringReplies(60.0)
    for _ in range(1_000):
        reply = asyncio.get_running_loop().create_future()
        replies.add(reply)
        reply.set_result(None)
    assert 1 == len(replies._replies)
