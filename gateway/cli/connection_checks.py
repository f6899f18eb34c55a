"""Checks of `runward check --connect`: what the configuration names is reachable and accepts its credentials.

No check starts a run or changes anything: provider keys are tested by a call that is free, a Redis server is asked for
its settings, and a SQLite file is not opened.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from gateway.app import factories
from gateway.app.snapshot import ConfigSnapshot
from gateway.auth.oidc.issuer_keys import IssuerConfig, fetch_key_set
from gateway.cli.stored_key_checks import describe_ineffective_keys
from gateway.clock import Clock
from gateway.outbound.issuer_client import IssuerClient, IssuerFault
from gateway.outbound.provider.client import ProviderClient
from gateway.redis.errors import RedisUnavailable
from gateway.settings import IssuerSettings, ProviderSettings, Settings
from gateway.store import factory
from gateway.store.contract import StoreUnavailable
from providers.contract import Adapter, Call, ProviderFault

TIMEOUT = 10.0
"""Seconds for each check."""
_EXPIRY_WARNING = 14  # days

Status: TypeAlias = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check. `subject` is the place in the configuration; `detail` holds no secret."""

    subject: str
    check: str
    status: Status
    detail: str


class _CheckFailed(Exception):
    """The check failed; the text is its detail."""


async def run_checks(settings: Settings, snapshot: ConfigSnapshot, clock: Clock) -> list[CheckResult]:
    """Run every check, concurrently; results are in the order of the configuration."""
    groups = await asyncio.gather(
        *(
            _check_provider(name, settings.providers[name], provider.adapter, snapshot.upstreams[name], clock)
            for name, provider in snapshot.providers.items()
        ),
        *(
            _check_issuer(f"issuers.{name}", settings.issuers[name], issuer, clock)
            for name, issuer in snapshot.tokens.issuers.items()
        ),
        _check_store(settings),
        _check_public_url(settings.server.public_url, clock),
    )
    return [result for group in groups for result in group] + _check_callback_secrets(settings)


async def _check_provider(
    name: str, settings: ProviderSettings, adapter: Adapter, client: ProviderClient, clock: Clock
) -> list[CheckResult]:
    subject = f"providers.{name}"
    if settings.proxy is not None:  # names may not resolve here; the call that tests the key goes through the proxy
        results = [CheckResult(f"{subject}.base_url", "connect", "skipped", f"is reached through {subject}.proxy")]
    else:
        results = await _check_url(
            f"{subject}.base_url", settings.base_url or adapter.base_url or "", settings.ca_file, clock
        )
    if results[-1].status == "failed":
        return [*results, CheckResult(f"{subject}.api_key", "key", "skipped", "the provider is not reachable")]
    key_check: Call | None = getattr(adapter, "key_check", None)
    if key_check is None:
        detail = "the provider has no call that tests a key without starting a run"
        return [*results, CheckResult(f"{subject}.api_key", "key", "skipped", detail)]
    return [*results, await _check_key(f"{subject}.api_key", client, key_check, clock)]


async def _check_key(subject: str, client: ProviderClient, call: Call, clock: Clock) -> CheckResult:
    try:
        reply = await client.send(call, clock.monotonic() + TIMEOUT)
    except ProviderFault as fault:
        return CheckResult(subject, "key", "failed", fault.detail or fault.cause.value)
    finally:
        await client.close()
    if reply.status in {401, 403}:
        return CheckResult(subject, "key", "failed", f"the provider does not accept the key (status {reply.status})")
    if reply.status != 200:
        return CheckResult(subject, "key", "warning", f"the key could not be tested (status {reply.status})")
    return CheckResult(subject, "key", "ok", "the provider accepts the key")


async def _check_issuer(
    subject: str, settings: IssuerSettings, issuer: IssuerConfig, clock: Clock
) -> list[CheckResult]:
    """Connect to an issuer, and fetch its keys as a gateway does."""
    address = "url" if settings.jwks_uri is None else "jwks_uri"
    if settings.proxy is not None:
        results = [CheckResult(f"{subject}.{address}", "connect", "skipped", f"is reached through {subject}.proxy")]
    else:
        results = await _check_url(f"{subject}.{address}", settings.jwks_uri or settings.url, settings.ca_file, clock)
    if results[-1].status == "failed":
        return [*results, CheckResult(subject, "keys", "skipped", "the issuer is not reachable")]
    try:
        found = await fetch_key_set(IssuerClient(issuer.endpoint), issuer.endpoint)
    except IssuerFault as fault:
        return [*results, CheckResult(subject, "keys", "failed", str(fault))]
    detail = f"keys that verify tokens: {len(found.keys)}, others: {found.ignored}"
    return [*results, CheckResult(subject, "keys", "ok" if found.keys else "warning", detail)]


