"""Verifier of tokens: which client a token of a configured issuer stands for.

A verified token is kept by its hash for at most five minutes, so that the next request with it costs one look-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.auth.oidc.issuer_keys import IssuerConfig, IssuerKeys
from gateway.auth.oidc.refusals import TokenRefusal, TokenRefused
from gateway.auth.oidc.token import SKEW, Token, check_times, check_unbound, find_audience, parse_token
from gateway.claim_patterns import ClaimPattern, match_all
from gateway.clock import Clock
from gateway.observability.logger_protocol import Logger
from gateway.observability.metrics import Metrics

KEPT_SECONDS = 300.0
"""Longest time for which a verified token is not verified again."""
_MAX_KEPT = 10_000
_AWAITED = frozenset({TokenRefusal.UNKNOWN_KEY, TokenRefusal.KEYS_UNAVAILABLE})


@dataclass(frozen=True, slots=True)
class TokenRule:
    """Tokens of a client: for this audience, with all of these claims."""

    client: str
    audience: str
    patterns: Sequence[ClaimPattern]


@dataclass(frozen=True, slots=True)
class TokenConfig:
    """Issuers by name, and the rules of all clients by name of the issuer."""

    issuers: Mapping[str, IssuerConfig] = field(default_factory=dict)
    rules: Mapping[str, Sequence[TokenRule]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Verified:
    """A token that was accepted. It is valid until `until` (seconds since 1970), with this generation of keys."""

    client: str
    until: float
    issuer: IssuerKeys
    generation: int


class TokenVerifier:
    """Finds the clients of tokens. Without issuers every token is refused as an unknown one."""

    def __init__(self, config: TokenConfig, clock: Clock, metrics: Metrics, log: Logger) -> None:
        self._clock, self._metrics, self._log = clock, metrics, log
        self._config = TokenConfig()
        self._issuers: dict[str, IssuerKeys] = {}
        self._kept: dict[bytes, _Verified] = {}
        self._started = False
        self._closing: set[asyncio.Task[None]] = set()
        self.reconfigure(config)

    def __bool__(self) -> bool:
        """Return True if there is an issuer."""
        return bool(self._issuers)

    @property
    def issuers(self) -> Sequence[IssuerKeys]:
        """Keys of all issuers."""
        return list(self._issuers.values())

    def start(self) -> None:
        """Fetch the keys of all issuers in the background, also of those that are configured later."""
        self._started = True
        for issuer in self._issuers.values():
            issuer.start()

    async def close(self) -> None:
        """Stop fetching."""
        await asyncio.gather(*(issuer.close() for issuer in self._issuers.values()), *self._closing)

    def reconfigure(self, config: TokenConfig) -> None:
        """Use these issuers and rules from now on. Issuers whose settings are unchanged keep their keys."""
        before = {issuer.config: issuer for issuer in self._issuers.values()}
        self._issuers = {
            each.url: before.pop(each) if each in before else IssuerKeys(each, self._clock, self._metrics, self._log)
            for each in config.issuers.values()
        }
        self._config = config
        self._kept.clear()
        for removed in before.values():
            self._metrics.issuer_removed(removed.config.name)  # at once: another one may have its name
            closing = asyncio.get_running_loop().create_task(removed.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
        if self._started:
            self.start()

    def find(self, text: str) -> str | TokenRefusal:
        """Return the name of the client that a token stands for, or the reason for its refusal."""
        digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
        now = self._clock.now().timestamp()
        kept = self._kept.get(digest)
        if kept is not None:
            if now < kept.until and kept.generation == kept.issuer.generation:
                return kept.client
            del self._kept[digest]
        try:
            token, issuer = self._parse(text, now)
            client = self._find_client(token, issuer)
        except TokenRefused as refused:
            return refused.reason
        if len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        until = min(token.expires_at + SKEW, now + KEPT_SECONDS)
        self._kept[digest] = _Verified(client, until, issuer, issuer.generation)
        return client

    def count_refusal(self, reason: TokenRefusal) -> None:
        """Count a token that a request was refused for."""
        self._metrics.token_refused(reason.value)

    def awaits_keys(self, text: str, refusal: TokenRefusal) -> bool:
        """Return True if a refused token may be accepted once the fetch in progress has ended.

        A token with an unknown key begins one, at most once a minute.
        """
        issuer = self._issuer_awaited(text) if refusal in _AWAITED else None
        return issuer is not None and issuer.may_wait_for_fetch()

    async def wait_for_keys(self, text: str) -> None:
        """Wait for the fetch in progress."""
        issuer = self._issuer_awaited(text)
        if issuer is not None:
            await issuer.wait_for_fetch()

    def _issuer_awaited(self, text: str) -> IssuerKeys | None:
        try:
            return self._parse(text, self._clock.now().timestamp())[1]
        except TokenRefused:
            return None

    def _parse(self, text: str, now: float) -> tuple[Token, IssuerKeys]:
        """Check all that needs no key. Raises TokenRefused."""
        token = parse_token(text)
        issuer = self._issuers.get(token.issuer) if isinstance(token.issuer, str) else None
        if issuer is None:
            raise TokenRefused(TokenRefusal.ISSUER)
        find_audience(token.claims, self._audiences(issuer))
        check_times(token.claims, now)
        check_unbound(token.claims)
        return token, issuer

    def _audiences(self, issuer: IssuerKeys) -> set[str]:
        return {rule.audience for rule in self._config.rules.get(issuer.config.name, ())}

    def _find_client(self, token: Token, issuer: IssuerKeys) -> str:
        verify(token, issuer)
        rules = self._config.rules.get(issuer.config.name, ())
        audience = find_audience(token.claims, {rule.audience for rule in rules})
        found = {rule.client for rule in rules if rule.audience == audience and match_all(rule.patterns, token.claims)}
        if len(found) > 1:
            raise TokenRefused(TokenRefusal.AMBIGUOUS)
        if not found:
            raise TokenRefused(TokenRefusal.NO_MATCH)
        return found.pop()


def verify(token: Token, issuer: IssuerKeys) -> None:
    """Verify the signature of a token. Raises TokenRefused; an unknown key may begin a fetch."""
    if not issuer.is_usable():
        raise TokenRefused(TokenRefusal.KEYS_UNAVAILABLE)
    key = issuer.keys.get(token.key_id)
    if key is None:
        issuer.begin_fetch_for_unknown_key()
        raise TokenRefused(TokenRefusal.UNKNOWN_KEY)
    if token.algorithm not in key.algorithms:
        raise TokenRefused(TokenRefusal.ALGORITHM)
    if not key.verifies(token):
        raise TokenRefused(TokenRefusal.SIGNATURE)
