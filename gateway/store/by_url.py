"""Which store a URL of the configuration means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from gateway.clock import Clock
from gateway.settings import SettingsError
from gateway.store.contract import Store
from gateway.store.memory import MemoryStore
from gateway.store.sqlite import SqliteStore


def store(url: str, clock: Clock) -> Store:
    """Build the store, unopened. Raises SettingsError where the URL can not mean one."""
    parts = urlsplit(url)
    if parts.scheme not in _STORES:
        raise _refused(f"must be one of {', '.join(f'{scheme}://' for scheme in _STORES)}")
    if parts.query or parts.fragment:
        raise _refused("must not have a query or fragment")
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


# Stores for replicas come in here: redis, rediss.
_STORES: dict[str, Callable[[SplitResult, Clock], Store]] = {"sqlite": _sqlite, "memory": _memory}


def _refused(complaint: str) -> SettingsError:
    return SettingsError([("store.url", complaint)])
