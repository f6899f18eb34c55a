"""The file, the environment and the secret files as sources of pydantic-settings, with their secrets not yet read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from gateway.settings.environment import DELIMITER, PREFIX
from gateway.settings.secret import SecretReference
from gateway.settings.tree import Transform, rewrite

SECRET_PATHS = (("providers", "*", "api_key"), ("callbacks", "secrets", "*"), ("store", "password"))
"""Where secrets are; a test compares it with the model."""


class YamlSource(PydanticBaseSettingsSource):
    """What the YAML file says."""

    def __init__(self, settings_cls: type[BaseSettings], tree: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._tree = tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Pydantic-settings wants this method; `__call__` does not use it."""
        del field
        return self._tree.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Give the tree."""
        return self._tree


class TextSource(EnvSettingsSource):
    """Texts by the names of settings: what the environment says, and what secret files do."""

    def __init__(self, settings_cls: type[BaseSettings], texts: Mapping[str, str], transform: Transform) -> None:
        super().__init__(settings_cls, case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
        self.env_vars = texts
        self._transform = transform

    def __call__(self) -> dict[str, Any]:
        """Give the tree that the names and texts describe, its secrets changed."""
        return rewrite(super().__call__(), SECRET_PATHS, self._transform)


def secret_referencer(environ: Mapping[str, str], folder: Path) -> Transform:
    """Make the change that turns {env: …} and {file: …} into what can be read later, and hides plain secrets."""

    def transform(value: object) -> object:
        if isinstance(value, dict):
            return SecretReference(value, environ, folder)
        # PYDANTIC_SETTINGS_DEBUG makes pydantic-settings log what its sources give.
        return SecretStr(value) if isinstance(value, str) else value

    return transform
