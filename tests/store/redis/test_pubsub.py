"""Pub/sub subscriber, with a fake subscription."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

from gateway.redis.connection import RedisConnection
from gateway.store.redis.pubsub import ChangeSubscriber
from tests.support.virtual_clock import VirtualClock


class CancelSuppressingPubSub:
    """Subscription without messages, whose PING is answered, and returns normally when it is cancelled.

    `asyncio.wait_for` of Python 3.11, which redis-py sends with, does so where the bytes were sent in that moment.
    """

    def __init__(self, connection_pool: object) -> None:
        self.connection_pool = connection_pool
        self.pinging = asyncio.Event()
        self._pongs: list[dict[str, str]] = []

    async def subscribe(self, channel: str) -> None:
        """Accept every channel."""

    async def get_message(self, timeout: float | None) -> dict[str, str] | None:  # noqa: ARG002, ASYNC109 - redis-py has it
        """Return the answer to a PING, if there is one."""
        await asyncio.sleep(0)
        return self._pongs.pop() if self._pongs else None

    async def ping(self) -> None:
        """Wait until the task is cancelled."""
        self.pinging.set()
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
        self._pongs.append({"type": "pong"})

    async def aclose(self) -> None:
        """Do nothing."""


class FakeConnection:
    """Connection with one subscription."""

    timeout = 60.0
    failing = False

    def __init__(self) -> None:
        self.pool = object()
        self.subscription = CancelSuppressingPubSub(self.pool)

    def pubsub(self) -> CancelSuppressingPubSub:
        """Return the subscription."""
        return self.subscription


async def test_close_ends_a_subscription_that_suppresses_its_cancellation() -> None:
    connection = FakeConnection()
    subscriber = ChangeSubscriber(cast(RedisConnection, connection), "changed", VirtualClock())
    await subscriber.open()
    await connection.subscription.pinging.wait()
    async with asyncio.timeout(10):
        await subscriber.close()
