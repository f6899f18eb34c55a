"""Usage of the Redis store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from typing_extensions import override

from gateway.redis.lua_script import RedisArgument, RedisReply
from gateway.store.redis import scripts
from gateway.store.usage import (
    Sums,
    UsageBatch,
    UsageKey,
    UsageKind,
    UsageRow,
    UsageStore,
    decode_row,
)

Execute: TypeAlias = Callable[..., Awaitable[RedisReply]]
"""Executes a script with its arguments."""

_DAYS_AT_ONCE = 10  # days that one script reads: other scripts run in between
_REPETITION = 86_400  # seconds for which a repeated batch is recognized


class RedisUsage(UsageStore):
    """Usage in a hash for each day and kind. `write` and `read` execute a script."""

    def __init__(self, write: Execute, read: Execute) -> None:
        self._write = write
        self._read = read

    @override
    async def add(self, batch: UsageBatch, *, now_at: float) -> None:
        await self._write(scripts.ADD_USAGE, batch.writer, batch.number, _REPETITION, *encode_sums(batch.usage))

    @override
    async def read(self, kind: UsageKind, first_day: int, last_day: int) -> list[UsageRow]:
        found: list[UsageRow] = []
        for day in range(first_day, last_day + 1, _DAYS_AT_ONCE):
            days = range(day, min(day + _DAYS_AT_ONCE, last_day + 1))
            reply = await self._read(scripts.GET_USAGE, kind.value, *days)
            for number, fields in zip(reply[::2], reply[1::2], strict=True):
                found += _decode_rows(int(number), fields)
        return found

    @override
    async def purge(self, before_day: int) -> int:
        return int(await self._write(scripts.PURGE_USAGE, before_day))


def encode_sums(usage: Iterable[tuple[UsageKey, Sums]]) -> list[RedisArgument]:
    """Encode rows as seven arguments each."""
    return [word for key, sums in usage for word in (*key, *sums)]


def _decode_rows(day: int, fields: Sequence[bytes]) -> list[UsageRow]:
    values = dict(zip(fields[::2], fields[1::2], strict=True))
    return [
        decode_row(day, key.decode(), (int(runs), int(values.get(b"s" + key, 0)), int(values.get(b"u" + key, 0))))
        for name, runs in values.items()
        if name.startswith(b"n[")
        for key in (name[1:],)
    ]
