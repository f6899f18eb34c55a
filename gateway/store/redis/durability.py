"""Check of the Redis server: its suitability as a store, and the durability of acknowledged writes."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.redis.connection import ErrorReply, RedisConnection
from gateway.redis.lua_script import RedisReply
from gateway.store.contract import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Durability:
    """Result of the check.

    `warning`: reason why acknowledged writes may be lost, or None. `wait_for_fsync`: WAITAOF makes them durable.
    """

    warning: str | None
    wait_for_fsync: bool


async def check_durability(connection: RedisConnection) -> Durability:
    """Query the persistence of the server. Raises StoreUnavailable, also for a cluster node or a read-only replica."""
    info = _parse_info(await connection.execute(("INFO",)))
    if info.get("cluster_enabled") == "1":
        raise StoreUnavailable("the server is part of a cluster, which is not supported")
    if info.get("role") in {"slave", "replica"}:
        raise StoreUnavailable("the server is a read-only replica")
    (fsync_setting, waitaof_reply) = await connection.execute(("CONFIG", "GET", "appendfsync"), ("WAITAOF", 0, 0, 0))
    fsync = _config_value(fsync_setting)
    can_wait = not isinstance(waitaof_reply, ErrorReply)
    return Durability(
        _find_warning(info, fsync, can_wait=can_wait), wait_for_fsync=_is_waitaof_useful(info, fsync) and can_wait
    )


def _is_waitaof_useful(info: dict[str, str], fsync: str | None) -> bool:
    # With appendfsync "no" the operating system decides when it writes, so WAITAOF would time out.
    return info.get("aof_enabled") == "1" and fsync not in {"always", "no"}


def _find_warning(info: dict[str, str], fsync: str | None, *, can_wait: bool) -> str | None:
    if "aof_enabled" not in info:
        return "the persistence of the server is not known (INFO is not permitted)"
    if info["aof_enabled"] != "1":
        return "the server has no append-only file (appendonly is off)"
    if info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy", "").startswith("allkeys"):
        return f"the server evicts keys when its memory is full (maxmemory-policy is {info['maxmemory_policy']})"
    if fsync == "no":
        return "the server does not sync its file to the disk (appendfsync is no)"
    if fsync != "always" and not can_wait:
        return (
            f"the server cannot confirm that a write is on its disk (appendfsync is {fsync or 'unknown'}, no WAITAOF)"
        )
    return None


def _parse_info(replies: list[RedisReply]) -> dict[str, str]:
    """Parse the reply of INFO; empty if INFO is not permitted."""
    (info,) = replies
    if not isinstance(info, bytes):
        return {}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines}


def _config_value(setting: RedisReply) -> str | None:
    if not isinstance(setting, list) or len(setting) != 2:
        return None  # CONFIG is not permitted
    return str(setting[1].decode())
