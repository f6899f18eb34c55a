"""Pub/sub subscriber: wakes tasks of this process when any replica changes a run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.redis.connection import RedisConnection, translate_error
from gateway.store.notifications import ChangeNotifier

_SHORT_WAIT = 0.5  # seconds: limit of a wait while the subscription is lost
_RECOVERY_PERIOD = 1.0  # seconds after a reconnect in which a waiting task may have missed a change
_HEARTBEAT_INTERVAL = 2.0  # seconds without a message; then the server gets a PING
_FIRST_DELAY, _MAX_DELAY = 0.1, 1.0  # seconds between attempts to subscribe again


class ChangeSubscriber:
    """A connection subscribed to `channel`. While it is lost, waits are short, so that polling notices changes."""

    def __init__(self, connection: RedisConnection, channel: str, clock: Clock) -> None:
        self._connection = connection
        self._channel = channel
        self._clock = clock
        self._notifier = ChangeNotifier(clock)
        self._disconnected = True
        self._reliable_from = clock.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Subscribe. Raises StoreUnavailable."""
        pubsub = self._connection.pubsub()
        try:
            await self._subscribe(pubsub)
        except (RedisError, OSError) as error:
            failure = translate_error(error)
        else:
            self._disconnected = False
            self._task = asyncio.create_task(self._receive_until_closed(pubsub))
            return
        await _close_quietly(pubsub)
        raise failure

    async def close(self) -> None:
        """Unsubscribe, and end the task."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def notify(self, run_id: str) -> None:
        """Report a change made by this process, without a round trip to the server."""
        self._notifier.notify(run_id)

    def recently_notified(self, name: str) -> bool:
        """Implement `Store.recently_notified`."""
        return self._notifier.recently_notified(name)

    def recent_suffix(self, prefix: str) -> str | None:
        """Implement `Store.recent_suffix`."""
        return self._notifier.recent_suffix(prefix)

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """Implement `Store.wait_for_change`."""
        if self._disconnected or self._clock.monotonic() < self._reliable_from:
            seconds = min(seconds, _SHORT_WAIT)
        await self._notifier.wait_for_change(run_ids, seconds)

    async def _receive_until_closed(self, pubsub: PubSub) -> None:
        while True:
            try:
                with suppress(RedisError, OSError):
                    await self._receive_messages(pubsub)
            finally:
                calls_failed, self._connection.failing = self._connection.failing, True
                self._disconnected = True
                self._notifier.notify_all()
                await _close_quietly(pubsub)
            pubsub = await self._reconnect()
            self._reliable_from = self._clock.monotonic() + _RECOVERY_PERIOD
            self._disconnected = False
            if not calls_failed:  # otherwise the next call decides: a subscription works on a read-only replica too
                self._connection.failing = False

    async def _reconnect(self) -> PubSub:
        delay = _FIRST_DELAY
        while True:
            _raise_if_cancelled()
            await self._clock.sleep(delay)
            pubsub = self._connection.pubsub()
            try:
                await self._subscribe(pubsub)
            except (RedisError, OSError):
                await _close_quietly(pubsub)
                delay = min(2 * delay, _MAX_DELAY)
            else:
                return pubsub

    async def _subscribe(self, pubsub: PubSub) -> None:
        async with asyncio.timeout(self._connection.timeout):
            await pubsub.subscribe(self._channel)
            await pubsub.get_message(timeout=None)  # the confirmation

    async def _receive_messages(self, pubsub: PubSub) -> None:
        """Forward messages until the connection fails, or the server was replaced.

        Raises TimeoutError if the server does not answer a PING.
        """
        pinged = False
        while pubsub.connection_pool is self._connection.pool:
            _raise_if_cancelled()
            message = await pubsub.get_message(timeout=_HEARTBEAT_INTERVAL)
            if message is not None:
                pinged = False
                if message["type"] == "message":
                    self._notifier.notify(message["data"].decode("utf-8", "replace"))  # published by any process
            elif pinged:
                raise TimeoutError
            else:
                pinged = True
                async with asyncio.timeout(self._connection.timeout):
                    await pubsub.ping()


def _raise_if_cancelled() -> None:
    """Raise CancelledError if this task was cancelled.

    A failing connection may have replaced that exception, and `asyncio.wait_for` of Python 3.11, which redis-py sends
    with, suppresses it if the bytes are sent in the same moment.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _close_quietly(pubsub: Any) -> None:
    with suppress(RedisError, OSError):
        await pubsub.aclose()
