"""TLS to providers: no request is sent without a valid certificate (R26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream import certificates
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from tests.conftest import StartGateway
    from tests.support.client import PostRun, ReceivedResponse

pytestmark = pytest.mark.skipif(not certificates.openssl_available(), reason="there is no openssl program here")


@pytest.fixture
def authority(tmp_path: Path) -> certificates.CertificateAuthority:
    """Authority that the gateway of the test trusts."""
    return certificates.new_authority(tmp_path)


async def run_over_tls(
    gateway: StartGateway, run: PostRun, authority: certificates.CertificateAuthority, tls: ssl.SSLContext
) -> tuple[ReceivedResponse, FakeUpstream]:
    """Run against a provider with this TLS context."""
    async with FakeUpstream(tls=tls) as fake:
        fake.default = prompt_studio_reply({"completion": "because"})
        env = {**PROVIDER_SECRETS, "SSL_CERT_FILE": str(authority.ca_file)}
        running = await gateway(gateway_config(fake.url, fake.url), env)
        return await run(running, {"workflow": "studio"}), fake


async def test_a_provider_with_a_trusted_certificate_is_used(
    gateway: StartGateway, run: PostRun, authority: certificates.CertificateAuthority
) -> None:
    """Positive control of the other tests."""
    answered, fake = await run_over_tls(gateway, run, authority, authority.trusted())
    assert (200, 1) == (answered.status, len(fake.received))


@pytest.mark.parametrize("kind", ["wrong_host", "expired", "self_signed"])
async def test_a_bad_certificate_ends_the_run_before_anything_is_sent(
    gateway: StartGateway, run: PostRun, authority: certificates.CertificateAuthority, kind: str
) -> None:
    """R26: 502, not_run, without a retry and without a fallback to plain text."""
    answered, fake = await run_over_tls(gateway, run, authority, getattr(authority, kind)())
    assert (502, "upstream_misconfigured", "not_run") == answered.summary
    assert (1, []) == (answered.json["attempts"], fake.received)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated:DeprecationWarning")
async def test_an_old_protocol_is_not_spoken(
    gateway: StartGateway, run: PostRun, authority: certificates.CertificateAuthority
) -> None:
    """R26: TLS 1.0 counts as unreachable."""
    answered, fake = await run_over_tls(gateway, run, authority, certificates.tls_1_0(authority.trusted()))
    assert (502, "not_run", []) == (answered.status, answered.json["outcome"], fake.received)
