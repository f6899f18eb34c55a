"""Texts of environment variables and secret files as a tree of settings. Only this module uses pydantic-settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pydantic_settings
from pydantic.fields import FieldInfo
from typing_extensions import override

from gateway.settings.model import Settings
from gateway.settings.sources.environment_and_secret_files import DELIMITER, PREFIX
from gateway.settings.types.fields import PLAIN_TEXT

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


def parse_texts(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the tree that the texts describe, keyed by names such as `runward_server__port`.

    Raises ValueError if the text of a list or of a section is not JSON, RecursionError if it is nested too deeply.
    """
    try:
        return _TextSource(texts)()
    except pydantic_settings.SettingsError:
        pass
    raise ValueError("not JSON")  # outside of the except block: that exception holds the text


class _TextSource(pydantic_settings.EnvSettingsSource):
    """Source of texts instead of the environment."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        # It reads the fields of the class only. A subclass of BaseSettings would be imported by every start.
        settings_class = cast("type[BaseSettings]", Settings)
        super().__init__(settings_class, case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)
        self.env_vars = texts

    @override
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if PLAIN_TEXT in getattr(field, "metadata", ()):
            return value
        return super().decode_complex_value(field_name, field, value)
