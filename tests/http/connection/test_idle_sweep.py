"""Idle timeout of connections: one timer for all."""

from __future__ import annotations

import asyncio

from gateway.http.connection.idle_sweep import IdleSweep

TIMEOUT = 0.2
"""Seconds."""


class Connection:
    """Connection that records that it was closed."""

    def __init__(self, closes_in: float) -> None:
        self.closes_at = asyncio.get_running_loop().time() + closes_in
        self.closed = asyncio.Event()

    def close_if_idle(self) -> None:
        self.closed.set()


async def test_a_connection_is_closed_after_its_time_and_not_before() -> None:
    loop = asyncio.get_running_loop()
    sweep = IdleSweep[Connection](TIMEOUT)
    due, later, removed = Connection(TIMEOUT), Connection(60), Connection(TIMEOUT)
    for connection in (due, later, removed):
        sweep.add(connection)
    sweep.discard(removed)
    await asyncio.wait_for(due.closed.wait(), 10)
    assert loop.time() >= due.closes_at
    assert (False, False, {due, later}) == (later.closed.is_set(), removed.closed.is_set(), set(sweep))


async def test_a_connection_that_is_added_to_an_empty_sweep_is_closed_too() -> None:
    """The timer ends with the last connection and starts again with the next one."""
    sweep = IdleSweep[Connection](TIMEOUT)
    first = Connection(0)
    sweep.add(first)
    await asyncio.wait_for(first.closed.wait(), 10)
    sweep.discard(first)
    await asyncio.sleep(TIMEOUT)
    second = Connection(0)
    sweep.add(second)
    await asyncio.wait_for(second.closed.wait(), 10)
    assert [second] == list(sweep)


class FailingConnection(Connection):
    """Connection that cannot be closed."""

    def close_if_idle(self) -> None:
        raise OSError("CANARY")


async def test_a_connection_that_cannot_be_closed_does_not_keep_others_open() -> None:
    errors: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(str(context["exception"])))
    sweep = IdleSweep[Connection](TIMEOUT)
    failing, others = FailingConnection(0), [Connection(0.05 * number) for number in range(8)]
    for connection in (failing, *others):
        sweep.add(connection)
    for connection in others:
        await asyncio.wait_for(connection.closed.wait(), 10)
    assert {"CANARY"} == set(errors)
    sweep.discard(failing)
