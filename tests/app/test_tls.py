"""TLS contexts of the ports: unusable files are refused with their place."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from gateway.app.tls import ReloadableContext, server_context
from gateway.settings import SettingsError, TlsSettings
from tests.app.tls_harness import HOST, TestAuthority

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def authority(tmp_path: Path) -> TestAuthority:
    return TestAuthority.create(tmp_path)


def errors_of(settings: TlsSettings) -> tuple[tuple[str, str], ...]:
    with pytest.raises(SettingsError) as refused:
        server_context(settings, "server.tls")
    return refused.value.errors


def test_a_valid_certificate_makes_a_context_of_tls_1_2_or_newer(authority: TestAuthority) -> None:
    pem, key = authority.issue("server", HOST)
    context = server_context(TlsSettings(cert=pem, key=key), "server.tls")
    assert context is not None
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert ssl.CERT_NONE == context.verify_mode


def test_without_settings_there_is_no_tls() -> None:
    assert server_context(None, "server.tls") is None


@pytest.mark.parametrize(
    ("demand", "mode"), [("required", ssl.CERT_REQUIRED), ("optional", ssl.CERT_OPTIONAL), (None, ssl.CERT_REQUIRED)]
)
def test_client_certificates_are_verified_as_configured(
    authority: TestAuthority, demand: str | None, mode: ssl.VerifyMode
) -> None:
    """With an authority, a client certificate is required by default."""
    pem, key = authority.issue("server", HOST)
    named = {} if demand is None else {"client_certificates": demand}
    settings = TlsSettings.model_validate({"cert": pem, "key": key, "client_ca": authority.ca_file, **named})
    context = server_context(settings, "server.tls")
    assert context is not None
    assert mode == context.verify_mode


def test_a_key_of_another_certificate_is_refused(authority: TestAuthority) -> None:
    pem, _ = authority.issue("server", HOST)
    _, other_key = authority.issue("other", HOST)
    errors = errors_of(TlsSettings(cert=pem, key=other_key))
    assert (("server.tls.key", "does not belong to the certificate in cert"),) == errors


@pytest.mark.parametrize(
    ("days", "complaint"), [((-30, -1), "has expired"), ((10, 30), "is not valid yet")], ids=["expired", "future"]
)
def test_a_certificate_outside_of_its_validity_is_refused(
    authority: TestAuthority, days: tuple[int, int], complaint: str
) -> None:
    pem, key = authority.issue("server", HOST, days=days)
    assert (("server.tls.cert", complaint),) == errors_of(TlsSettings(cert=pem, key=key))


def test_a_certificate_without_pem_is_refused(authority: TestAuthority) -> None:
    pem, key = authority.issue("server", HOST)
    pem.write_text("no certificate")
    assert (("server.tls.cert", "holds no certificate in PEM"),) == errors_of(TlsSettings(cert=pem, key=key))


def test_a_key_file_without_a_key_is_refused(authority: TestAuthority) -> None:
    """OpenSSL does not ask for a passphrase on the terminal."""
    pem, key = authority.issue("server", HOST)
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    errors = errors_of(TlsSettings(cert=pem, key=key))
    assert (("server.tls.key", "holds no private key in PEM without a passphrase"),) == errors


def test_a_file_that_was_removed_is_refused(authority: TestAuthority) -> None:
    pem, key = authority.issue("server", HOST)
    settings = TlsSettings(cert=pem, key=key)
    key.unlink()
    assert (("server.tls.key", "cannot be read (No such file or directory)"),) == errors_of(settings)


def test_an_authority_without_a_certificate_is_refused(authority: TestAuthority) -> None:
    pem, key = authority.issue("server", HOST)
    empty = authority.directory / "empty.pem"
    empty.touch()
    errors = errors_of(TlsSettings(cert=pem, key=key, client_ca=empty))
    assert (("server.tls.client_ca", "holds no certificate in PEM"),) == errors


def test_a_reloadable_context_handshakes_with_the_current_one(authority: TestAuthority) -> None:
    """Later handshakes use the replacement."""
    first, second = (server_context(TlsSettings(cert=p, key=k), "") for p, k in _pairs(authority))
    assert first is not None
    assert second is not None
    live = ReloadableContext(first)
    used = [_context_of_handshake(live)]
    live.current = second
    used.append(_context_of_handshake(live))
    assert [first, second] == used


def _pairs(authority: TestAuthority) -> list[tuple[Path, Path]]:
    return [authority.issue(name, HOST) for name in ("first", "second")]


def _context_of_handshake(context: ssl.SSLContext) -> ssl.SSLContext:
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True).context
