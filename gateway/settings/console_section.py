"""Section `console`: log-in to the console through an OpenID Connect provider."""

from __future__ import annotations

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from gateway.claim_patterns import MAX_NAME, MAX_VALUE, ClaimPattern
from gateway.settings.errors import raise_validation_error
from gateway.settings.issuers_section import Audience
from gateway.settings.sections import Section
from gateway.settings.types.addresses import BaseUrl, is_plaintext_remote
from gateway.settings.types.fields import Name
from gateway.settings.types.secret_reference import Secret
from gateway.settings.types.units import Duration

MAX_SESSION = 12 * 3600.0
"""Longest session, in seconds."""
_SCOPE_PATTERN = r"^[!#-\[\]-~]{1,100}$"


def _check_claim(name: str) -> str:
    ClaimPattern.parse(name, "x")
    return name


ClaimName = Annotated[
    str,
    AfterValidator(_check_claim),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_NAME}),
]
ClaimText = Annotated[str, Field(min_length=1, max_length=MAX_VALUE)]
OAuthScope = Annotated[str, Field(pattern=_SCOPE_PATTERN)]


class LoginRolesSettings(Section):
    """Roles by a claim of the id token; without one of these values, the log-in is refused."""

    claim: ClaimName
    """Claim, such as groups: a text or a list of texts; a JSON pointer names a nested one."""
    operator: Annotated[tuple[ClaimText, ...], Field(max_length=100)] = ()
    """Values that give the role operator; * stands for any characters, not at the beginning."""
    viewer: Annotated[tuple[ClaimText, ...], Field(max_length=100)] = ()
    """Values that give the role viewer to those that are no operator."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if not self.operator and not self.viewer:
            raise_validation_error([(("operator",), "or viewer must have a value: otherwise every log-in is refused")])
        errors = []
        for field in ("operator", "viewer"):
            for index, value in enumerate(getattr(self, field)):
                try:
                    ClaimPattern.parse(self.claim, value)
                except ValueError as error:
                    errors.append(((field, index), str(error)))
        raise_validation_error(errors)
        return self


class ConsoleLoginSettings(Section):
    """Log-in through an OpenID Connect provider: authorization code with PKCE."""

    issuer: Name
    """Issuer, one of `issuers`."""
    client_id: Audience
    """Client id of the console at the issuer."""
    client_secret: Secret | None = None
    """Client secret at the issuer; none for a public client."""
    url: BaseUrl
    """URL at which browsers reach the operations port; the redirect URI is this and /api/login/callback."""
    scopes: Annotated[tuple[OAuthScope, ...], Field(max_length=20)] = ("openid", "profile")
    """Scopes that are asked for; the id token must have the claims of roles and name."""
    roles: LoginRolesSettings
    """Roles by claim."""
    name: ClaimName = "preferred_username"
    """Claim with the name for records of changes; `sub` if a token has none."""
    session: Duration = 8 * 3600.0
    """Length of a session, at most 12h. A role that is taken away at the issuer ends with it."""

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        errors: list[tuple[tuple[str, ...], str]] = []
        if is_plaintext_remote(self.url):
            errors.append((("url",), "must be https: the session could be read on the network"))
        if urlsplit(self.url).path:
            errors.append((("url",), "must not have a path: the console has none before its own"))
        if "openid" not in self.scopes:
            errors.append((("scopes",), "must have openid"))
        if self.session > MAX_SESSION:
            errors.append((("session",), "must be at most 12h"))
        raise_validation_error(errors)
        return self


class ConsoleSettings(Section):
    """Console of the operations port."""

    login: ConsoleLoginSettings | None = None
    """Log-in through an OpenID Connect provider, beside server.ops_keys; none by default."""
