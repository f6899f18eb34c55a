"""Connection pool to a Redis or Valkey server: bounded timeouts, failover, and errors without stored values."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import NoScriptError, RedisError, ResponseError
from typing_extensions import override

from gateway import happy_eyeballs
from gateway.redis.errors import RedisDataReplaced, RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply
from gateway.settings.sections import SYSTEM_TLS, TlsFiles
from gateway.settings.types.secret_reference import reread_secret

ErrorReply = ResponseError
"""An error reply of the server to one command."""

GENERATION_ERROR = "GENERATION"
"""Prefix of the error reply of the store's scripts if the generation of the store has changed."""

_CONNECT_TIMEOUT = 1.0  # seconds

# Reasons by the class of redis-py, or by the prefix of an error reply without a class.
_REASONS_BY_CLASS: dict[type[RedisError], str] = {
    exceptions.OutOfMemoryError: "the server's memory is full",
    exceptions.ReadOnlyError: "the server is a read-only replica",
    exceptions.MasterDownError: "the server is a replica without a primary",
    exceptions.NoPermissionError: "the server does not permit this user to do it",
    exceptions.AuthenticationError: "the server does not accept the user and password",
    exceptions.BusyLoadingError: "the server is still reading its file",
    exceptions.MovedError: "the server is part of a cluster, which is not supported",
    exceptions.MaxConnectionsError: "too many connections to the server are in use",
    exceptions.TimeoutError: "the server does not answer in time",
}
_REASONS_BY_PREFIX = {
    "MISCONF": "the server cannot write to its disk",
    "BUSY": "the server is busy with a script",
    "NOREPLICAS": "the server has too few replicas",
}

# Replies of a server that is not, or no longer, the primary: another connection may reach the new one.
_FAILOVER_ERRORS = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.BusyLoadingError,
    exceptions.AuthenticationError,
)
# Redis before 7.0 embeds the error of a command in the error of its script.
_ERROR_IN_SCRIPT = re.compile(r": -(READONLY|OOM|MISCONF|NOREPLICAS|MASTERDOWN) ")
_CLASS_OF_ERROR_IN_SCRIPT: dict[str, type[RedisError]] = {
    "READONLY": exceptions.ReadOnlyError,
    "OOM": exceptions.OutOfMemoryError,
    "MASTERDOWN": exceptions.MasterDownError,
}


def translate_error(error: RedisError | OSError) -> RedisUnavailable:
    """Return a RedisUnavailable with a fixed text; the text of the server may quote stored values."""
    if isinstance(error, TimeoutError):
        return RedisUnavailable("the server does not answer in time")
    in_script = _error_in_script(error)
    kind = _CLASS_OF_ERROR_IN_SCRIPT.get(in_script, type(error))
    known = next((text for known_kind, text in _REASONS_BY_CLASS.items() if issubclass(kind, known_kind)), None)
    if known is None and isinstance(error, ErrorReply):
        prefix = in_script or str(error).split(" ", 1)[0]
        if prefix == GENERATION_ERROR:
            return RedisDataReplaced("the data of the store were deleted or replaced")
        known = _REASONS_BY_PREFIX.get(prefix, "the server refused it")
    return RedisUnavailable(known or "the server cannot be reached")


def _is_failover(error: object) -> bool:
    return isinstance(error, _FAILOVER_ERRORS) or _error_in_script(error) in {"READONLY", "MASTERDOWN"}


def _error_in_script(error: object) -> str:
    found = _ERROR_IN_SCRIPT.search(str(error)) if isinstance(error, ErrorReply) else None
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Sentinel processes (host, port) that know the address of a primary by its `name`."""

    name: str
    hosts: tuple[tuple[str, int], ...]
    password: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Address and credentials of a server. With `sentinel` each connect asks for host and port first."""

    host: str
    port: int = 6379
    database: int = 0
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    tls_files: TlsFiles = SYSTEM_TLS
    sentinel: SentinelAddress | None = None


