"""Log-in of operators by OpenID Connect: authorization code with PKCE (RFC 6749, 7636; OpenID Connect Core, 3.1)."""

from __future__ import annotations

import asyncio
import enum
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING
from urllib.parse import quote_plus, urlencode

from pydantic import SecretStr

from gateway.auth.oidc import login_sessions
from gateway.auth.oidc.issuer_keys import IssuerConfig, fetch_discovery, fetch_key_set
from gateway.auth.oidc.login_sessions import Attempt, Subject
from gateway.auth.oidc.refusals import TokenRefused
from gateway.auth.oidc.token import Claims, Token, check_times, check_unbound, find_audience, parse_token
from gateway.auth.ops_keys import Role
from gateway.auth.sessions import SecretStore, load_secret
from gateway.claim_patterns import ClaimPattern
from gateway.clock import Clock
from gateway.json import strict_json
from gateway.outbound.issuer_client import IssuerClient, IssuerFault
from providers.contract import JsonValue

if TYPE_CHECKING:
    from gateway.auth.oidc.key_set import VerificationKey

_DISCOVERY_SECONDS = 300.0  # for which a discovery document is used
_KEYS_SECONDS = 600.0  # for which keys are used
_FAILURE_SECONDS = 5.0  # after a failed fetch, in which further ones fail at once
_UNKNOWN_KEY_SECONDS = 60.0
_ATTEMPT_BYTES = 16
_MAX_EXCHANGES = 20  # at once
_MAX_RESPONSE = 262_144
_is_code = re.compile(r"[ -~]{1,4096}", re.ASCII).fullmatch
_is_error = re.compile(r"[a-z_]{1,50}", re.ASCII).fullmatch


class LoginRefusal(enum.StrEnum):
    """What the console tells of a log-in that was refused."""

    FAILED = "failed"
    NO_ROLE = "no_role"
    UNAVAILABLE = "unavailable"


class LoginRefused(Exception):
    """A log-in is refused. `why`: for the log; it holds no code and no token."""

    def __init__(self, refusal: LoginRefusal, why: str) -> None:
        super().__init__(why)
        self.refusal, self.why = refusal, why


@dataclass(frozen=True, slots=True)
class LoginConfig:
    """`console.login` of the configuration. `url`: of the operations port, without a slash at its end."""

    issuer: IssuerConfig
    client_id: str
    client_secret: SecretStr | None
    url: str
    scopes: Sequence[str]
    operator: Sequence[ClaimPattern]
    viewer: Sequence[ClaimPattern]
    name: tuple[str, ...]
    session_seconds: float

    @property
    def redirect_uri(self) -> str:
        """URL to which the issuer sends the browser back."""
        return self.url + "/api/login/callback"

    @property
    def policy(self) -> str:
        """What a session depends on, as a hash: after a change of it all sessions have ended."""
        roles = [[list(pattern.path), pattern.value] for pattern in (*self.operator, None, *self.viewer) if pattern]
        content = [self.issuer.url, self.client_id, len(self.operator), roles]
        return sha256(strict_json.write(content)).hexdigest()[:32]


@dataclass(slots=True, eq=False)
class _IssuerDocuments:
    """Discovery document and keys of the issuer, fetched when a log-in needs them."""

    config: IssuerConfig
    clock: Clock
    _discovery: Mapping[str, JsonValue] = field(default_factory=dict)
    _discovered_at: float | None = None
    _keys: Mapping[str, VerificationKey] = field(default_factory=dict)
    _keys_at: float | None = None
    _failed_at: float | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def discovery(self) -> Mapping[str, JsonValue]:
        """Return the discovery document. Raises IssuerFault."""
        if self._is_older(self._discovered_at, _DISCOVERY_SECONDS):
            async with self._lock:
                if self._is_older(self._discovered_at, _DISCOVERY_SECONDS):
                    await self._fetch_discovery()
        return self._discovery

    async def endpoint(self, name: str) -> str:
        """Return an address of the discovery document. Raises IssuerFault."""
        found = (await self.discovery()).get(name)
        if not isinstance(found, str):
            raise IssuerFault(f"the discovery document has no {name}")
        self.client().check(found)
        return found

    async def key(self, key_id: str) -> VerificationKey | None:
        """Return a key of the issuer; one that is unknown is looked for once a minute. Raises IssuerFault."""
        seconds = _KEYS_SECONDS if key_id in self._keys else _UNKNOWN_KEY_SECONDS
        if self._is_older(self._keys_at, seconds):
            async with self._lock:
                if self._is_older(self._keys_at, seconds):
                    found = await fetch_key_set(self.client(), self.config.endpoint)
                    self._keys, self._keys_at = found.keys, self.clock.monotonic()
        return self._keys.get(key_id)

    def client(self) -> IssuerClient:
        """Client of the issuer."""
        return IssuerClient(self.config.endpoint)

    def _is_older(self, at: float | None, seconds: float) -> bool:
        return at is None or self.clock.monotonic() - at >= seconds

    async def _fetch_discovery(self) -> None:
        if not self._is_older(self._failed_at, _FAILURE_SECONDS):
            raise IssuerFault("could not be reached a moment ago")
        try:
            self._discovery = await fetch_discovery(self.client(), self.config.url)
        except IssuerFault:
            self._failed_at = self.clock.monotonic()
            raise
        self._discovered_at = self.clock.monotonic()


