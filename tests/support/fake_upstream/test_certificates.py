"""TLS contexts of the fake upstream have exactly the intended fault."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.fake_upstream import certificates
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl program here")


@pytest.fixture
def authority(tmp_path: Path) -> certificates.CertificateAuthority:
    """Authority of this test."""
    return certificates.new_authority(tmp_path)


async def get_status(session: aiohttp.ClientSession, tls: ssl.SSLContext, ca_file: Path) -> int:
    """Return the status that a client with `ca_file` gets from a server with that context."""
    async with FakeUpstream(tls=tls) as fake:
        fake.default = reply(200)
        trusting = ssl.create_default_context(cafile=ca_file)
        async with session.get(fake.url, ssl=trusting) as answer:
            return answer.status


async def test_a_trusted_certificate_is_accepted(
    session: aiohttp.ClientSession, authority: certificates.CertificateAuthority
) -> None:
    """Positive control of the other tests."""
    assert 200 == await get_status(session, authority.trusted(), authority.ca_file)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong_host", "IP address mismatch"),
        ("expired", "certificate has expired"),
        ("self_signed", "self-signed certificate"),
    ],
)
async def test_a_bad_certificate_is_refused_for_its_own_reason(
    session: aiohttp.ClientSession, authority: certificates.CertificateAuthority, kind: str, reason: str
) -> None:
    with pytest.raises(aiohttp.ClientConnectorCertificateError, match=reason):
        await get_status(session, getattr(authority, kind)(), authority.ca_file)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
async def test_an_old_tls_version_is_refused_by_default(
    session: aiohttp.ClientSession, authority: certificates.CertificateAuthority
) -> None:
    """The server supports TLS 1.0 only."""
    async with FakeUpstream(tls=certificates.tls_1_0(authority.trusted())) as fake:
        fake.default = reply(200)
        old = certificates.tls_1_0(ssl.create_default_context(cafile=authority.ca_file))
        async with session.get(fake.url, ssl=old) as answer:
            assert 200 == answer.status
        modern = ssl.create_default_context(cafile=authority.ca_file)
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(fake.url, ssl=modern)
