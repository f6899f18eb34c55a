"""Who may be called back. Nobody gets a connection whose address was not judged here, right before it is dialled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

from gateway.problems import Problem
from gateway.upstream import target
from gateway.upstream.allowance import Allowance
from gateway.upstream.networks import Address, is_here, is_private, is_public
from gateway.upstream.target import Target

LookUp: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host and port, best first; OSError where there are none."""
Own: TypeAlias = Callable[[], Collection[tuple[str, int]]]
"""Tells where the gateway itself is: hosts (addresses, 0.0.0.0, names) and ports."""

_PORTS = frozenset({443, 8443})
# What these names end in is never public: they are for machines (RFC 6761, RFC 8375), or were taken to be.
_INNER = frozenset(
    ("arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc")
)


class SystemNames:
    """The machine's resolver, on threads of its own: names whose servers hang must not hold up those of providers."""

    def __init__(self, threads: int = 8) -> None:
        self._pool = ThreadPoolExecutor(threads, "callback-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `LookUp`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._pool, socket.getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_STREAM
        )
        return [str(entry[4][0]) for entry in found]


class Egress:
    """The judge. A target must be public https, unless the operator allows it; the gateway itself never is one.

    A name that the operator allows may be private, but not link-local, multicast or a cloud's metadata: only a network
    allows those.
    """

    def __init__(
        self, allow: Collection[str], *, own: Own = tuple, look_up: LookUp | None = None, seconds: float = 5.0
    ) -> None:
        """`seconds` bounds each look-up. ValueError where an entry of `allow` is none."""
        self._allowance = Allowance(allow)
        self._own = own
        self._look_up = look_up or SystemNames()
        self._seconds = seconds

    def reconfigure(self, allowance: Allowance) -> None:
        """Allow this from the next question on; what was judged and not dialled yet is not judged again."""
        self._allowance = allowance

    def check(self, url: str) -> Target:
        """Read a `callback_url` and judge what can be judged without asking anybody.

        Raises Problem("callback_url_refused"). A private target is refused in the same words whatever is there (R60).
        """
        meant = target.read(url)
        permitted = self._permits(meant, meant.address) if meant.address else self._may_ask(meant)
        if not permitted:
            raise _refused()
        return meant

    async def resolve(self, meant: Target) -> tuple[Address, ...]:
        """Find the addresses of a target that may be dialled, best first; at least one.

        Raises Problem("callback_url_refused") where there is none: whether a name does not exist, or is private, or
        did not resolve in time, is not told.
        """
        found = [meant.address] if meant.address else await self._ask(meant)
        permitted = tuple(address for address in dict.fromkeys(found) if self._permits(meant, address))
        if not permitted:
            raise _refused()
        return permitted

    async def _ask(self, meant: Target) -> list[Address]:
        try:
            async with asyncio.timeout(self._seconds):
                return [ip_address(text) for text in await self._look_up(meant.host, meant.port)]
        except (OSError, TimeoutError):
            return []

    def _may_ask(self, meant: Target) -> bool:
        if (meant.host, meant.port) in self._own():
            return False
        return (
            _is_ordinary(meant)
            or self._allowance.names(meant.host, meant.port)
            or self._allowance.has_networks(meant.port)
        )

    def _permits(self, meant: Target, address: Address) -> bool:
        if self._is_own(address, meant.port):
            return False
        if self._allowance.covers(address, meant.port):
            return True
        if self._allowance.names(meant.host, meant.port):
            return is_public(address) or is_private(address)
        return _is_ordinary(meant) and is_public(address)

    def _is_own(self, address: Address, port: int) -> bool:
        """Whether the gateway listens there; 0.0.0.0 is every address of this machine, on either side."""
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        address = mapped or address
        hosts = {host for host, own_port in self._own() if own_port == port}
        everywhere = bool(hosts & {"0.0.0.0", "::"})
        return bool(hosts) and (str(address) in hosts or address.is_unspecified or (everywhere and is_here(address)))


def _is_ordinary(meant: Target) -> bool:
    """Whether it may be public, as far as its text tells."""
    inner = meant.address is None and ("." not in meant.host or meant.host.rpartition(".")[2] in _INNER)
    return meant.scheme == "https" and meant.port in _PORTS and not inner


def _refused() -> Problem:
    """The same words for everything that is not where a client may send us."""
    return Problem(
        "callback_url_refused",
        "The callback_url must be https to a public host, on port 443 or 8443, or one that the operator allows.",
    )
