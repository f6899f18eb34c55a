"""A look at the Redis server: whether it can be our store, and whether it would keep what was acknowledged."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.store.contract import StoreUnavailable
from gateway.store.redis_link import RedisLink, Refused, Reply


@dataclass(frozen=True, slots=True)
class Durability:
    """`weakness` says why acknowledged writes could be lost, None where they are not. `wait` helps: WAITAOF."""

    weakness: str | None
    wait: bool


async def look(link: RedisLink) -> Durability:
    """Ask the server how it keeps things. Raises StoreUnavailable, also where it is part of a cluster."""
    facts = _facts(await link.say(("INFO",)))
    if facts.get("cluster_enabled") == "1":
        raise StoreUnavailable("the server is part of a cluster, which is not supported")
    if facts.get("role") in {"slave", "replica"}:
        raise StoreUnavailable("the server is a read-only replica")
    (setting, waited) = await link.say(("CONFIG", "GET", "appendfsync"), ("WAITAOF", 0, 0, 0))
    fsync = _value(setting)
    can_wait = not isinstance(waited, Refused)
    return Durability(_weakness(facts, fsync, can_wait=can_wait), wait=_helps(facts, fsync) and can_wait)


def _helps(facts: dict[str, str], fsync: str | None) -> bool:
    # Where it is "no" nothing makes the server write before the system feels like it: to wait would be to fail.
    return facts.get("aof_enabled") == "1" and fsync not in {"always", "no"}


def _weakness(facts: dict[str, str], fsync: str | None, *, can_wait: bool) -> str | None:
    if "aof_enabled" not in facts:
        return "the server does not tell whether it keeps what is written (INFO is not permitted)"
    if facts["aof_enabled"] != "1":
        return "the server has no append-only file (appendonly is off)"
    if facts.get("maxmemory", "0") != "0" and facts.get("maxmemory_policy", "").startswith("allkeys"):
        return f"the server forgets keys when its memory is full (maxmemory-policy is {facts['maxmemory_policy']})"
    if fsync == "no":
        return "the server does not see to it that its file reaches the disk (appendfsync is no)"
    if fsync != "always" and not can_wait:
        return f"the server can not say when a write is on its disk (appendfsync is {fsync or 'unknown'}, no WAITAOF)"
    return None


def _facts(replies: list[Reply]) -> dict[str, str]:
    """Read INFO; nothing where it is not permitted."""
    (info,) = replies
    if not isinstance(info, bytes):
        return {}
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, _, value in lines}


def _value(setting: Reply) -> str | None:
    if not isinstance(setting, list) or len(setting) != 2:
        return None  # it may not be asked
    return str(setting[1].decode())
