"""Announcements in Redis, shared by all replicas."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from gateway.redis.lua_script import RedisReply
from gateway.store.redis import codec, scripts


@dataclass(frozen=True, slots=True)
class RedisAnnouncements:
    """An `AnnouncementStore`. `write` executes a script that changes something; it raises StoreUnavailable."""

    write: Callable[..., Awaitable[RedisReply]]

    async def take_unannounced(
        self, ids: Sequence[str], *, limit: int, now_at: float, taken_until_at: float, kept_until_at: float
    ) -> list[str]:
        """See `AnnouncementStore.take_unannounced`."""
        times = (codec.encode_float(each) for each in (now_at, taken_until_at, kept_until_at))
        reply = await self.write(scripts.TAKE_UNANNOUNCED, limit, *times, *ids)
        return [bytes(each).decode() for each in reply]

    async def mark_announced(self, ids: Sequence[str], *, kept_until_at: float) -> None:
        """See `AnnouncementStore.mark_announced`."""
        await self.write(scripts.MARK_ANNOUNCED, codec.encode_float(kept_until_at), *ids)
