"""Who may be called back. Nobody gets a connection whose address was not judged here, right before it is dialled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

from gateway.outbound.webhook import callback_url
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.outbound.webhook.callback_url import CallbackUrl
from gateway.outbound.webhook.ip_ranges import IpAddress, is_local, is_private, is_public
from gateway.problems import Problem

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host and port, best first; OSError where there are none."""
OwnAddresses: TypeAlias = Callable[[], Collection[tuple[str, int]]]
"""Tells where the gateway itself is: hosts (addresses, 0.0.0.0, names) and ports."""

_ALLOWED_PORTS = frozenset({443, 8443})
# What these names end in is never public: they are for machines (RFC 6761, RFC 8375), or were taken to be.
_INTERNAL_SUFFIXES = frozenset(
    ("arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc")
)


class SystemResolver:
    """The machine's resolver, on threads of its own: names whose servers hang must not hold up those of providers."""

    def __init__(self, threads: int = 8) -> None:
        self._executor = ThreadPoolExecutor(threads, "callback-names")

    async def __call__(self, host: str, port: int) -> list[str]:
        """See `LookUp`."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._executor, socket.getaddrinfo, host, port, socket.AF_UNSPEC, socket.SOCK_STREAM
        )
        return [str(entry[4][0]) for entry in found]


class EgressPolicy:
    """The judge. A target must be public https, unless the operator allows it; the gateway itself never is one.

    A name that the operator allows may be private, but not link-local, multicast or a cloud's metadata: only a network
    allows those.
    """

    def __init__(
        self,
        allow: Collection[str],
        *,
        own_addresses: OwnAddresses = tuple,
        resolver: Resolver | None = None,
        lookup_timeout: float = 5.0,
    ) -> None:
        """`seconds` bounds each look-up. ValueError where an entry of `allow` is none."""
        self._allowlist = CallbackAllowlist(allow)
        self._own_addresses = own_addresses
        self._resolver = resolver or SystemResolver()
        self._lookup_timeout = lookup_timeout

    def set_own_addresses(self, addresses: Collection[tuple[str, int]]) -> None:
        """Refuse these addresses from now on: hosts and ports on which the gateway itself listens."""
        self._own_addresses = lambda: addresses

    def reconfigure(self, allowlist: CallbackAllowlist) -> None:
        """Allow this from the next question on; what was judged and not dialled yet is not judged again."""
        self._allowlist = allowlist

    def check(self, url: str) -> CallbackUrl:
        """Read a `callback_url` and judge what can be judged without asking anybody.

        Raises Problem("callback_url_refused"). A private target is refused in the same words whatever is there (R60).
        """
        destination = callback_url.parse(url)
        permitted = (
            self._permits_address(destination, destination.address)
            if destination.address
            else self._may_resolve(destination)
        )
        if not permitted:
            raise _refused_problem()
        return destination

    async def resolve(self, destination: CallbackUrl) -> tuple[IpAddress, ...]:
        """Find the addresses of a target that may be dialled, best first; at least one.

        Raises Problem("callback_url_refused") where there is none: whether a name does not exist, or is private, or
        did not resolve in time, is not told.
        """
        found = [destination.address] if destination.address else await self._resolve_host(destination)
        permitted = tuple(address for address in dict.fromkeys(found) if self._permits_address(destination, address))
        if not permitted:
            raise _refused_problem()
        return permitted

    async def _resolve_host(self, destination: CallbackUrl) -> list[IpAddress]:
        try:
            async with asyncio.timeout(self._lookup_timeout):
                return [ip_address(text) for text in await self._resolver(destination.host, destination.port)]
        except (OSError, TimeoutError):
            return []

    def _may_resolve(self, destination: CallbackUrl) -> bool:
        if (destination.host, destination.port) in self._own_addresses():
            return False
        return (
            _may_be_public(destination)
            or self._allowlist.allows_host(destination.host, destination.port)
            or self._allowlist.has_networks(destination.port)
        )

    def _permits_address(self, destination: CallbackUrl, address: IpAddress) -> bool:
        if self._is_own_address(address, destination.port):
            return False
        if self._allowlist.allows_address(address, destination.port):
            return True
        if self._allowlist.allows_host(destination.host, destination.port):
            return is_public(address) or is_private(address)
        return _may_be_public(destination) and is_public(address)

    def _is_own_address(self, address: IpAddress, port: int) -> bool:
        """Whether the gateway listens there; 0.0.0.0 is every address of this machine, on either side."""
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        address = mapped or address
        hosts = {host for host, own_port in self._own_addresses() if own_port == port}
        everywhere = bool(hosts & {"0.0.0.0", "::"})
        return bool(hosts) and (str(address) in hosts or address.is_unspecified or (everywhere and is_local(address)))


def _may_be_public(destination: CallbackUrl) -> bool:
    """Whether it may be public, as far as its text tells."""
    is_internal = destination.address is None and (
        "." not in destination.host or destination.host.rpartition(".")[2] in _INTERNAL_SUFFIXES
    )
    return destination.scheme == "https" and destination.port in _ALLOWED_PORTS and not is_internal


def _refused_problem() -> Problem:
    """The same words for everything that is not where a client may send us."""
    return Problem(
        "callback_url_refused",
        "The callback_url must be https to a public host, on port 443 or 8443, or one that the operator allows.",
    )
