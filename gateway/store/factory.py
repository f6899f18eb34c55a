"""Store factory: makes the store that a URL of the configuration names."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from gateway.clock import Clock
from gateway.settings import SettingsError
from gateway.settings.sections import SYSTEM_TLS, TlsFiles
from gateway.store.contract import Store
from gateway.store.memory.store import MemoryStore
from gateway.store.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from gateway.redis.connection import RedisConnection


def create_store(url: str, clock: Clock, password: SecretStr | None = None, tls_files: TlsFiles = SYSTEM_TLS) -> Store:
    """Return the store, not opened yet. Raises SettingsError if the URL is not valid, or its library is missing."""
    parts = urlsplit(url)
    if parts.scheme not in {*_FACTORIES, *_REDIS_SCHEMES}:
        raise _invalid_url(f"must be one of {', '.join(f'{scheme}://' for scheme in [*_FACTORIES, *_REDIS_SCHEMES])}")
    if parts.query or parts.fragment:
        raise _invalid_url("must not have a query or fragment")
    if parts.scheme in _REDIS_SCHEMES:
        return _create_redis_store(parts, clock, password, tls_files)
    return _FACTORIES[parts.scheme](parts, clock)


def _create_sqlite_store(url: SplitResult, clock: Clock) -> Store:
    """sqlite:///relative/path.db, sqlite:////absolute/path.db."""
    path = unquote(url.path.removeprefix("/"))
    if url.netloc or not path or path.endswith("/") or "\0" in path:
        raise _invalid_url("must be sqlite:///relative/path.db or sqlite:////absolute/path.db")
    return SqliteStore(Path(path), clock)


def _create_memory_store(url: SplitResult, clock: Clock) -> Store:
    if url.netloc or url.path:
        raise _invalid_url("must be memory://")
    return MemoryStore(clock)


def is_redis_url(url: str) -> bool:
    """Return True if the store of this URL is a server, which replicas can share."""
    return urlsplit(url).scheme in _REDIS_SCHEMES


def create_redis_connection(
    url: str, password: SecretStr | None, tls_files: TlsFiles = SYSTEM_TLS, *, timeout: float, connections: int
) -> RedisConnection:
    """Return a separate connection pool to the server of a Redis URL. Raises SettingsError as `create_store`."""
    return _create_redis_connection(urlsplit(url), password, tls_files, timeout=timeout, connections=connections)


def _create_redis_store(url: SplitResult, clock: Clock, password: SecretStr | None, tls_files: TlsFiles) -> Store:
    connection = _create_redis_connection(url, password, tls_files, timeout=2.0, connections=64)
    made: Store = import_module("gateway.store.redis.store").RedisStore(connection, clock)
    return made


def _create_redis_connection(
    url: SplitResult, password: SecretStr | None, tls_files: TlsFiles, *, timeout: float, connections: int
) -> RedisConnection:
    """Parse redis://user@host:port/0; rediss:// is TLS with `tls_files`."""
    database = url.path.removeprefix("/") or "0"
    if not url.hostname or not database.isdecimal() or url.password is not None:
        raise _invalid_url("must be redis://user@host:port/0 or rediss://user@host:port/0")
    try:  # needs redis-py, which is an optional dependency
        connection_module = import_module("gateway.redis.connection")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "redis":
            raise
        raise _invalid_url("needs the redis library: install runward[redis]") from None
    user = unquote(url.username) if url.username else None
    tls = url.scheme == "rediss"
    if tls:
        _require_usable_tls_files(tls_files)
    address = connection_module.RedisAddress(
        url.hostname, url.port or 6379, int(database), user, password, tls=tls, tls_files=tls_files
    )
    made: RedisConnection = connection_module.RedisConnection(address, timeout=timeout, connections=connections)
    return made


_REDIS_SCHEMES = ("redis", "rediss")
_FACTORIES: dict[str, Callable[[SplitResult, Clock], Store]] = {
    "sqlite": _create_sqlite_store,
    "memory": _create_memory_store,
}


def _require_usable_tls_files(files: TlsFiles) -> None:
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
    except (OSError, ssl.SSLError):
        raise SettingsError([("store.ca_file", "holds no certificate")]) from None
    if files.client_cert_file is not None:
        try:
            context.load_cert_chain(files.client_cert_file, files.client_key_file, password="")
        except (OSError, ssl.SSLError):
            raise SettingsError([("store.client_cert_file", "holds no certificate with its key")]) from None


def _invalid_url(reason: str) -> SettingsError:
    return SettingsError([("store.url", reason)])
