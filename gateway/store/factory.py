"""Store factory: makes the store that a URL of the configuration names."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import SecretStr

from gateway.clock import Clock
from gateway.settings import SettingsError
from gateway.settings.sections import SYSTEM_TLS, StoreSettings, TlsFiles
from gateway.settings.types.addresses import REDIS_SCHEMES, parse_sentinel_url
from gateway.store.contract import Store

if TYPE_CHECKING:
    from gateway.redis.connection import RedisAddress, RedisConnection


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Passwords and TLS files, which a Redis URL does not contain."""

    password: SecretStr | None = None
    sentinel_password: SecretStr | None = None
    tls_files: TlsFiles = SYSTEM_TLS

    @classmethod
    def from_settings(cls, settings: StoreSettings) -> Self:
        """Return the access of the configured store."""
        return cls(settings.password, settings.sentinel_password, settings.tls_files)


_NO_ACCESS = RedisAccess()


def create_configured_store(settings: StoreSettings, clock: Clock) -> Store:
    """Return the configured store as `create_store`."""
    return create_store(settings.url, clock, RedisAccess.from_settings(settings))


def create_store(url: str, clock: Clock, access: RedisAccess = _NO_ACCESS) -> Store:
    """Return the store, not opened yet. Raises SettingsError if the URL is not valid, or its library is missing."""
    parts = urlsplit(url)
    if parts.scheme not in {*_FACTORIES, *REDIS_SCHEMES}:
        raise _invalid_url(f"must be one of {', '.join(f'{scheme}://' for scheme in [*_FACTORIES, *REDIS_SCHEMES])}")
    if parts.query or parts.fragment:
        raise _invalid_url("must not have a query or fragment")
    if parts.scheme in REDIS_SCHEMES:
        return _create_redis_store(url, clock, access)
    return _FACTORIES[parts.scheme](parts, clock)


def _create_sqlite_store(url: SplitResult, clock: Clock) -> Store:
    """sqlite:///relative/path.db, sqlite:////absolute/path.db."""
    path = unquote(url.path.removeprefix("/"))
    if url.netloc or not path or path.endswith("/") or "\0" in path:
        raise _invalid_url("must be sqlite:///relative/path.db or sqlite:////absolute/path.db")
    from gateway.store.sqlite.store import SqliteStore

    return SqliteStore(Path(path), clock)


def _create_memory_store(url: SplitResult, clock: Clock) -> Store:
    if url.netloc or url.path:
        raise _invalid_url("must be memory://")
    from gateway.store.memory.store import MemoryStore

    return MemoryStore(clock)


def is_redis_url(url: str) -> bool:
    """Return True if the store of this URL is a server, which replicas can share."""
    return url.partition("://")[0] in REDIS_SCHEMES


def create_redis_connection(
    url: str, access: RedisAccess = _NO_ACCESS, *, timeout: float, connections: int
) -> RedisConnection:
    """Return a separate connection pool to the server of a Redis URL. Raises SettingsError as `create_store`."""
    try:  # needs redis-py, which is an optional dependency
        connection_module = import_module("gateway.redis.connection")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "redis":
            raise
        raise _invalid_url("needs the redis library: install runward[redis]") from None
    if url.startswith("rediss"):
        _require_usable_tls_files(access.tls_files)
    to_address = _sentinel_address if "+sentinel://" in url else _server_address
    made: RedisConnection = connection_module.RedisConnection(
        to_address(connection_module, url, access), timeout=timeout, connections=connections
    )
    return made


def _create_redis_store(url: str, clock: Clock, access: RedisAccess) -> Store:
    connection = create_redis_connection(url, access, timeout=2.0, connections=64)
    made: Store = import_module("gateway.store.redis.store").RedisStore(connection, clock)
    return made


def _server_address(module: Any, url: str, access: RedisAccess) -> RedisAddress:
    """Parse redis://user@host:port/0; rediss:// is TLS."""
    parts = urlsplit(url)
    database = parts.path.removeprefix("/") or "0"
    if not parts.hostname or not database.isdecimal() or parts.password is not None:
        raise _invalid_url("must be redis://user@host:port/0 or rediss://user@host:port/0")
    made: RedisAddress = module.RedisAddress(
        parts.hostname,
        parts.port or 6379,
        int(database),
        unquote(parts.username) if parts.username else None,
        access.password,
        tls=parts.scheme == "rediss",
        tls_files=access.tls_files,
    )
    return made


def _sentinel_address(module: Any, url: str, access: RedisAccess) -> RedisAddress:
    """Parse redis+sentinel://user@host:port,host:port/name/0; rediss+sentinel:// is TLS."""
    try:
        parsed = parse_sentinel_url(url)
    except ValueError as error:
        raise _invalid_url(str(error)) from None
    made: RedisAddress = module.RedisAddress(
        "",
        0,
        parsed.database,
        parsed.username,
        access.password,
        tls=parsed.tls,
        tls_files=access.tls_files,
        sentinel=module.SentinelAddress(parsed.name, parsed.sentinels, access.sentinel_password),
    )
    return made


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
