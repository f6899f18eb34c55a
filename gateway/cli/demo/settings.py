"""Configuration of `runward demo`: both providers in the sandbox, and a workflow for each outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from gateway.auth.keys import hash_key, new_key
from gateway.clock import Clock
from gateway.sandbox import SandboxKeys
from gateway.settings import (
    ClientLimitSettings,
    ClientSettings,
    KeySettings,
    PollingSettings,
    ProviderLimitSettings,
    ProviderSettings,
    RateSpec,
    RetrySettings,
    ServerSettings,
    Settings,
    StoreSettings,
    WorkflowSettings,
)
from gateway.settings.price_section import PriceSettings

HOST = "127.0.0.1"

WORKFLOWS = {
    "support-triage": WorkflowSettings(provider="promptlayer", label="production", fallback=("triage-studio",)),
    "triage-studio": WorkflowSettings(provider="prompt_studio", name="dep_triage"),
    "answer": WorkflowSettings(provider="prompt_studio", name="dep_answer"),
    "report": WorkflowSettings(provider="promptlayer", name="slow"),
    "falls-back": WorkflowSettings(provider="promptlayer", name="throttled", fallback=("triage-studio",), timeout=10),
    "always-fails": WorkflowSettings(provider="promptlayer", name="fail"),
    "always-busy": WorkflowSettings(provider="prompt_studio", name="dep_throttled", timeout=2),
    "never-answers": WorkflowSettings(provider="prompt_studio", name="dep_hang", timeout=2),
}


@dataclass(frozen=True, slots=True)
class DemoKeys:
    """Keys of one demo: the client's, and those that the sandbox accepts; created at each start."""

    client: str
    sandbox: SandboxKeys

    @classmethod
    def make(cls, clock: Clock) -> DemoKeys:
        """Create new keys."""
        return cls(new_key(clock), SandboxKeys("pl_" + clock.token(16).hex(), "ps_" + clock.token(16).hex()))


def demo_settings(sandbox_url: str, keys: DemoKeys, store: Path, *, port: int, ops_port: int) -> Settings:
    """Build the configuration. Raises ValidationError if the ports are the same."""
    return Settings(
        server=ServerSettings(host=HOST, port=port, ops_host=HOST, ops_port=ops_port, drain=0, open_docs=True),
        store=StoreSettings(url=f"sqlite:///{store}"),
        retries=RetrySettings(attempts=2),
        polling=PollingSettings(first=0.05, max=1),
        providers={
            "promptlayer": _provider(sandbox_url, keys.sandbox.promptlayer, price="0.04"),
            "prompt_studio": _provider(sandbox_url, keys.sandbox.prompt_studio, price="0.02"),
        },
        workflows=WORKFLOWS,
        clients={
            "demo": ClientSettings(
                keys=(KeySettings(hash=hash_key(keys.client)),),
                workflows=("*",),
                limits=ClientLimitSettings(rate=RateSpec(20, 1), burst=40, concurrency=20, daily=10_000),
            )
        },
    )


def _provider(sandbox_url: str, key: str, *, price: str) -> ProviderSettings:
    limits = ProviderLimitSettings(rate=RateSpec(50, 1), concurrency=50)
    prices = PriceSettings.model_validate({"default": price})
    return ProviderSettings(base_url=sandbox_url, api_key=SecretStr(key), limits=limits, price=prices)
