"""TLS of the ports: contexts from certificate files, replaced at a hot reload without dropping a connection."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Self

from typing_extensions import override

from gateway.settings import SettingsError, TlsSettings

_PROTOCOLS = ["http/1.1"]
_EXPIRED, _NOT_YET_VALID = 10, 9  # verification results: X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_CERT_NOT_YET_VALID


class ReloadableContext(ssl.SSLContext):
    """TLS context of a listening port. New handshakes use `current`; connections keep the one that they began with."""

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Self:
        """Wrap a complete context."""
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.current = current
        return made

    @override
    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def make_reloadable(context: ssl.SSLContext | None) -> ReloadableContext | None:
    """Wrap a port's context so that it can be replaced; None stays None."""
    return None if context is None else ReloadableContext(context)


def replace(live: ReloadableContext | None, context: ssl.SSLContext | None) -> None:
    """Use `context` for new handshakes; a port without TLS, or whose TLS was switched off, stays as it is."""
    if live is not None and context is not None:
        live.current = context


def server_context(settings: TlsSettings | None, location: str) -> ssl.SSLContext | None:
    """Build the context of a port: TLS 1.2 or newer, client certificates as configured.

    Raises SettingsError, with the place below `location`, if a file cannot be read or holds nothing usable, if the key
    does not belong to the certificate, or if the certificate has expired.
    """
    if settings is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_PROTOCOLS)
    _load_certificate(context, settings, location)
    _check_validity(settings, f"{location}.cert")
    if settings.client_ca is not None:
        _load_authorities(context, settings.client_ca, f"{location}.client_ca")
        required = settings.client_certificates == "required"
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings, location: str) -> None:
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), settings.cert, f"{location}.cert")
    _check_readable(settings.key, f"{location}.key")
    try:
        # An empty passphrase: OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.cert, settings.key, password="")
    except ssl.SSLError as error:
        mismatch = error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}
        complaint = (
            "does not belong to the certificate in cert"
            if mismatch
            else "holds no private key in PEM without a passphrase"
        )
        raise SettingsError([(f"{location}.key", complaint)]) from None


def _load_authorities(context: ssl.SSLContext, path: Path, location: str) -> None:
    _check_readable(path, location)
    try:
        context.load_verify_locations(path)
    except ssl.SSLError:
        raise SettingsError([(location, "holds no certificate in PEM")]) from None


def _check_readable(path: Path, location: str) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise SettingsError([(location, f"cannot be read ({error.strerror})")]) from None


def _check_validity(settings: TlsSettings, location: str) -> None:
    """Raise SettingsError if the certificate is not valid today; found by a handshake in memory that trusts it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(settings.cert, settings.key, password="")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(settings.cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    complaints = {_EXPIRED: "has expired", _NOT_YET_VALID: "is not valid yet"}
    try:
        _handshake_in_memory(server, client)
    except ssl.SSLCertVerificationError as error:
        complaint = complaints.get(error.verify_code)
        if complaint is not None:
            raise SettingsError([(location, complaint)]) from None
        raise SettingsError([(location, f"is not usable ({error.verify_message})")]) from None
    except ssl.SSLError as error:
        raise SettingsError([(location, f"is not usable ({error.reason})")]) from None


def _handshake_in_memory(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