class RedisConnection:
    """Connection pool to one server, with at most `connections`. Every call fails after `timeout` seconds.

    A reply that tells of a failover (READONLY, LOADING, MASTERDOWN, NOAUTH) replaces the pool, so that the next call
    resolves the host name, connects and authenticates anew.
    """

    def __init__(self, address: RedisAddress, *, timeout: float = 2.0, connections: int = 64) -> None:
        self.timeout = timeout
        self.failing = False
        """True if the last call failed."""
        self._address = address
        self._max_connections = connections
        self._pool = self._create_pool()
        self._closing_pools: set[asyncio.Task[None]] = set()

    @property
    def pool(self) -> object:
        """The pool in use; another object after a failover."""
        return self._pool

    async def execute(self, *commands: Sequence[RedisArgument]) -> list[RedisReply]:
        """Send commands on one connection, in one round trip; returns all replies, error replies included.

        Raises RedisUnavailable; the effect of the commands is then unknown.
        """
        try:
            async with asyncio.timeout(self.timeout):
                replies = await self._send_and_receive(commands)
        except (RedisError, OSError) as error:
            self.failing = True
            if _is_failover(error):
                self._replace_pool()
            failure = translate_error(error)
        else:
            self.failing = any(map(_is_failover, replies))
            if self.failing:
                self._replace_pool()
            return replies
        raise failure  # outside of the handler, so that the original error is not its context

    async def execute_one(self, *command: RedisArgument) -> RedisReply:
        """Send one command; returns the reply. Raises RedisUnavailable, also for an error reply."""
        (reply,) = await self.execute(command)
        if isinstance(reply, ErrorReply):
            raise translate_error(reply)
        return reply

    @staticmethod
    def is_script_missing(reply: RedisReply) -> bool:
        """Return True for the error reply NOSCRIPT."""
        return isinstance(reply, NoScriptError)

    @staticmethod
    def error_of(reply: RedisReply) -> RedisUnavailable | None:
        """Return the error of an error reply; None for any other reply."""
        return translate_error(reply) if isinstance(reply, ErrorReply) else None

    def pubsub(self) -> PubSub:
        """Return a connection for subscriptions; it raises exceptions of redis-py."""
        return Redis(connection_pool=self._pool).pubsub(ignore_subscribe_messages=True)

    async def close(self) -> None:
        """Close every connection."""
        await _close_connections(self._pool)
        await asyncio.gather(*self._closing_pools)

    async def _send_and_receive(self, commands: Sequence[Sequence[RedisArgument]]) -> list[RedisReply]:
        pool = self._pool
        connection = await pool.get_connection()
        try:
            await connection.send_packed_command(_encode_commands(commands))
            return [await _read_reply(connection) for _ in commands]
        except BaseException:  # a late reply would be taken for the reply of the next command
            await connection.disconnect(nowait=True)
            raise
        finally:
            if pool is not self._pool:
                await connection.disconnect(nowait=True)
            await pool.release(connection)

    def _create_pool(self) -> Any:  # not all of its methods have return types
        address = self._address
        pool = self._pool_to(
            _Credentials(address.password, address.username) if address.username or address.password else None,
            connections=self._max_connections,
            host=address.host,
            port=address.port,
            db=address.database,
        )
        if address.sentinel is not None:
            pool.connection_kwargs["primary"] = self._create_sentinel(address.sentinel)
        return pool

    def _pool_to(self, credentials: CredentialProvider | None, *, connections: int, **target: Any) -> Any:
        address = self._address
        tls_arguments: dict[str, Any] = {}
        if address.tls:
            files = address.tls_files
            tls_arguments = {
                "ssl_ca_certs": files.ca_file and str(files.ca_file),
                "ssl_certfile": files.client_cert_file and str(files.client_cert_file),
                "ssl_keyfile": files.client_key_file and str(files.client_key_file),
            }
        return ConnectionPool(
            connection_class=_TlsConnection if address.tls else _PlainConnection,
            max_connections=connections,
            **target,
            credential_provider=credentials,
            socket_timeout=self.timeout,
            socket_connect_timeout=min(_CONNECT_TIMEOUT, self.timeout),
            retry=Retry(NoBackoff(), 0),  # a repeated command may be executed twice
            protocol=2,
            **tls_arguments,
        )

    def _create_sentinel(self, sentinel: SentinelAddress) -> _Primary:
        """Return the look-up of the primary, with connections of its own."""
        found: Any = Sentinel([])  # type: ignore[no-untyped-call]
        credentials = _Credentials(sentinel.password) if sentinel.password else None
        found.sentinels = [
            Redis(connection_pool=self._pool_to(credentials, connections=2, host=host, port=port))
            for host, port in sentinel.hosts
        ]
        return _Primary(found, sentinel.name)

    def _replace_pool(self) -> None:
        """Start with new connections; connections in use are closed at the end of their call."""
        task = asyncio.create_task(_close_connections(self._pool, in_use=False))
        self._closing_pools.add(task)
        task.add_done_callback(self._closing_pools.discard)
        self._pool = self._create_pool()


