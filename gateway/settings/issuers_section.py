"""Section `issuers`, and the tokens of clients that they sign."""

from __future__ import annotations

from typing import Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, Field, FilePath, PlainValidator, WithJsonSchema, model_validator

from gateway.claim_patterns import MAX_CLAIMS, MAX_NAME, MAX_VALUE, ClaimPattern, ClaimValue
from gateway.settings.errors import raise_validation_error
from gateway.settings.sections import Section
from gateway.settings.types.addresses import EndpointUrl, IssuerUrl, ProxyUrl, is_plaintext_remote
from gateway.settings.types.fields import Name
from gateway.settings.types.secret_reference import ProxyCredentials
from gateway.settings.types.units import Duration

_PLAINTEXT = "must be https, unless allow_http: true accepts that others can replace the keys on the network"


def _check_match(value: object) -> dict[str, ClaimValue]:
    """Check claims and their values. Raises ValueError."""
    if not isinstance(value, dict) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("must have at least one claim, such as sub: system:serviceaccount:shop:checkout")
    if len(value) > MAX_CLAIMS:
        raise ValueError(f"must have at most {MAX_CLAIMS} claims")
    for name, pattern in value.items():
        try:
            ClaimPattern.parse(name, pattern)
        except ValueError as error:
            raise ValueError(f"{name if name.isprintable() else 'a claim'}: {error}") from None
    return value


def check_audience(text: str) -> str:
    """Check an audience or a client id. Raises ValueError."""
    if not text or len(text) > MAX_VALUE or not text.isprintable() or "*" in text:
        raise ValueError(f"must have 1 to {MAX_VALUE} printable characters, without *")
    return text


_MATCH_SCHEMA: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": MAX_CLAIMS,
    "propertyNames": {"minLength": 1, "maxLength": MAX_NAME},
    "additionalProperties": {
        "anyOf": [
            {"type": "string", "minLength": 1, "maxLength": MAX_VALUE, "pattern": r"^[^*]"},
            {"type": "integer"},
            {"type": "boolean"},
        ]
    },
}
ClaimMatch: TypeAlias = Annotated[dict[str, ClaimValue], PlainValidator(_check_match), WithJsonSchema(_MATCH_SCHEMA)]
"""Claims by name or JSON pointer, and the values that they must have."""
Audience: TypeAlias = Annotated[
    str,
    AfterValidator(check_audience),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_VALUE, "pattern": r"^[^*]+$"}),
]


class IssuerSettings(Section):
    """Issuer of signed tokens: an OpenID Connect provider, such as Kubernetes or GitHub Actions."""

    url: IssuerUrl
    """Issuer, exactly as its tokens have it in `iss`; its discovery document is below this address."""
    jwks_uri: EndpointUrl | None = None
    """Address of its keys (JWKS); that of the discovery document by default."""
    allow_http: bool = False
    """Allow plain http to another machine; others on the network can then replace the keys."""
    ca_file: FilePath | None = None
    """Trusted authorities in PEM, read at each request; those of the system by default."""
    bearer_token_file: FilePath | None = None
    """File with a token for requests to the issuer's own host, read at each request; Kubernetes may demand one."""
    proxy: ProxyUrl | None = None
    """HTTP proxy for requests to the issuer (CONNECT): http://host:port; none by default."""
    proxy_auth: ProxyCredentials | None = None
    """User and password of the proxy, as user:password; none by default."""
    keys_for: Duration = 86400.0
    """Time for which keys are used while newer ones cannot be fetched; then tokens are answered with 503."""

    @model_validator(mode="after")
    def _require_https(self) -> Self:
        if self.allow_http:
            return self
        insecure = [name for name in ("url", "jwks_uri") if is_plaintext_remote(getattr(self, name) or "https:")]
        if insecure:
            raise_validation_error([((name,), _PLAINTEXT) for name in insecure])
        return self

    @model_validator(mode="after")
    def _require_proxy(self) -> Self:
        if self.proxy_auth is not None and self.proxy is None:
            raise_validation_error([(("proxy_auth",), "needs proxy")])
        return self


class TokenSettings(Section):
    """Tokens that stand for a key of the client."""

    issuer: Name
    """Issuer, one of `issuers`."""
    audience: Audience
    """Audience that a token must be for (`aud`)."""
    match: ClaimMatch
    """Claims and the values that they must have, all of them; `*` stands for any characters, not at the beginning."""


TokensField: TypeAlias = Annotated[tuple[TokenSettings, ...], Field(max_length=100)]
