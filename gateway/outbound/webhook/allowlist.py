"""Allowlist of private callback targets: the entries of `callbacks.allow`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from gateway.outbound.webhook.ip_ranges import IpAddress, IpNetwork


@dataclass(frozen=True, slots=True)
class _AllowlistEntry:
    """A host name ("*.example.com" for all subdomains) or a network, with one port, or every port for None."""

    host_or_network: str | IpNetwork
    port: int | None

    @classmethod
    def parse(cls, text: str) -> _AllowlistEntry:
        """Parse a validated entry (`settings.types.addresses`): host, *.host, host:port, [v6]:port or network."""
        network = _parse_network(text)
        if network is not None:
            return cls(network, None)
        host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        return cls(_parse_network(host.strip("[]")) or host.lower(), int(port) if port else None)

    def matches_host(self, host: str) -> bool:
        if not isinstance(self.host_or_network, str):
            return False
        return (
            host.endswith(self.host_or_network[1:])
            if self.host_or_network.startswith("*.")
            else host == self.host_or_network
        )


class CallbackAllowlist:
    """All entries. Raises ValueError for an invalid one."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._entries = tuple(_AllowlistEntry.parse(text) for text in entries)

    def allows_host(self, host: str, port: int) -> bool:
        """Return True if an entry matches this host name."""
        return any(entry.matches_host(host) for entry in self._entries_for_port(port))

    def allows_address(self, address: IpAddress, port: int) -> bool:
        """Return True if an entry contains this address."""
        return any(
            not isinstance(entry.host_or_network, str) and address in entry.host_or_network
            for entry in self._entries_for_port(port)
        )

    def has_networks(self, port: int) -> bool:
        """Return True if there are network entries, so that a host name has to be resolved for a decision."""
        return any(not isinstance(entry.host_or_network, str) for entry in self._entries_for_port(port))

    def _entries_for_port(self, port: int) -> list[_AllowlistEntry]:
        return [entry for entry in self._entries if entry.port in {None, port}]


def _parse_network(text: str) -> IpNetwork | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