class _Credentials(CredentialProvider):
    """User and password of a server. A password file is read at each connect, so that a rotation needs no restart."""

    def __init__(self, password: SecretStr | None, username: str | None = None) -> None:
        self._username = username
        self._password = password

    @override
    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        if self._password is not None:
            self._password = reread_secret(self._password)
        password = "" if self._password is None else self._password.get_secret_value()
        return (password,) if self._username is None else (self._username, password)

    @override
    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return await asyncio.to_thread(self.get_credentials)


@dataclass(slots=True, eq=False)
class _Primary:
    """A primary by its name at Sentinel."""

    sentinel: Sentinel
    name: str
    _search: asyncio.Task[tuple[str, int]] | None = None

    async def find(self) -> tuple[str, int]:
        """Return host and port. Raises an exception of redis-py if no Sentinel process knows them.

        Concurrent callers share one search.
        """
        if self._search is None or self._search.done():
            self._search = asyncio.create_task(self._ask_all())
            self._search.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._search)

    async def _ask_all(self) -> tuple[str, int]:
        """Ask all processes at once, so that one that does not answer delays nothing; the first that knows decides."""
        asked = [asyncio.create_task(self._ask(process)) for process in self.sentinel.sentinels]
        failure: RedisError = MasterNotFoundError("no Sentinel process knows the primary")
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    found = await answer
                except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                    continue
                except RedisError as error:
                    failure = error
                    continue
                if found is not None:
                    return found
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise failure

    async def _ask(self, process: Any) -> tuple[str, int] | None:
        state = (await process.sentinel_masters()).get(self.name)
        if not state or not self.sentinel.check_master_state(state, self.name):
            return None
        return str(state["ip"]), int(state["port"])


def _retrieve_exception(search: asyncio.Task[tuple[str, int]]) -> None:
    if not search.cancelled():
        search.exception()  # all its callers may have left


class _PlainConnection(Connection):
    """A connection of redis-py that tries all addresses of the host (RFC 8305). `primary`: where host and port are."""

    def __init__(self, *, primary: _Primary | None = None, **arguments: Any) -> None:
        self._primary = primary
        super().__init__(**arguments)

    @override
    async def _connect(self) -> None:
        if self._primary is not None:
            self.host, self.port = await self._primary.find()
        loop = asyncio.get_running_loop()
        tls = self._connection_arguments().get("ssl")
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        async with asyncio.timeout(self.socket_connect_timeout):
            connected = await happy_eyeballs.connect_host(self.host, self.port)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            transport, _ = await loop.create_connection(
                lambda: protocol, sock=connected, ssl=tls, server_hostname=self.host if tls else None
            )
        self._reader, self._writer = reader, asyncio.StreamWriter(transport, protocol, reader, loop)


class _TlsConnection(_PlainConnection, SSLConnection):
    """The same with TLS."""


async def _close_connections(pool: Any, *, in_use: bool = True) -> None:
    """Close the connections of a pool, and those to Sentinel."""
    with suppress(RedisError, OSError):
        await pool.disconnect(inuse_connections=in_use)
    primary: _Primary | None = pool.connection_kwargs.get("primary")
    if primary is not None:
        for client in primary.sentinel.sentinels:
            with suppress(RedisError, OSError):
                await client.connection_pool.disconnect()


def _encode_commands(commands: Sequence[Sequence[RedisArgument]]) -> bytes:
    """Encode commands in RESP. The encoder of redis-py supports more types, and takes three times as long."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for argument in command:
            value = argument if isinstance(argument, bytes) else str(argument).encode()
            parts.append(b"$%d\r\n%b\r\n" % (len(value), value))
    return b"".join(parts)


async def _read_reply(connection: Any) -> RedisReply:
    try:
        return await connection.read_response()
    except ErrorReply as error:
        return error