class OidcLogin:
    """Log-ins and sessions of subjects. Without a configuration there are none."""

    def __init__(self, config: LoginConfig | None, store: SecretStore, clock: Clock) -> None:
        self._store, self._clock = store, clock
        self._secret: bytes | None = None
        self._exchanges = 0
        self.config = config
        self._documents = None if config is None else _IssuerDocuments(config.issuer, clock)

    def __bool__(self) -> bool:
        """Return True if it is configured."""
        return self.config is not None

    def reconfigure(self, config: LoginConfig | None) -> None:
        """Use this configuration from now on. Sessions of another issuer, client or mapping of roles have ended."""
        if self.config is None or config is None or self.config.issuer != config.issuer:
            self._documents = None if config is None else _IssuerDocuments(config.issuer, self._clock)
        self.config = config

    async def begin(self) -> tuple[str, str]:
        """Begin a log-in: returns the URL at the issuer, and the cookie of the attempt.

        Raises LoginRefused, StoreUnavailable.
        """
        config, documents = self._configured()
        try:
            endpoint = await documents.endpoint("authorization_endpoint")
        except IssuerFault as fault:
            raise LoginRefused(LoginRefusal.UNAVAILABLE, str(fault)) from None
        secret = await self._load()
        attempt = login_sessions.begin_attempt(secret, self._clock.token(_ATTEMPT_BYTES), self._now())
        parameters = {
            "response_type": "code",
            "client_id": config.client_id,
            "redirect_uri": config.redirect_uri,
            "scope": " ".join(config.scopes),
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}", attempt.cookie

    async def complete(self, cookie: str, parameters: Mapping[str, Sequence[str]]) -> tuple[Subject, str]:
        """Complete a log-in with the parameters of the issuer's answer: returns the subject, and its session.

        Raises LoginRefused, StoreUnavailable.
        """
        config, documents = self._configured()
        secret = await self._load()
        attempt = login_sessions.resume_attempt(secret, cookie, self._now())
        if attempt is None:
            raise LoginRefused(LoginRefusal.FAILED, "this browser has begun no log-in, or too long ago")
        code = _code_of(parameters, attempt, config.issuer.url)
        if self._exchanges >= _MAX_EXCHANGES:
            raise LoginRefused(LoginRefusal.UNAVAILABLE, "too many log-ins at once")
        self._exchanges += 1
        try:
            claims = await self._verify(config, documents, await self._exchange(config, documents, code, attempt))
        except IssuerFault as fault:
            raise LoginRefused(LoginRefusal.UNAVAILABLE, str(fault)) from None
        except TokenRefused as refused:
            raise LoginRefused(LoginRefusal.FAILED, refused.reason.value) from None
        finally:
            self._exchanges -= 1
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not _equal(nonce, attempt.nonce):
            raise LoginRefused(LoginRefusal.FAILED, "the id token is not of this log-in (nonce)")
        subject = _subject_of(config, claims)
        expires_at = self._now() + config.session_seconds
        return subject, login_sessions.issue_session(secret, config.policy, subject, expires_at)

    async def find_session(self, token: str) -> Subject | None:
        """Return the subject of a session; None if it is forged, or has ended. Raises StoreUnavailable."""
        if self.config is None:
            return None
        return login_sessions.find_session(await self._load(), self.config.policy, token, self._now())

    def _configured(self) -> tuple[LoginConfig, _IssuerDocuments]:
        if self.config is None or self._documents is None:
            raise LoginRefused(LoginRefusal.UNAVAILABLE, "console.login is not configured")
        return self.config, self._documents

    async def _load(self) -> bytes:
        if self._secret is None:
            self._secret = await load_secret(self._store, self._clock)
        return self._secret

    def _now(self) -> float:
        return self._clock.now().timestamp()

    async def _exchange(self, config: LoginConfig, documents: _IssuerDocuments, code: str, attempt: Attempt) -> str:
        """Exchange the code for the id token. Raises IssuerFault, LoginRefused."""
        endpoint = await documents.endpoint("token_endpoint")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": config.redirect_uri,
            "code_verifier": attempt.verifier,
        }
        methods = (await documents.discovery()).get("token_endpoint_auth_methods_supported")
        authorization, credentials = _client_authentication(config, methods)
        status, body = await documents.client().post_form(
            endpoint, {**form, **credentials}, authorization=authorization, max_bytes=_MAX_RESPONSE
        )
        if status != 200:
            refusal = LoginRefusal.UNAVAILABLE if status >= 500 or status in {401, 429} else LoginRefusal.FAILED
            raise LoginRefused(refusal, f"the issuer refused the code (status {status})")
        try:
            document = strict_json.read_unique(body)
        except strict_json.NotJson:
            document = None
        token = document.get("id_token") if isinstance(document, dict) else None
        if not isinstance(token, str):
            raise LoginRefused(LoginRefusal.UNAVAILABLE, "the issuer's answer has no id token")
        return token

    async def _verify(self, config: LoginConfig, documents: _IssuerDocuments, text: str) -> Claims:
        """Verify an id token. Raises TokenRefused, IssuerFault, LoginRefused."""
        token: Token = parse_token(text)
        if token.issuer != config.issuer.url:
            raise LoginRefused(LoginRefusal.FAILED, "token_issuer")
        find_audience(token.claims, {config.client_id})
        if token.claims.get("azp", config.client_id) != config.client_id:
            raise LoginRefused(LoginRefusal.FAILED, "token_authorized_party")
        check_times(token.claims, self._now())
        check_unbound(token.claims)
        key = await documents.key(token.key_id)
        if key is None or not key.verifies(token):
            raise LoginRefused(LoginRefusal.FAILED, "token_unknown_key" if key is None else "token_signature")
        return token.claims


