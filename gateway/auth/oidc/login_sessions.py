"""Signed texts of the log-in by OpenID Connect: the cookie of an attempt, and the session of a subject.

Nothing is stored for them; the secret of the signatures is that of the console's sessions, in the store, so that each
replica accepts what another one issued. Everything that an attempt needs is derived from its cookie and the secret.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest, digest

from gateway.auth.ops_keys import Role
from gateway.json import strict_json

ATTEMPT_SECONDS = 600
"""Time in which a log-in must be completed."""
_PREFIX = "oidc."
_MAX_NAME = 200  # characters
_parse_attempt = re.compile(r"(([0-9]{1,12})\.[0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII).fullmatch
_parse_session = re.compile(r"oidc\.(([0-9]{1,12})\.([A-Za-z0-9_-]{1,2000}))\.([0-9a-f]{64})", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class Subject:
    """A person that has logged in. `name`: for records of changes; it begins with that of the issuer."""

    role: Role
    name: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A log-in that has begun: its cookie, and the values that bind the issuer's answer to it."""

    cookie: str
    state: str
    nonce: str
    verifier: str

    @property
    def challenge(self) -> str:
        """The PKCE code challenge by S256 (RFC 7636)."""
        return _base64url(sha256(self.verifier.encode()).digest())


def begin_attempt(secret: bytes, entropy: bytes, now: float) -> Attempt:
    """Begin a log-in. `entropy`: 16 random bytes; `now`: seconds since 1970."""
    return _attempt(secret, f"{int(now) + ATTEMPT_SECONDS}.{entropy.hex()}")


def resume_attempt(secret: bytes, cookie: str, now: float) -> Attempt | None:
    """Return the log-in of a cookie; None if it is forged or too old."""
    match = _parse_attempt(cookie)
    if match is None or not compare_digest(match[3], _sign(secret, "attempt", match[1])) or now >= int(match[2]):
        return None
    return _attempt(secret, match[1])


def issue_session(secret: bytes, policy: str, subject: Subject, expires_at: float) -> str:
    """Return the token of a session. `policy`: of the configuration; with another one the session has ended."""
    content = [policy, subject.role.value, subject.name[:_MAX_NAME]]
    payload = f"{int(expires_at)}.{_base64url(strict_json.write(content))}"
    return f"{_PREFIX}{payload}.{_sign(secret, 'session', payload)}"


def find_session(secret: bytes, policy: str, token: str, now: float) -> Subject | None:
    """Return the subject of a session; None if it is forged, or has ended."""
    match = _parse_session(token)
    if match is None or not compare_digest(match[4], _sign(secret, "session", match[1])) or now >= int(match[2]):
        return None
    content = strict_json.read(urlsafe_b64decode(match[3] + "=" * (-len(match[3]) % 4)))
    if not isinstance(content, list) or content[0] != policy:
        return None
    return Subject(Role(content[1]), str(content[2]))


def is_session(token: str) -> bool:
    """Return True for a token that has the form of a subject's session."""
    return token.startswith(_PREFIX)


def _attempt(secret: bytes, content: str) -> Attempt:
    state, nonce, verifier = (
        _base64url(digest(secret, f"oidc-{name}:{content}".encode(), sha256)) for name in ("state", "nonce", "verifier")
    )
    return Attempt(f"{content}.{_sign(secret, 'attempt', content)}", state, nonce, verifier)


def _sign(secret: bytes, purpose: str, content: str) -> str:
    return digest(secret, f"oidc-{purpose}:{content}".encode(), sha256).hex()


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
