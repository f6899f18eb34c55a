"""Whom callbacks may reach although they are private: the entries of `callbacks.allow`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from gateway.upstream.networks import Address, Network


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name ("*.example.com" for those under it) or a network, at one port or, with None, at every port."""

    what: str | Network
    port: int | None

    @classmethod
    def read(cls, text: str) -> _Entry:
        """Read what `settings.addresses.allowed` has let through: host, *.host, host:port, [v6]:port or network."""
        network = _network(text)
        if network is not None:
            return cls(network, None)
        host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        return cls(_network(host.strip("[]")) or host.lower(), int(port) if port else None)

    def names(self, host: str) -> bool:
        if not isinstance(self.what, str):
            return False
        return host.endswith(self.what[1:]) if self.what.startswith("*.") else host == self.what


class Allowance:
    """All of the operator's entries. ValueError where one is none."""

    def __init__(self, allow: Iterable[str]) -> None:
        self._entries = tuple(_Entry.read(text) for text in allow)

    def names(self, host: str, port: int) -> bool:
        """Whether an entry has this name."""
        return any(entry.names(host) for entry in self._at(port))

    def covers(self, address: Address, port: int) -> bool:
        """Whether an entry has this address."""
        return any(not isinstance(entry.what, str) and address in entry.what for entry in self._at(port))

    def has_networks(self, port: int) -> bool:
        """Whether what a name is allowed to do depends on the addresses behind it."""
        return any(not isinstance(entry.what, str) for entry in self._at(port))

    def _at(self, port: int) -> list[_Entry]:
        return [entry for entry in self._entries if entry.port in {None, port}]


def _network(text: str) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
