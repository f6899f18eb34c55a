"""Configuration for tests: short timeouts, two clients, a workflow at each provider, random secrets."""

from __future__ import annotations

import secrets
from types import MappingProxyType
from typing import TYPE_CHECKING

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.contract import JsonValue


CLIENT_KEYS: Mapping[str, str] = MappingProxyType({name: new_key(SystemClock()) for name in ("one", "two")})
"""The clients' keys, by the clients' names: made anew by each test run."""

PROVIDER_SECRETS: Mapping[str, str] = MappingProxyType(
    {
        "PROMPTLAYER_API_KEY": "pl_" + secrets.token_hex(24),
        "PROMPT_STUDIO_API_KEY": "ps_" + secrets.token_hex(24),
    }
)
"""The providers' keys, by their environment variables: canaries that must never be seen anywhere."""

MAX_RESPONSE = 4_000_000


def gateway_config(promptlayer_url: str, prompt_studio_url: str, **overrides: JsonValue) -> dict[str, JsonValue]:
    """Return the configuration as in a file; `overrides` are merged recursively."""
    config: dict[str, JsonValue] = {
        "server": {
            "host": "127.0.0.1",
            "port": 0,
            "ops_port": 0,
            "drain": "200ms",
            "max_body": "1MB",
            "header_timeout": "2s",
            "body_timeout": "2s",
        },
        "logs": {"level": "debug", "format": "json"},
        "store": {"url": "memory://"},
        "retries": {"attempts": 3, "backoff": "50ms", "backoff_max": "1s"},
        # Tests share gateways: polls of followed runs would meet the upstream of a later test.
        "polling": {"first": "20ms", "max": "100ms", "timeout": "2s", "follow_for": 0},
        "providers": {
            "promptlayer": _provider(promptlayer_url, "PROMPTLAYER_API_KEY"),
            "prompt_studio": _provider(prompt_studio_url, "PROMPT_STUDIO_API_KEY"),
        },
        "workflows": {
            "studio": {"provider": "prompt_studio", "name": "dep_test", "timeout": "3s", "max_timeout": "3s"},
            "layer": {"provider": "promptlayer", "name": "layer-test", "timeout": "3s", "max_timeout": "3s"},
        },
        "clients": {name: {"keys": [{"hash": hash_key(key)}], "workflows": ["*"]} for name, key in CLIENT_KEYS.items()},
    }
    return merged(config, overrides)


def merged(base: Mapping[str, JsonValue], over: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Merge `over` into `base` recursively; values that are not mappings are replaced."""
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            result[key] = merged(before, value)
        else:
            result[key] = value
    return result


def _provider(url: str, variable: str) -> JsonValue:
    return {
        "base_url": url,
        "api_key": {"env": variable},
        "connect_timeout": "500ms",
        "max_response": MAX_RESPONSE,
    }
