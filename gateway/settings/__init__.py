"""Configuration: the only package that reads the environment, secret files and the YAML file."""

from gateway.settings.config_files import ConfigFiles, WatchedPaths
from gateway.settings.console_section import ConsoleLoginSettings
from gateway.settings.content_section import ContentSettings, EncryptionSettings, WorkflowContentSettings
from gateway.settings.errors import SettingsError
from gateway.settings.issuers_section import IssuerSettings, TokenSettings
from gateway.settings.load import load
from gateway.settings.model import Settings
from gateway.settings.providers_workflows_clients import (
    ClientLimitSettings,
    ClientSettings,
    LimitSettings,
    ProviderLimitSettings,
    ProviderSettings,
    TeamSettings,
    WorkflowSettings,
)
from gateway.settings.schema import json_schema
from gateway.settings.sections import (
    BreakerSettings,
    CallbackSettings,
    KeySettings,
    LogsSettings,
    OpsTlsSettings,
    PollingSettings,
    RetrySettings,
    ServerSettings,
    StoreSettings,
    TlsSettings,
)
from gateway.settings.tracing_section import TracingSettings
from gateway.settings.types.units import RateSpec

__all__ = [
    "BreakerSettings",
    "CallbackSettings",
    "ClientLimitSettings",
    "ClientSettings",
    "ConfigFiles",
    "ConsoleLoginSettings",
    "ContentSettings",
    "EncryptionSettings",
    "IssuerSettings",
    "KeySettings",
    "LimitSettings",
    "LogsSettings",
    "OpsTlsSettings",
    "PollingSettings",
    "ProviderLimitSettings",
    "ProviderSettings",
    "RateSpec",
    "RetrySettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "TeamSettings",
    "TlsSettings",
    "TokenSettings",
    "TracingSettings",
    "WatchedPaths",
    "WorkflowContentSettings",
    "WorkflowSettings",
    "json_schema",
    "load",
]
