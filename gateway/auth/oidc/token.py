"""Signed token in compact form (RFC 7515, 7519): its parts, and the checks that need no key."""

from __future__ import annotations

import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gateway.auth.oidc.refusals import TokenRefusal, TokenRefused
from gateway.json import strict_json
from providers.contract import JsonValue

MAX_TOKEN = 16_384
"""Longest token, in characters."""
MAX_KEY_ID = 256
SKEW = 60.0
"""Seconds by which the clocks of issuer and gateway may differ."""
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"},
)
"""Signatures with a private key of the issuer. HS256 and its kind, and `none`, are not among them."""

Claims: TypeAlias = Mapping[str, JsonValue]

_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_MAX_TIME = 1e11  # seconds since 1970: far in the future, and exact as a float
_is_segment = re.compile(r"[A-Za-z0-9_-]+", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Token:
    """Parts of a token whose signature has not been verified."""

    text: str
    algorithm: str
    key_id: str
    claims: Claims

    @property
    def issuer(self) -> JsonValue:
        """The claim `iss`, unverified."""
        return self.claims.get("iss")

    @property
    def expires_at(self) -> float:
        """The claim `exp`, in seconds since 1970, once `check_times` has passed."""
        found = self.claims["exp"]
        return float(found) if isinstance(found, int | float) else 0.0


def parse_token(text: str) -> Token:
    """Parse a token, and check its header. Raises TokenRefused."""
    if len(text) > MAX_TOKEN:
        raise TokenRefused(TokenRefusal.TOO_LARGE)
    segments = text.split(".")
    if len(segments) != 3:  # five: encrypted
        raise TokenRefused(TokenRefusal.MALFORMED)
    header, claims, _ = (_decode_segment(segment) for segment in segments)
    fields = _read_object(header)
    if "crit" in fields or "b64" in fields:
        raise TokenRefused(TokenRefusal.CRITICAL)
    algorithm, key_id, kind = fields.get("alg"), fields.get("kid"), fields.get("typ", "JWT")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenRefused(TokenRefusal.ALGORITHM)
    if not isinstance(kind, str) or kind.lower() not in _TYPES or not fields.keys().isdisjoint({"cty", "enc", "zip"}):
        raise TokenRefused(TokenRefusal.TYPE)
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID:
        raise TokenRefused(TokenRefusal.NO_KEY_ID)
    return Token(text, algorithm, key_id, _read_object(claims))


def check_times(claims: Claims, now: float) -> None:
    """Check `exp`, which is required, `nbf` and `iat`. `now`: seconds since 1970. Raises TokenRefused."""
    expires_at, not_before, issued_at = (_time_of(claims, name) for name in ("exp", "nbf", "iat"))
    if expires_at is None:
        raise TokenRefused(TokenRefusal.CLAIMS)
    if now >= expires_at + SKEW:
        raise TokenRefused(TokenRefusal.EXPIRED)
    if max(not_before or 0.0, issued_at or 0.0) > now + SKEW:
        raise TokenRefused(TokenRefusal.NOT_YET_VALID)


def find_audience(claims: Claims, allowed: Collection[str]) -> str:
    """Return the audience of a token, one of `allowed`. With several audiences, it must be `azp` too.

    Raises TokenRefused.
    """
    found = claims.get("aud")
    audiences = found if isinstance(found, list) else [found]
    known = [each for each in audiences if isinstance(each, str) and each in allowed]
    if not known or not all(isinstance(each, str) for each in audiences):
        raise TokenRefused(TokenRefusal.AUDIENCE)
    if len(audiences) == 1:
        return known[0]
    party = claims.get("azp")
    if not isinstance(party, str) or party not in known:
        raise TokenRefused(TokenRefusal.AUTHORIZED_PARTY)
    return party


def check_unbound(claims: Claims) -> None:
    """Refuse a token that is bound to a key or a certificate of its sender (RFC 7800). Raises TokenRefused."""
    if "cnf" in claims:
        raise TokenRefused(TokenRefusal.BOUND)


def _time_of(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused(TokenRefusal.CLAIMS)
    if not math.isfinite(value) or not 0 <= value <= _MAX_TIME:
        raise TokenRefused(TokenRefusal.CLAIMS)
    return float(value)


def _decode_segment(segment: str) -> bytes:
    """Decode base64url without padding, in the only form that stands for these bytes."""
    if not _is_segment(segment):
        raise TokenRefused(TokenRefusal.MALFORMED)
    try:
        decoded = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise TokenRefused(TokenRefusal.MALFORMED) from None
    if urlsafe_b64encode(decoded).rstrip(b"=") != segment.encode():
        raise TokenRefused(TokenRefusal.MALFORMED)
    return decoded


def _read_object(data: bytes) -> dict[str, JsonValue]:
    try:
        value = strict_json.read_unique(data)
    except strict_json.NotJson:
        raise TokenRefused(TokenRefusal.MALFORMED) from None
    if not isinstance(value, dict):
        raise TokenRefused(TokenRefusal.MALFORMED)
    return value
