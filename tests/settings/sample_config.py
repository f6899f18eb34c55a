"""Valid minimal configuration, and functions to load variations of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KEY = "ps_4f9a8b7c6d5e"
ENVIRON = {"STUDIO_KEY": KEY}
VALID = """\
providers:
  studio:
    api_key: {env: STUDIO_KEY}
workflows:
  support-triage:
    provider: studio
    timeout: 90s
"""


def load_settings(folder: Path, text: str = VALID, environ: Mapping[str, str] = ENVIRON) -> Settings:
    """Load `text` as folder/gateway.yaml."""
    path = folder / "gateway.yaml"
    path.write_text(text)
    return load(path, environ)


def load_error(folder: Path, text: str = VALID, environ: Mapping[str, str] = ENVIRON) -> str:
    """Load an invalid configuration; returns the errors, one per line."""
    with pytest.raises(SettingsError) as refused:
        load_settings(folder, text, environ)
    return str(refused.value)
