"""Runward's configuration: the one place that reads the environment, secret files and the YAML file."""

from gateway.settings.complaints import SettingsError
from gateway.settings.files import ConfigFiles
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.settings.routes import (
    ClientLimits,
    ClientSettings,
    KeySettings,
    Limits,
    ProviderLimits,
    ProviderSettings,
    WorkflowSettings,
)
from gateway.settings.schema import json_schema
from gateway.settings.sections import (
    BreakerSettings,
    CallbackSettings,
    LogsSettings,
    PollingSettings,
    RetrySettings,
    ServerSettings,
    StoreSettings,
)
from gateway.settings.units import Rate

__all__ = [
    "BreakerSettings",
    "CallbackSettings",
    "ClientLimits",
    "ClientSettings",
    "ConfigFiles",
    "KeySettings",
    "Limits",
    "LogsSettings",
    "PollingSettings",
    "ProviderLimits",
    "ProviderSettings",
    "Rate",
    "RetrySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "WorkflowSettings",
    "json_schema",
    "load",
]
