"""Certificates for TLS tests, issued by an authority that each test run creates."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from pathlib import Path

import trustme

from providers.contract import JsonValue

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class TestAuthority:
    """An authority whose certificates are written below `directory`."""

    __test__ = False

    directory: Path
    authority: trustme.CA

    @classmethod
    def create(cls, directory: Path) -> TestAuthority:
        """Make an authority; its own certificate is in `ca_file`."""
        made = cls(directory, trustme.CA())
        made.authority.cert_pem.write_to_path(str(made.ca_file))
        return made

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority (PEM)."""
        return self.directory / "ca.pem"

    def issue(
        self,
        name: str,
        *identities: str,
        days: tuple[int, int] = (-1, 30),
    ) -> tuple[Path, Path]:
        """Write `name`.pem and `name`.key for these identities, valid from and until so many days from now."""
        now = dt.datetime.now(dt.UTC)
        issued = self.authority.issue_cert(
            *identities,
            not_before=now + dt.timedelta(days[0]),
            not_after=now + dt.timedelta(days[1]),
        )
        pem, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        fresh = pem.with_suffix(".new")
        fresh.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        fresh.replace(pem)
        return pem, key

    def server_config(self, name: str = "server") -> dict[str, JsonValue]:
        """Issue a certificate for the loopback address; returns `server.tls`."""
        pem, key = self.issue(name, HOST)
        return {"cert": str(pem), "key": str(key)}

    def client_context(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """Context of a client that trusts the authority, with a certificate of its own if `pair` is given."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        if pair is not None:
            context.load_cert_chain(*pair)
        return context
