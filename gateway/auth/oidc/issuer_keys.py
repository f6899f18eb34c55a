"""Keys of one issuer: found by OpenID Connect discovery, fetched in the background, and used for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.clock import Clock
from gateway.json import strict_json
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics
from gateway.outbound.issuer_client import IssuerClient, IssuerEndpoint, IssuerFault
from providers.contract import JsonValue

if TYPE_CHECKING:
    from gateway.auth.oidc.key_set import KeySet, VerificationKey

REFRESH_SECONDS = 600.0
"""Time between two fetches."""
RETRY_SECONDS = 15.0
"""Time after a failed fetch."""
UNKNOWN_KEY_SECONDS = 60.0
"""Shortest time between two fetches that tokens with an unknown key cause."""
_MAX_DISCOVERY = 262_144
_MAX_WAITING = 500  # requests that wait for one fetch


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """An issuer of the configuration. `keys_for`: seconds for which its keys are used once fetched."""

    name: str
    endpoint: IssuerEndpoint
    keys_for: float = 86400.0

    @property
    def url(self) -> str:
        """Issuer as its tokens have it."""
        return self.endpoint.url


async def fetch_discovery(client: IssuerClient, url: str) -> Mapping[str, JsonValue]:
    """Fetch the discovery document of an issuer. Raises IssuerFault, also if it is of another issuer."""
    data = await client.get(url.rstrip("/") + "/.well-known/openid-configuration", max_bytes=_MAX_DISCOVERY)
    try:
        document = strict_json.read_unique(data)
    except strict_json.NotJson:
        raise IssuerFault("the discovery document is not valid JSON") from None
    if not isinstance(document, dict) or document.get("issuer") != url:
        raise IssuerFault("the discovery document is of another issuer: its `issuer` must equal the url")
    return document


async def fetch_key_set(client: IssuerClient, endpoint: IssuerEndpoint) -> KeySet:
    """Fetch the keys of an issuer. Raises IssuerFault."""
    from gateway.auth.oidc.key_set import MAX_DOCUMENT, InvalidKeySet, parse_key_set

    jwks_uri: JsonValue = endpoint.jwks_uri
    if jwks_uri is None:
        jwks_uri = (await fetch_discovery(client, endpoint.url)).get("jwks_uri")
    if not isinstance(jwks_uri, str):
        raise IssuerFault("the discovery document has no jwks_uri")
    data = await client.get(jwks_uri, max_bytes=MAX_DOCUMENT)
    try:
        return await asyncio.to_thread(parse_key_set, data)
    except InvalidKeySet as error:
        raise IssuerFault(f"the key set {error}") from None


@dataclass(slots=True, eq=False)
class IssuerKeys:
    """The keys in use. `generation` changes with them, so that what was verified before is verified again."""

    config: IssuerConfig
    clock: Clock
    metrics: Metrics
    log: Logger
    generation: int = 0
    keys: Mapping[str, VerificationKey] = field(default_factory=dict)
    _client: IssuerClient = field(init=False)
    _fetched_at: float | None = None
    _asked_at: float | None = None
    _failing: bool = False
    _fetch: asyncio.Task[None] | None = None
    _loop: asyncio.Task[None] | None = None
    _waiting: int = 0

    def __post_init__(self) -> None:
        self._client = IssuerClient(self.config.endpoint)

    def start(self) -> None:
        """Fetch the keys, and again from time to time."""
        if self._loop is None:
            self.metrics.issuer_keys_fetched(self.config.name, 0.0)
            self._loop = asyncio.create_task(self._refresh_forever())

    async def close(self) -> None:
        """Stop fetching."""
        tasks = [task for task in (self._loop, self._fetch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_usable(self) -> bool:
        """Return True if keys were fetched, and not too long ago."""
        return self._fetched_at is not None and self.clock.monotonic() - self._fetched_at < self.config.keys_for

    def begin_fetch_for_unknown_key(self) -> None:
        """Begin a fetch, at most once a minute, unless one is in progress."""
        now = self.clock.monotonic()
        if self._fetch is None and (self._asked_at is None or now - self._asked_at >= UNKNOWN_KEY_SECONDS):
            self._asked_at = now
            self._begin_fetch()

    def may_wait_for_fetch(self) -> bool:
        """Return True if a fetch is in progress, and not too many wait for it."""
        return self._fetch is not None and self._waiting < _MAX_WAITING

    async def wait_for_fetch(self) -> None:
        """Wait for the fetch in progress: two requests, of at most `issuer_client.TIMEOUT` seconds each."""
        if self._fetch is not None:
            self._waiting += 1
            try:
                await asyncio.wait([self._fetch])
            finally:
                self._waiting -= 1

    async def refresh(self) -> None:
        """Fetch the keys now, or wait for the fetch in progress. A failure is logged and counted."""
        await asyncio.wait([self._fetch or self._begin_fetch()])

    async def _refresh_forever(self) -> None:
        while True:
            await self.refresh()
            await self.clock.sleep(RETRY_SECONDS if self._failing else REFRESH_SECONDS)

    def _begin_fetch(self) -> asyncio.Task[None]:
        self._fetch = asyncio.create_task(self._fetch_keys())
        return self._fetch

    async def _fetch_keys(self) -> None:
        name = self.config.name
        try:
            found = await fetch_key_set(self._client, self.config.endpoint)
        except IssuerFault as fault:
            self.metrics.issuer_fetch_ended(name, "failed")
            if not self._failing:  # once an outage
                self.log.warning("issuer_keys_not_fetched", issuer=name, why=str(fault))
            self._failing = True
            return
        finally:
            self._fetch = None
        self._failing = False
        self._fetched_at = self.clock.monotonic()
        self.metrics.issuer_fetch_ended(name, "ok")
        self.metrics.issuer_keys_fetched(name, self.clock.now().timestamp())
        if found.keys != self.keys or not self.generation:
            self.keys = found.keys
            self.generation += 1
            self.log.info("issuer_keys_changed", issuer=name, keys=sorted(found.keys), ignored=found.ignored)
