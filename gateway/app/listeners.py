"""Listening ports of the process: the public port for clients and the operations port; its limit of descriptors."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address
from typing import TypeAlias

from aiohttp import web
from typing_extensions import override

from gateway.settings import ServerSettings

LISTEN_BACKLOG = 1024
"""Connections that the kernel queues until they are accepted."""
TLS_HANDSHAKE_TIMEOUT = 10.0
"""Seconds; asyncio's default is a minute."""
RESPONSE_GRACE = 1.0
"""Seconds for responses that are being sent when a port closes; aiohttp's default is a minute."""

MAX_DESCRIPTORS = 1_048_576
"""Descriptors that the process allows itself, at most."""
_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.ENOPROTOOPT}


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """TLS contexts of both ports; None for plain HTTP."""

    public: ssl.SSLContext | None = None
    ops: ssl.SSLContext | None = None


class _TlsSite(web.BaseSite):
    """Port with TLS and a bounded handshake: a host and port, or a socket that already listens."""

    def __init__(self, runner: web.ServerRunner, tls: ssl.SSLContext, target: tuple[str, int] | socket.socket) -> None:
        super().__init__(runner, ssl_context=tls, backlog=LISTEN_BACKLOG)
        self._target = target

    @property
    @override
    def name(self) -> str:
        return f"https:{self._target}"

    @override
    async def start(self) -> None:
        await super().start()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner is not set up")
        create = partial(
            asyncio.get_running_loop().create_server,
            server,
            ssl=self._ssl_context,
            backlog=LISTEN_BACKLOG,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT,
        )
        if isinstance(self._target, socket.socket):
            self._server = await create(sock=self._target)
        else:
            self._server = await create(*self._target)


@dataclass(frozen=True, slots=True)
class Listener:
    """An open port. `addresses` are (host, port) pairs as the system chose them."""

    runner: web.ServerRunner
    addresses: tuple[tuple[str, int], ...]
    secure: bool = False

    @classmethod
    async def open(cls, server: web.Server, host: str, port: int, tls: ssl.SSLContext | None = None) -> Listener:
        """Bind and listen, at `::` for IPv4 as well. Raises OSError if the address cannot be bound."""
        if is_dual_stack(host):
            return await cls.from_sockets(server, [open_dual_stack_socket(port)], tls)
        runner = await _create_runner(server)
        site = _TlsSite(runner, tls, (host, port)) if tls else web.TCPSite(runner, host, port, backlog=LISTEN_BACKLOG)
        return await cls._start(runner, [site], secure=tls is not None)

    @classmethod
    async def from_sockets(
        cls, server: web.Server, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None
    ) -> Listener:
        """Accept from sockets that already listen."""
        runner = await _create_runner(server)
        sites = [
            _TlsSite(runner, tls, sock) if tls else web.SockSite(runner, sock, backlog=LISTEN_BACKLOG)
            for sock in sockets
        ]
        return await cls._start(runner, sites, secure=tls is not None)

    @classmethod
    async def from_sites(
        cls, server: web.Server, create_sites: Callable[[web.ServerRunner], Sequence[web.BaseSite]], *, secure: bool
    ) -> Listener:
        """Accept with sites of another kind."""
        runner = await _create_runner(server)
        return await cls._start(runner, create_sites(runner), secure=secure)

    @classmethod
    async def for_external_port(cls, server: web.Server, host: str, port: int) -> Listener:
        """Describe a port that another process listens on; nothing is opened."""
        return cls(await _create_runner(server), ((host, port),))

    @classmethod
    async def _start(cls, runner: web.ServerRunner, sites: Sequence[web.BaseSite], *, secure: bool) -> Listener:
        try:
            for site in sites:
                await site.start()
        except OSError:
            await runner.cleanup()
            raise
        return cls(runner, tuple((address[0], address[1]) for address in runner.addresses), secure)

    @property
    def url(self) -> str:
        """URL of the first address."""
        return base_url(*self.addresses[0], secure=self.secure)

    async def stop_accepting(self) -> None:
        """Close the port; open connections stay."""
        for site in list(self.runner.sites):
            await site.stop()

    async def close(self) -> None:
        """Close the port and its connections."""
        await self.runner.cleanup()


async def _create_runner(server: web.Server) -> web.ServerRunner:
    runner = web.ServerRunner(server, shutdown_timeout=RESPONSE_GRACE)
    await runner.setup()
    return runner


def is_dual_stack(host: str) -> bool:
    """Return True for `::`, in any spelling: every IPv6 address, and every IPv4 address."""
    try:
        return IPv6Address(host).is_unspecified
    except ValueError:
        return False


def open_dual_stack_socket(port: int) -> socket.socket:
    """Return a socket that listens on every IPv6 and IPv4 address of the machine.

    Raises OSError; its text says so if the machine has no IPv6.
    """
    try:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError as error:
        raise _dual_stack_error(error, port) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        sock.close()
        raise _dual_stack_error(error, port) from None
    sock.settimeout(0)
    return sock


def _dual_stack_error(error: OSError, port: int) -> OSError:
    if error.errno in _NO_IPV6:
        return OSError(error.errno, "[::]: this machine has no IPv6; 0.0.0.0 is every IPv4 address")
    return OSError(error.errno, f"[::]:{port}: {error.strerror}")


def base_url(host: str, port: int, *, secure: bool = False) -> str:
    """URL of a host and port; IPv6 addresses get brackets."""
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the limit of open descriptors to the hard limit, at most to MAX_DESCRIPTORS: each connection needs one.

    Returns the limit before and after. The limit stays where the system does not permit it.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if before == resource.RLIM_INFINITY or before >= limit:
        return before, before
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # macOS permits fewer than its hard limit says
        return before, before
    return before, limit


OpenListeners: TypeAlias = Callable[[web.Server, web.Server, TlsContexts], Awaitable[tuple[Listener, Listener]]]
"""Opens the public port and the operations port, both or neither. Raises OSError."""


def listeners_from_settings(settings: ServerSettings) -> OpenListeners:
    """Open both ports in this process, at the addresses of the settings."""

    async def open_listeners(public: web.Server, ops: web.Server, tls: TlsContexts) -> tuple[Listener, Listener]:
        public_listener = await Listener.open(public, settings.host, settings.port, tls.public)
        try:
            return public_listener, await Listener.open(ops, settings.ops_host, settings.ops_port, tls.ops)
        except OSError:
            await public_listener.close()
            raise

    return open_listeners
