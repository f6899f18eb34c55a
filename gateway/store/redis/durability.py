"""A look at the Redis server: whether it can be our store, and whether it would keep what was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.redis.connection import ErrorReply, RedisConnection
from gateway.redis.script import RedisReply
from gateway.store.contract import StoreUnavailable


@dataclass(frozen=True, slots=True)
class Durability:
    """`weakness` says why acknowledged writes could be lost, None where they are not. `wait` helps: WAITAOF."""

    warning: str | None
    wait_for_fsync: bool


async def check_durability(connection: RedisConnection) -> Durability:
    """Ask the server how it keeps things. Raises StoreUnavailable, also where it is part of a cluster."""
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
    # Where it is "no" nothing makes the server write before the system feels like it: to wait would be to fail.
    return info.get("aof_enabled") == "1" and fsync not in {"always", "no"}


def _find_warning(info: dict[str, str], fsync: str | None, *, can_wait: bool) -> str | None:
    if "aof_enabled" not in info:
        return "the server does not tell whether it keeps what is written (INFO is not permitted)"
    if info["aof_enabled"] != "1":
        return "the server has no append-only file (appendonly is off)"
    if info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy", "").startswith("allkeys"):
        return f"the server forgets keys when its memory is full (maxmemory-policy is {info['maxmemory_policy']})"
    if fsync == "no":
        return "the server does not see to it that its file reaches the disk (appendfsync is no)"
    if fsync != "always" and not can_wait:
        return f"the server can not say when a write is on its disk (appendfsync is {fsync or 'unknown'}, no WAITAOF)"
    return None


def _parse_info(replies: list[RedisReply]) -> dict[str, str]:
    """Read INFO; nothing where it is not permitted."""
    (info,) = replies
    if not isinstance(info, bytes):
        return {}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines}


def _config_value(setting: RedisReply) -> str | None:
    if not isinstance(setting, list) or len(setting) != 2:
        return None  # it may not be asked
    return str(setting[1].decode())
