"""Execution of the store's scripts over a script pipeline, with the errors of the store."""

from __future__ import annotations

from gateway.redis.errors import RedisDataReplaced, RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply, RedisScript
from gateway.redis.pipeline import ScriptConnection, ScriptPipeline
from gateway.store.contract import StoreReplaced, StoreUnavailable

_LANES = 8  # batches in flight
_MAX_BATCH = 200  # calls in one batch: the first one waits for the last one


def translate_store_error(error: RedisUnavailable) -> StoreUnavailable:
    """Return the store's error, with the same fixed text."""
    kind = StoreReplaced if isinstance(error, RedisDataReplaced) else StoreUnavailable
    return kind(str(error))


class ScriptBatcher:
    """Script pipeline of the store: every script has one key, `prefix`, which begins all keys that it uses.

    With `wait_for_fsync`, a reply is returned once the server has the writes so far on its disk.
    """

    def __init__(self, connection: ScriptConnection, prefix: str, *, wait_for_fsync: bool = False) -> None:
        self._keys = (prefix,)
        self._pipeline = ScriptPipeline(connection, lanes=_LANES, max_batch=_MAX_BATCH, wait_for_fsync=wait_for_fsync)

    async def execute(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        """Execute a script and return its reply. Raises StoreUnavailable, StoreReplaced."""
        try:
            return await self._pipeline.execute(script, self._keys, arguments)
        except RedisUnavailable as error:
            failure = translate_store_error(error)
        raise failure  # outside of the handler, so that it does not refer to the original error

    async def close(self) -> None:
        """Wait until every queued call has its reply."""
        await self._pipeline.close()
