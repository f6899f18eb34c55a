"""Bulk replays of the Redis store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from typing_extensions import override

from gateway.redis.lua_script import RedisReply
from gateway.store.bulk_replay import BulkReplay, BulkReplayStore
from gateway.store.redis import scripts

Execute: TypeAlias = Callable[..., Awaitable[RedisReply]]
"""Executes a script with its arguments."""

_CHANGING = ("delete_at", "state", "progress", "owner", "leased_until_at")
_LISTED = ("id", "created_at", *_CHANGING, "revision")


class RedisBulkReplays(BulkReplayStore):
    """Bulk replays in hashes. `write` passes the generation to a script as its first argument; `read` does not."""

    def __init__(self, write: Execute, read: Execute) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, replay: BulkReplay) -> None:
        names = ("id", "plan", "created_at", *_CHANGING, "revision")
        await self._write(scripts.ADD_BULK_REPLAY, replay.id, repr(replay.delete_at), *_words(replay, names))

    @override
    async def get(self, replay_id: str) -> BulkReplay | None:
        words = await self._read(scripts.GET_BULK_REPLAY, replay_id)
        return (
            _decode({name.decode(): value for name, value in zip(words[::2], words[1::2], strict=True)})
            if words
            else None
        )

    @override
    async def list_running(self) -> list[BulkReplay]:
        rows = await self._read(scripts.LIST_RUNNING_BULK_REPLAYS, *_LISTED)
        found = [_decode({**dict(zip(_LISTED, row, strict=True)), "plan": b""}) for row in rows]
        return sorted(found, key=lambda replay: replay.id)

    @override
    async def change(self, replay: BulkReplay) -> bool:
        place = replay.id, replay.revision, repr(replay.delete_at)
        return bool(await self._write(scripts.CHANGE_BULK_REPLAY, *place, *_words(replay, _CHANGING)))

    @override
    async def purge(self, before_at: float) -> int:
        deleted = 0
        while batch := int(await self._read(scripts.PURGE_BULK_REPLAYS, repr(before_at))):
            deleted += batch
        return deleted


def _words(replay: BulkReplay, names: Sequence[str]) -> list[str | bytes]:
    """Return names, each followed by its value."""
    values = ((name, getattr(replay, name)) for name in names)
    return [
        word for name, value in values for word in (name, value if isinstance(value, (str, bytes)) else repr(value))
    ]


def _decode(fields: dict[str, Any]) -> BulkReplay:
    return BulkReplay(
        id=fields["id"].decode(),
        plan=fields["plan"],
        created_at=float(fields["created_at"]),
        delete_at=float(fields["delete_at"]),
        state=fields["state"].decode(),
        progress=fields["progress"],
        owner=fields["owner"].decode(),
        leased_until_at=float(fields["leased_until_at"]),
        revision=int(fields["revision"]),
    )
