"""Write batch: everything is written once, in order, and no failure keeps the others from being written."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway.write_batch import WriteBatch


class FakeConnection:
    """A connection that notes when it writes."""

    def __init__(self, name: str, written: list[str], error: Exception | None = None) -> None:
        self._name, self._written, self._error = name, written, error

    def write_pending(self) -> None:
        """Note the name, or raise."""
        if self._error is not None:
            raise self._error
        self._written.append(self._name)


async def test_connections_write_in_the_next_iteration_in_their_order() -> None:
    batch, written = WriteBatch(), list[str]()
    for name in "abc":
        batch.add(FakeConnection(name, written))
    assert [] == written
    await asyncio.sleep(0)
    assert ["a", "b", "c"] == written
    await asyncio.sleep(0)
    assert ["a", "b", "c"] == written


async def test_what_is_added_while_others_write_is_written_next() -> None:
    batch, written = WriteBatch(), list[str]()

    class Adding(FakeConnection):
        def write_pending(self) -> None:
            super().write_pending()
            batch.add(FakeConnection("added", written))

    batch.add(Adding("first", written))
    batch.add(FakeConnection("second", written))
    await asyncio.sleep(0)
    assert ["first", "second"] == written
    await asyncio.sleep(0)
    assert ["first", "second", "added"] == written


async def test_a_failed_write_is_reported_and_the_others_are_written() -> None:
    batch, written, reported = WriteBatch(), list[str](), list[Any]()

    def report(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        reported.append(context["exception"])

    asyncio.get_running_loop().set_exception_handler(report)
    error = RuntimeError("the transport is broken")
    for connection in (
        FakeConnection("a", written),
        FakeConnection("broken", written, error),
        FakeConnection("b", written),
    ):
        batch.add(connection)
    await asyncio.sleep(0)
    assert (["a", "b"], [error]) == (written, reported)
