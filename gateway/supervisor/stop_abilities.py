"""Which providers can stop runs, for the operations port of a supervisor: the runs are in its workers."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.app import factories
from gateway.settings import Settings, SettingsError
from providers.declarations import can_cancel


class StopAbilities:
    """The configured providers. `by_provider`: whether a provider can stop runs; None if its adapter is refused."""

    def __init__(self, settings: Settings) -> None:
        self.by_provider: Mapping[str, bool | None] = {}
        self.reconfigure(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Use other settings."""
        self.by_provider = {name: _ability(name, settings) for name in settings.providers}


def _ability(name: str, settings: Settings) -> bool | None:
    try:
        return can_cancel(factories.adapter(name, settings))
    except SettingsError:  # no worker starts with these settings
        return None
