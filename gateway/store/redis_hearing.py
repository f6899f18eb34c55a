"""Hears from the Redis server which runs changed, whichever replica changed them, and wakes who waits for them here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.store.changes import Changes
from gateway.store.redis_link import RedisLink, unavailable

_SHORT = 0.5  # seconds: how long a wait is while nothing is heard
_DOUBT = 1.0  # seconds: how long after a silence a change may have been missed by somebody who has read already
_SILENCE = 2.0  # seconds without a word; then the server is asked whether it is there
_FIRST, _LONGEST = 0.1, 5.0  # seconds between attempts to hear again


class Hearing:
    """One connection that listens to `channel`. While it is lost, waits are short: nobody sleeps through a change."""

    def __init__(self, link: RedisLink, channel: str, clock: Clock) -> None:
        self._link = link
        self._channel = channel
        self._clock = clock
        self._changes = Changes(clock)
        self._deaf = True
        self._sure_at = clock.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to listen. Raises StoreUnavailable."""
        ears = self._link.listener()
        try:
            await self._listen(ears)
        except (RedisError, OSError) as error:
            failure = unavailable(error)
        else:
            self._deaf = False
            self._task = asyncio.create_task(self._keep_listening(ears))
            return
        await _leave(ears)
        raise failure

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def tell(self, run_id: str) -> None:
        """A run changed here; who waits need not wait for the server's word."""
        self._changes.tell(run_id)

    def told(self, name: str) -> bool:
        """See `Store.told`."""
        return self._changes.told(name)

    async def wait(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        if self._deaf or self._clock.monotonic() < self._sure_at:
            seconds = min(seconds, _SHORT)
        await self._changes.wait(run_ids, seconds)

    async def _keep_listening(self, ears: PubSub) -> None:
        while True:
            try:
                await self._hear(ears)
            except (RedisError, OSError):
                self._link.failing = True
            finally:
                self._deaf = True
                self._changes.tell_all()
                await _leave(ears)
            ears = await self._again()
            self._sure_at = self._clock.monotonic() + _DOUBT
            self._deaf = self._link.failing = False

    async def _again(self) -> PubSub:
        delay = _FIRST
        while True:
            _heed_cancellation()
            await self._clock.sleep(delay)
            ears = self._link.listener()
            try:
                await self._listen(ears)
            except (RedisError, OSError):
                await _leave(ears)
                delay = min(2 * delay, _LONGEST)
            else:
                return ears

    async def _listen(self, ears: PubSub) -> None:
        async with asyncio.timeout(self._link.patience):
            await ears.subscribe(self._channel)
            await ears.get_message(timeout=None)  # that it is heard now

    async def _hear(self, ears: PubSub) -> None:
        """For as long as the server speaks."""
        asked = False
        while True:
            message = await ears.get_message(timeout=_SILENCE)
            if message is not None:
                asked = False
                if message["type"] == "message":
                    self._changes.tell(message["data"].decode("utf-8", "replace"))  # whoever published it
            elif asked:
                raise TimeoutError
            else:
                asked = True
                async with asyncio.timeout(self._link.patience):
                    await ears.ping()


def _heed_cancellation() -> None:
    """Stop where this task was told to: a connection that breaks just then makes another error of it on its way up."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _leave(ears: Any) -> None:
    with suppress(RedisError, OSError):
        await ears.aclose()
