"""Places of the secrets in the settings, and references to them before validation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from gateway.settings.sources.tree_traversal import Transform
from gateway.settings.types.secret_reference import SecretReference

SECRET_PATHS = (
    ("providers", "*", "api_key"),
    ("providers", "*", "proxy_auth"),
    ("callbacks", "secrets", "*"),
    ("callbacks", "proxy_auth"),
    ("console", "login", "client_secret"),
    ("content", "encrypt", "key"),
    ("content", "encrypt", "keys", "*"),
    ("issuers", "*", "proxy_auth"),
    ("store", "password"),
    ("store", "sentinel_password"),
)
"""Settings that are secrets; a test compares it with the model."""


def secret_referencer(environ: Mapping[str, str], folder: Path) -> Transform:
    """Transformation of secrets: references become `SecretReference`, texts `SecretStr`, which hides them."""

    def transform(value: object) -> object:
        if isinstance(value, dict):
            return SecretReference(value, environ, folder)
        return SecretStr(value) if isinstance(value, str) else value

    return transform
