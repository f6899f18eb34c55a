"""Which store a URL of the configuration means."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from gateway.clock import Clock
from gateway.settings import SettingsError
from gateway.store.contract import Store
from gateway.store.memory import MemoryStore
from gateway.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from gateway.store.redis_link import RedisLink


def store(url: str, clock: Clock, password: SecretStr | None = None) -> Store:
    """Build the store, unopened. Raises SettingsError where the URL can not mean one, or its library is missing."""
    parts = urlsplit(url)
    if parts.scheme not in {*_STORES, *_SERVERS}:
        raise _refused(f"must be one of {', '.join(f'{scheme}://' for scheme in [*_STORES, *_SERVERS])}")
    if parts.query or parts.fragment:
        raise _refused("must not have a query or fragment")
    if parts.scheme in _SERVERS:
        return _server(parts, clock, password)
    return _STORES[parts.scheme](parts, clock)


def _sqlite(url: SplitResult, clock: Clock) -> Store:
    """sqlite:///relative/path.db, sqlite:////absolute/path.db."""
    path = unquote(url.path.removeprefix("/"))
    if url.netloc or not path or path.endswith("/") or "\0" in path:
        raise _refused("must be sqlite:///relative/path.db or sqlite:////absolute/path.db")
    return SqliteStore(Path(path), clock)


def _memory(url: SplitResult, clock: Clock) -> Store:
    if url.netloc or url.path:
        raise _refused("must be memory://")
    return MemoryStore(clock)


def is_server(url: str) -> bool:
    """Whether a store of this URL is a server, which others can share."""
    return urlsplit(url).scheme in _SERVERS


def link(url: str, password: SecretStr | None, *, patience: float, connections: int) -> RedisLink:
    """Make a way of its own to the server that `is_server`. Raises SettingsError as `store`."""
    return _link(urlsplit(url), password, patience=patience, connections=connections)


def _server(url: SplitResult, clock: Clock, password: SecretStr | None) -> Store:
    way = _link(url, password, patience=2.0, connections=64)
    made: Store = import_module("gateway.store.redis").RedisStore(way, clock)
    return made


def _link(url: SplitResult, password: SecretStr | None, *, patience: float, connections: int) -> RedisLink:
    """redis://user@host:port/0; rediss:// speaks TLS, and believes whom the system believes."""
    database = url.path.removeprefix("/") or "0"
    if not url.hostname or not database.isdecimal() or url.password is not None:
        raise _refused("must be redis://user@host:port/0 or rediss://user@host:port/0")
    try:  # they need redis-py, which is an extra
        room = import_module("gateway.store.redis_link")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "redis":
            raise
        raise _refused("needs the redis library: install runward[redis]") from None
    user = unquote(url.username) if url.username else None
    tls = url.scheme == "rediss"
    address = room.Address(url.hostname, url.port or 6379, int(database), user, password, tls=tls)
    made: RedisLink = room.RedisLink(address, patience=patience, connections=connections)
    return made


_SERVERS = ("redis", "rediss")
_STORES: dict[str, Callable[[SplitResult, Clock], Store]] = {"sqlite": _sqlite, "memory": _memory}


def _refused(complaint: str) -> SettingsError:
    return SettingsError([("store.url", complaint)])
