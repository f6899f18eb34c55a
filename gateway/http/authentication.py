"""Authentication of clients by gateway key, token or certificate."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from gateway.auth.certificates import CertificateIndex
from gateway.auth.client import Client
from gateway.auth.failed_attempts import FailedAuthLimiter
from gateway.auth.keys import KeyRefusal, KeyRing, PresentedKey, may_be_token
from gateway.auth.oidc.refusals import TokenRefusal
from gateway.auth.oidc.verifier import TokenVerifier
from gateway.auth.stored_keys.directory import DirectoryUnavailable, KeyDirectory
from gateway.clock import Clock
from gateway.http.forwarded import client_address
from gateway.http.request import Request
from gateway.observability.logger_protocol import Logger
from gateway.problems import Problem

_KEYS_UNAVAILABLE = "Whether this key is valid is not known: the store of keys cannot be read."
_NO_KEYS = "The keys of the token's issuer could not be fetched for too long, so tokens cannot be verified."
_KEYS_RETRY = 15.0  # seconds
_CHALLENGE = (("WWW-Authenticate", 'Bearer realm="runward"'),)


@dataclass(slots=True)
class Authenticator:
    """Authenticates clients by gateway key or token; limits failed attempts by client address.

    A key of the configuration goes before those of `stored_keys`. Of both, clients are those of the configuration.
    """

    keys: KeyRing
    clients: Mapping[str, Client]
    failed_auth_limiter: FailedAuthLimiter
    trusted_proxies: Sequence[IPv4Network | IPv6Network]
    clock: Clock
    log: Logger
    certificates: CertificateIndex = field(default_factory=CertificateIndex)
    stored_keys: KeyDirectory | None = None
    tokens: TokenVerifier | None = None

    def reconfigure(
        self, keys: KeyRing, clients: Mapping[str, Client], certificates: CertificateIndex | None = None
    ) -> None:
        """Use these for subsequent requests; requests in progress are not affected."""
        self.keys, self.clients = keys, clients
        self.certificates = certificates or CertificateIndex()

    def find_client(self, name: str) -> Client | None:
        """Return a client of the current configuration by its name."""
        return self.clients.get(name)

    def authenticate(self, request: Request, *, may_wait: bool = True) -> Awaitable[None] | None:
        """Set the client of a request to a route with a key.

        Returns None; or, if the keys of a token's issuer are being fetched, what has to be awaited for it. Raises
        Problem: unauthorized, the same for every reason to refuse a key or a token; too_many_failures, forbidden,
        issuer_unavailable, and store_unavailable if it cannot be known whether a stored key is valid.
        """
        if not request.route.requires_key:
            return None
        found = self._find_client(request, request.head.key)
        if not isinstance(found, Client):
            key = request.head.key.text
            if may_wait and isinstance(found, TokenRefusal) and self.tokens and self.tokens.awaits_keys(key, found):
                return self._authenticate_later(request, key)
            raise self._reject_key(found, request)
        request.client = found
        if found.addresses:
            self._check_address(request, found)
        request.client_name = found.name
        return None

    async def _authenticate_later(self, request: Request, key: str) -> None:
        if self.tokens is not None:
            await self.tokens.wait_for_keys(key)
        self.authenticate(request, may_wait=False)

    async def wait_for_keys(self, key: str) -> None:
        """Wait, for some seconds at most, if `key` is a token whose issuer's keys are being fetched."""
        if not self.tokens or not may_be_token(key):
            return
        found = self.tokens.find(key)
        if isinstance(found, TokenRefusal) and self.tokens.awaits_keys(key, found):
            await self.tokens.wait_for_keys(key)

    def client_of(self, request: Request, key: str) -> Client | None:
        """Return the client of a key, or of the connection's certificate if there is no key; None if unknown.

        Raises Problem: forbidden, if the client may not connect from the request's address; issuer_unavailable, and
        store_unavailable as `authenticate`.
        """
        found = self._find_client(request, PresentedKey(key))
        if found is TokenRefusal.KEYS_UNAVAILABLE:
            raise self._reject_key(found, request)
        if not isinstance(found, Client):
            return None
        self._check_address(request, found)
        return found

    def _find_client(self, request: Request, key: PresentedKey) -> Client | KeyRefusal | TokenRefusal:
        """Find the client. A presented key decides alone, so that a wrong one is never overlooked."""
        if not key.digest and self.certificates and request.transport is not None:
            name = self.certificates.find(request.transport.get_extra_info("peercert"))
            if name is not None:
                return self.clients[name]
        if key.may_be_token and self.tokens:
            named = self.tokens.find(key.text)
            return self.clients[named] if isinstance(named, str) else named
        found = self.keys.find(key, self.clock.now)
        if isinstance(found, str):
            return self.clients[found]
        if found is not KeyRefusal.UNKNOWN or self.stored_keys is None:
            return found
        try:
            return self.stored_keys.find(key, self.clock.now(), self.clients)
        except DirectoryUnavailable as error:
            raise self._reject_undecided(request, known=error.known) from None

    def _reject_undecided(self, request: Request, *, known: bool) -> Problem:
        """Return the problem for a key that may be a valid stored one. Another one counts as a failed attempt."""
        address = client_address(request, self.trusted_proxies)
        retry_after = 0.0 if known else self.failed_auth_limiter.record(address)
        if retry_after:
            return _too_many_failures(retry_after)
        return Problem("store_unavailable", _KEYS_UNAVAILABLE, retry_after=1, extra={"outcome": "not_run"})

    def _check_address(self, request: Request, client: Client) -> None:
        if client.addresses:
            address = client_address(request, self.trusted_proxies)
            if not client.may_connect_from(address):
                self.log.info("address_refused", request_id=request.request_id, client=client.name, peer=address)
                raise Problem("forbidden", "This client may not connect from this address.")

    def _reject_key(self, reason: KeyRefusal | TokenRefusal, request: Request) -> Problem:
        address = client_address(request, self.trusted_proxies)
        key_id = None if self.stored_keys is None else self.stored_keys.id_of(request.head.key)
        stored = {} if key_id is None else {"key_id": key_id}
        self.log.info("key_refused", request_id=request.request_id, why=reason.value, peer=address, **stored)
        if self.tokens is not None and isinstance(reason, TokenRefusal):
            self.tokens.count_refusal(reason)
        if reason is TokenRefusal.KEYS_UNAVAILABLE:
            return Problem("issuer_unavailable", _NO_KEYS, retry_after=_KEYS_RETRY, extra={"outcome": "not_run"})
        retry_after = self.failed_auth_limiter.record(address)
        if retry_after:
            return _too_many_failures(retry_after)
        return Problem("unauthorized", headers=_CHALLENGE)


def _too_many_failures(retry_after: float) -> Problem:
    detail = "Too many requests with invalid keys from this address."
    return Problem("too_many_failures", detail, retry_after=retry_after)