async def _check_public_url(url: str | None, clock: Clock) -> list[CheckResult]:
    """Check the gateway's own public URL; networks may not let it reach itself, so a failure is a warning."""
    if url is None:
        return []
    results = await _check_url("server.public_url", url, None, clock)
    return [
        CheckResult(r.subject, r.check, "warning", f"{r.detail}, from this machine") if r.status == "failed" else r
        for r in results
    ]


async def _check_url(subject: str, url: str, ca_file: Path | None, clock: Clock) -> list[CheckResult]:
    """Resolve the host of a URL and connect to it, with TLS for https."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    resolved = await _run(subject, "dns", lambda: _resolve(host, port))
    if resolved.status == "failed":
        return [resolved]
    if not secure:
        return [resolved, await _run(subject, "connect", lambda: _connect(host, port))]
    return [resolved, await _run(subject, "tls", lambda: _connect_tls(host, port, ca_file, clock.now()))]


async def _run(subject: str, check: str, perform: Callable[[], Awaitable[tuple[Status, str]]]) -> CheckResult:
    try:
        async with asyncio.timeout(TIMEOUT):
            status, detail = await perform()
    except _CheckFailed as failure:
        return CheckResult(subject, check, "failed", str(failure))
    except TimeoutError:
        return CheckResult(subject, check, "failed", f"no answer within {TIMEOUT:g} s")
    except ssl.SSLCertVerificationError as error:
        return CheckResult(subject, check, "failed", f"the certificate is not trusted ({error.verify_message})")
    except ssl.SSLError as error:
        return CheckResult(subject, check, "failed", f"no TLS connection ({error.reason})")
    except OSError as error:
        return CheckResult(subject, check, "failed", error.strerror or type(error).__name__)
    return CheckResult(subject, check, status, detail)


async def _resolve(host: str, port: int) -> tuple[Status, str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=1)
    except OSError:
        raise _CheckFailed(f"{host} does not resolve") from None
    return "ok", ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))


async def _connect(host: str, port: int) -> tuple[Status, str]:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return "ok", f"connected to port {port}, without TLS"


async def _connect_tls(host: str, port: int, ca_file: Path | None, now: datetime) -> tuple[Status, str]:
    context = ssl.create_default_context(cafile=ca_file)
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    version = writer.get_extra_info("ssl_object").version()
    certificate = writer.get_extra_info("peercert")
    writer.close()
    expiry = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    days = (expiry - now).days
    return "warning" if days < _EXPIRY_WARNING else "ok", f"{version}, certificate valid for {days} days"


async def _check_store(settings: Settings) -> list[CheckResult]:
    url = settings.store.url
    if factory.is_redis_url(url):
        return await _check_redis(settings)
    if urlsplit(url).scheme == "memory":
        return [CheckResult("store", "durability", "warning", "runs are kept in memory only, and lost at a restart")]
    return [_check_sqlite_file(Path(unquote(urlsplit(url).path.removeprefix("/"))))]


async def _check_redis(settings: Settings) -> list[CheckResult]:
    from gateway.store.redis.client_keys import reading_client_keys
    from gateway.store.redis.durability import check_durability
    from gateway.store.redis.layout import LAYOUT_VERSION

    connection = factory.create_redis_connection(
        settings.store.url, factory.RedisAccess.from_settings(settings.store), timeout=TIMEOUT, connections=1
    )
    try:
        durability = await check_durability(connection)
        async with reading_client_keys(connection, f"runward:{LAYOUT_VERSION}:") as keys:
            ineffective = await describe_ineffective_keys(keys, settings)
    except (RedisUnavailable, StoreUnavailable) as error:
        return [CheckResult("store", "connect", "failed", str(error))]
    finally:
        await connection.close()
    kept: Status = "ok" if durability.warning is None else "warning"
    return [
        CheckResult("store", "connect", "ok", "the server answers and accepts the credentials"),
        CheckResult("store", "durability", kept, durability.warning or "acknowledged writes are on the server's disk"),
        CheckResult(
            "store", "keys", "ok" if ineffective is None else "warning", ineffective or "stored keys have effect"
        ),
    ]


def _check_sqlite_file(path: Path) -> CheckResult:
    folder = next(parent for parent in (path.absolute().parent, *path.absolute().parents) if parent.exists())
    writable = os.access(path, os.R_OK | os.W_OK) if path.exists() else True
    if not writable or not os.access(folder, os.W_OK | os.X_OK):
        return CheckResult("store", "durability", "failed", f"{path} cannot be written by this user")
    return CheckResult("store", "durability", "ok", f"{path} can be written; for one replica only")


def _check_callback_secrets(settings: Settings) -> list[CheckResult]:
    count = len(factories.signing_keys(settings))
    if not count:
        return [CheckResult("callbacks.secrets", "secret", "skipped", "none: requests with a callback_url are refused")]
    return [CheckResult("callbacks.secrets", "secret", "ok", f"valid for Standard Webhooks: {count}")]


def any_failed(results: Sequence[CheckResult]) -> bool:
    """Return True if a check failed."""
    return any(result.status == "failed" for result in results)