def _code_of(parameters: Mapping[str, Sequence[str]], attempt: Attempt, issuer: str) -> str:
    """Return the authorization code of an answer that is for this attempt. Raises LoginRefused."""
    single = {name: values[0] for name, values in parameters.items() if len(values) == 1}
    if not _equal(single.get("state", ""), attempt.state):
        raise LoginRefused(LoginRefusal.FAILED, "the answer is of another log-in (state)")
    if "iss" in parameters and single.get("iss") != issuer:  # RFC 9207
        raise LoginRefused(LoginRefusal.FAILED, "the answer is of another issuer")
    error = single.get("error")
    if error is not None:
        raise LoginRefused(LoginRefusal.FAILED, f"the issuer answered {error if _is_error(error) else 'an error'}")
    code = single.get("code", "")
    if not _is_code(code):
        raise LoginRefused(LoginRefusal.FAILED, "the answer has no code")
    return code


def _client_authentication(config: LoginConfig, methods: JsonValue) -> tuple[str, dict[str, str]]:
    """Return the value of `Authorization` and the fields of the form that authenticate the console (RFC 6749, 2.3)."""
    if config.client_secret is None:
        return "", {"client_id": config.client_id}
    secret = config.client_secret.get_secret_value()
    supported = methods if isinstance(methods, list) else ["client_secret_basic"]
    if "client_secret_post" in supported and "client_secret_basic" not in supported:
        return "", {"client_id": config.client_id, "client_secret": secret}
    pair = f"{quote_plus(config.client_id)}:{quote_plus(secret)}"
    return "Basic " + b64encode(pair.encode()).decode(), {}


def _subject_of(config: LoginConfig, claims: Claims) -> Subject:
    """Return role and name of an id token. Raises LoginRefused."""
    roles = ((Role.OPERATOR, config.operator), (Role.VIEWER, config.viewer))
    role = next((role for role, patterns in roles if any(pattern.matches(claims) for pattern in patterns)), None)
    if role is None:
        raise LoginRefused(LoginRefusal.NO_ROLE, "the claim of the roles has none of their values")
    name = _text_at(claims, config.name) or _text_at(claims, ("sub",))
    if not name:
        raise LoginRefused(LoginRefusal.FAILED, "the id token has neither name nor sub")
    return Subject(role, f"{config.issuer.name}:{name}")


def _text_at(claims: Claims, path: Sequence[str]) -> str:
    found: JsonValue = dict(claims)
    for part in path:
        found = found.get(part) if isinstance(found, dict) else None
    return "".join(c if c.isprintable() else "?" for c in found[:100]).strip() if isinstance(found, str) else ""


def _equal(presented: str, expected: str) -> bool:
    return compare_digest(presented.encode("utf-8", "surrogatepass"), expected.encode())
