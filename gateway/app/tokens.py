"""Issuers and rules of tokens from the settings."""

from __future__ import annotations

import ssl
from importlib.metadata import version

from gateway.auth.oidc.issuer_keys import IssuerConfig
from gateway.auth.oidc.login import LoginConfig
from gateway.auth.oidc.verifier import TokenConfig, TokenRule
from gateway.claim_patterns import ClaimPattern
from gateway.outbound.connect_tunnel import Proxy
from gateway.outbound.issuer_client import IssuerEndpoint
from gateway.outbound.provider.client import create_tls_context
from gateway.settings import IssuerSettings, Settings, SettingsError

_LIBRARY = ("jwt", "cryptography")


def token_config(settings: Settings) -> TokenConfig:
    """Read issuers and rules. Raises SettingsError for an unusable CA file, or if the library is missing."""
    if settings.issuers:
        _check_library()
    issuers = {name: _issuer(name, issuer) for name, issuer in settings.issuers.items()}
    rules: dict[str, list[TokenRule]] = {name: [] for name in issuers}
    for client, client_settings in settings.clients.items():
        for token in client_settings.tokens:
            patterns = [ClaimPattern.parse(name, value) for name, value in token.match.items()]
            rules[token.issuer].append(TokenRule(client, token.audience, patterns))
    return TokenConfig(issuers, rules)


def login_config(settings: Settings) -> LoginConfig | None:
    """Read the log-in to the console; None if there is none. Raises SettingsError as `token_config` does."""
    login = settings.console.login
    if login is None:
        return None
    _check_library()
    return LoginConfig(
        issuer=_issuer(login.issuer, settings.issuers[login.issuer]),
        client_id=login.client_id,
        client_secret=login.client_secret,
        url=login.url,
        scopes=login.scopes,
        operator=[ClaimPattern.parse(login.roles.claim, value) for value in login.roles.operator],
        viewer=[ClaimPattern.parse(login.roles.claim, value) for value in login.roles.viewer],
        name=ClaimPattern.parse(login.name, "x").path,
        session_seconds=login.session,
    )


def _issuer(name: str, settings: IssuerSettings) -> IssuerConfig:
    if settings.ca_file is not None:
        try:
            create_tls_context(settings.ca_file)
        except ssl.SSLError:
            raise SettingsError([(f"issuers.{name}.ca_file", "holds no certificate")]) from None
    endpoint = IssuerEndpoint(
        url=settings.url,
        jwks_uri=settings.jwks_uri,
        allow_http=settings.allow_http,
        ca_file=settings.ca_file,
        bearer_token_file=settings.bearer_token_file,
        proxy=Proxy.from_settings(settings.proxy, settings.proxy_auth),
        user_agent=f"runward/{version('runward')}",
    )
    return IssuerConfig(name, endpoint, settings.keys_for)


def _check_library() -> None:
    try:
        import gateway.auth.oidc.key_set  # noqa: F401
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in _LIBRARY:
            raise
        raise SettingsError([("issuers", "needs the PyJWT library: install runward[oidc]")]) from None
