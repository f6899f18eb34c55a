"""Egress policy for callbacks: SSRF protection.

Every address is checked right before the gateway connects to it, so that DNS rebinding has no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from ipaddress import IPv6Address, ip_address
from typing import TypeAlias

from gateway.errors import CallbackUrlRefused
from gateway.outbound.webhook import callback_url
from gateway.outbound.webhook.allowlist import CallbackAllowlist
from gateway.outbound.webhook.callback_url import CallbackUrl
from gateway.outbound.webhook.fair_resolver import FairResolver, Resolver, SystemResolver
from gateway.outbound.webhook.ip_ranges import IpAddress, is_local, is_private, is_public

OwnAddresses: TypeAlias = Callable[[], Collection[tuple[str, int]]]
"""Returns the addresses of the gateway itself: hosts (addresses, 0.0.0.0, names) and ports."""

_ALLOWED_PORTS = frozenset({443, 8443})
# Top-level domains of private names: reserved (RFC 6761, RFC 8375), or in common private use.
_INTERNAL_SUFFIXES = frozenset(
    ("arpa", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc")
)


class EgressPolicy:
    """Decides about callback targets. A target must be public https, or allowed by the operator, and not the gateway.

    An allowed host name may be private, but not link-local, multicast or cloud metadata: those need an allowed network.
    """

    def __init__(
        self,
        allow: Collection[str],
        *,
        own_addresses: OwnAddresses = tuple,
        resolver: Resolver | None = None,
        lookup_timeout: float = 5.0,
    ) -> None:
        """Create a policy. `lookup_timeout`: seconds of a DNS look-up. ValueError for an invalid `allow` entry."""
        self._allowlist = CallbackAllowlist(allow)
        self._own_addresses = own_addresses
        self._resolver = FairResolver(resolver or SystemResolver())
        self._lookup_timeout = lookup_timeout

    def set_own_addresses(self, addresses: Collection[tuple[str, int]]) -> None:
        """Refuse these addresses from now on: hosts and ports on which the gateway itself listens."""
        self._own_addresses = lambda: addresses

    def reconfigure(self, allowlist: CallbackAllowlist) -> None:
        """Replace the allowlist for the decisions that follow."""
        self._allowlist = allowlist

    def check(self, url: str) -> CallbackUrl:
        """Parse a `callback_url`, and decide as far as possible without a DNS look-up.

        Raises CallbackUrlRefused, with the same text for every private target.
        """
        destination = callback_url.parse(url)
        permitted = (
            self._permits_address(destination, destination.address)
            if destination.address
            else self._may_resolve(destination)
        )
        if not permitted:
            raise _refused()
        return destination

    async def resolve(self, destination: CallbackUrl, client: str = "") -> tuple[IpAddress, ...]:
        """Return the permitted addresses of a target, best first; at least one. The look-up is one of `client`.

        Raises CallbackUrlRefused if there is none. The text does not depend on the reason: the name does not exist, is
        private, or was not resolved in time.
        """
        found = [destination.address] if destination.address else await self._resolve_host(destination, client)
        permitted = tuple(address for address in dict.fromkeys(found) if self._permits_address(destination, address))
        if not permitted:
            raise _refused()
        return permitted

    async def check_for_proxy(self, destination: CallbackUrl, client: str = "") -> None:
        """Check a target that a proxy resolves and connects to.

        Every address that the host has here must be permitted. A name without one here is left to the proxy, unless
        only an allowed network would permit it. Raises CallbackUrlRefused.
        """
        found = [destination.address] if destination.address else await self._resolve_host(destination, client)
        if not all(self._permits_address(destination, address) for address in found):
            raise _refused()
        by_name = _may_be_public(destination) or self._allowlist.allows_host(destination.host, destination.port)
        if not found and not by_name:
            raise _refused()

    async def _resolve_host(self, destination: CallbackUrl, client: str) -> list[IpAddress]:
        try:
            async with asyncio.timeout(self._lookup_timeout):
                found = await self._resolver.resolve(client, destination.host, destination.port)
                return [ip_address(text) for text in found]
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
        """Return True if the gateway listens there. 0.0.0.0 stands for all addresses of this machine, on both sides."""
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        address = mapped or address
        hosts = {host for host, own_port in self._own_addresses() if own_port == port}
        everywhere = bool(hosts & {"0.0.0.0", "::"})
        return bool(hosts) and (str(address) in hosts or address.is_unspecified or (everywhere and is_local(address)))


def _may_be_public(destination: CallbackUrl) -> bool:
    """Return True if the target may be public, judged by its text."""
    is_internal = destination.address is None and (
        "." not in destination.host or destination.host.rpartition(".")[2] in _INTERNAL_SUFFIXES
    )
    return destination.scheme == "https" and destination.port in _ALLOWED_PORTS and not is_internal


def _refused() -> CallbackUrlRefused:
    """Return the error for every target that is not permitted."""
    return CallbackUrlRefused(
        "The callback_url must be https to a public host, on port 443 or 8443, or one that the operator allows.",
    )
