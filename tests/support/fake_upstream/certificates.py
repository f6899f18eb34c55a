"""Certificates for a fake upstream with TLS, created in each test run by the `openssl` program.

`openssl_available` returns True if it is installed. No key is checked in.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl_available() -> bool:
    """Return True if the `openssl` program is installed."""
    return shutil.which("openssl") is not None


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """Certificate authority in a directory; peers that trust it load `ca_file`."""

    directory: Path

    @property
    def ca_file(self) -> Path:
        """Certificate of the authority (PEM)."""
        return self.directory / "ca.pem"

    def trusted(self) -> ssl.SSLContext:
        """Server context with a valid certificate for 127.0.0.1."""
        return self._issue("trusted", address="127.0.0.1", days=2)

    def wrong_host(self) -> ssl.SSLContext:
        """Server context with a certificate for another address."""
        return self._issue("wrong_host", address="127.9.9.9", days=2)

    def expired(self) -> ssl.SSLContext:
        """Server context with a certificate that expired yesterday."""
        return self._issue("expired", address="127.0.0.1", days=-1)

    def self_signed(self) -> ssl.SSLContext:
        """Server context with a self-signed certificate."""
        pem, key = self._files("self_signed")
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", key, "-out", pem, "-days", "2", "-subj", "/CN=self-signed",
            "-addext", "subjectAltName=IP:127.0.0.1",
        )  # fmt: skip
        return _server_context(pem, key)

    def _issue(self, name: str, *, address: str, days: int) -> ssl.SSLContext:
        pem, key = self._files(name)
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        # Python 3.13 and later verify strictly (RFC 5280): the authority's key must be identified.
        extensions.write_text(f"subjectAltName=IP:{address}\nauthorityKeyIdentifier=keyid\n")
        _openssl("req", "-new", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-out", pem, "-CA", self.ca_file, "-CAkey", self.directory / "ca.key",
            "-CAcreateserial", "-days", str(days), "-extfile", extensions,
        )  # fmt: skip
        return _server_context(pem, key)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"


def new_authority(directory: Path) -> CertificateAuthority:
    """Create a new authority."""
    authority = CertificateAuthority(directory)
    _openssl(
        "req", "-x509", *_NEW_KEY, "-keyout", directory / "ca.key", "-out", authority.ca_file, "-days", "2",
        "-subj", "/CN=Runward test authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
    )  # fmt: skip
    return authority


def tls_1_0(context: ssl.SSLContext) -> ssl.SSLContext:
    """Return the same context restricted to TLS 1.0."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def _server_context(pem: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)
