"""Address and connection settings of a provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from gateway.outbound.connect_tunnel import Proxy
from providers.contract import KeyHeader


@dataclass(frozen=True, slots=True)
class ProviderEndpoint:
    """Address and connection settings of a provider. Times in seconds, sizes in bytes.

    `request_headers` are the header names, in lower case, that a call may set.
    """

    provider: str
    base_url: str
    key_header: KeyHeader
    key: SecretStr
    request_headers: frozenset[str] = frozenset()
    user_agent: str = "runward"
    ca_file: Path | None = None
    connect_timeout: float = 5.0
    max_response: int = 10_000_000
    proxy: Proxy | None = None
