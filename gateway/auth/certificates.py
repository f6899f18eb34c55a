"""Client certificates (mutual TLS): look-up from a verified certificate to the client that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.certificate_names import PeerCertificate, certificate_names, normalize_certificate_name


class CertificateIndex:
    """Look-up from a certificate to its client."""

    __slots__ = ("_owners",)

    def __init__(self, entries: Mapping[str, Iterable[str]] | None = None) -> None:
        """`entries`: names of certificates by client. Raises ValueError if one is malformed."""
        self._owners = {
            normalize_certificate_name(name): client for client, names in (entries or {}).items() for name in names
        }

    def __len__(self) -> int:
        return len(self._owners)

    def find(self, certificate: PeerCertificate | None) -> str | None:
        """Name of the client; None without a certificate, or if it names no client, or more than one."""
        if not certificate or not self._owners:
            return None
        clients = {self._owners[name] for name in certificate_names(certificate) if name in self._owners}
        return clients.pop() if len(clients) == 1 else None
