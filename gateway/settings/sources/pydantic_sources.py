"""Sources for pydantic-settings: YAML file, environment and secret files, with unresolved secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from gateway.settings.sources.environment import DELIMITER, PREFIX
from gateway.settings.sources.tree_patterns import Transform, rewrite
from gateway.settings.types.secret_reference import SecretReference

SECRET_PATHS = (
    ("providers", "*", "api_key"),
    ("providers", "*", "proxy_auth"),
    ("callbacks", "secrets", "*"),
    ("callbacks", "proxy_auth"),
    ("store", "password"),
    ("store", "sentinel_password"),
)
"""Settings that are secrets; a test compares it with the model."""


class YamlSource(PydanticBaseSettingsSource):
    """Source of the YAML file."""

    def __init__(self, settings_cls: type[BaseSettings], tree: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Required by pydantic-settings; not used by `__call__`."""
        del field
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Tree of the file."""
        return self._tree


class TextSource(EnvSettingsSource):
    """Source of texts by setting: environment or secret files."""

    def __init__(self, settings_cls: type[BaseSettings], texts: Mapping[str, str], transform: Transform) -> None:
        super().__init__(settings_cls, case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
        self.env_vars = texts
        self._transform = transform

    def __call__(self) -> dict[str, Any]:
        """Tree that the names and texts describe, with transformed secrets."""
        return rewrite(super().__call__(), SECRET_PATHS, self._transform)


def secret_referencer(environ: Mapping[str, str], folder: Path) -> Transform:
    """Transformation of secrets: references become `SecretReference`, texts become `SecretStr`."""

    def transform(value: object) -> object:
        if isinstance(value, dict):
            return SecretReference(value, environ, folder)
        # With PYDANTIC_SETTINGS_DEBUG, pydantic-settings logs the values of its sources.
        return SecretStr(value) if isinstance(value, str) else value

    return transform
