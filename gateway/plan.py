"""What a configuration comes to: built and checked as a whole, before anything of it is put to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway import configured
from gateway.access.clients import Client
from gateway.access.keys import KeyRing
from gateway.access.limits import ClientLimits, SharedLimits
from gateway.clock import Clock
from gateway.metrics import Metrics
from gateway.runs.breaker import Tolerance
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.passthrough import Allowed
from gateway.runs.retry import Policy
from gateway.settings import ProviderSettings, Settings
from gateway.upstream.allowance import Allowance
from gateway.upstream.client import HttpUpstream

_CHANGE_IN_PLACE = {"api_key", "connect_timeout", "limits"}
"""Settings of a provider with which its connections can be kept. What is trusted is read anew in any case."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that can change while the gateway runs.

    `doors` are what its providers use; `renewals` say what those of them become that the plan before used already.
    """

    settings: Settings
    doors: Mapping[str, HttpUpstream]
    renewals: Mapping[str, HttpUpstream]
    providers: Mapping[str, Provider]
    workflows: Mapping[str, Workflow]
    clients: Mapping[str, Client]
    keys: KeyRing
    workflow_limits: Mapping[str, SharedLimits]
    provider_limits: Mapping[str, SharedLimits]
    policy: Policy
    tolerance: Tolerance
    signing_keys: Sequence[bytes]
    passages: Allowed
    allowance: Allowance

    @property
    def client_limits(self) -> dict[str, ClientLimits]:
        """Every client's own limits."""
        return {name: client.limits for name, client in self.clients.items()}


def draw(settings: Settings, clock: Clock, metrics: Metrics, before: Plan | None = None) -> Plan:
    """Build everything anew, but keep the doors of the plan `before` that still lead to the same place.

    Nothing is put to use yet, so it may be done in a thread. Raises SettingsError where anything can not be built.
    """
    adapters = configured.adapters(settings)
    fresh = configured.upstreams(settings, adapters, clock, metrics)
    kept = _still_right(before, settings)
    doors = fresh | kept
    providers = {
        name: Provider(name, adapters[name], doors[name], provider.adapter)
        for name, provider in settings.providers.items()
    }
    workflow_limits, provider_limits = configured.shared_limits(settings)
    return Plan(
        settings=settings,
        doors=doors,
        renewals={name: fresh[name] for name in kept},
        providers=providers,
        workflows=configured.workflows(settings, providers),
        clients=configured.clients(settings),
        keys=configured.key_ring(settings),
        workflow_limits=workflow_limits,
        provider_limits=provider_limits,
        policy=configured.policy(settings),
        tolerance=configured.tolerance(settings),
        signing_keys=configured.signing_keys(settings),
        passages=configured.passages(settings),
        allowance=Allowance(settings.callbacks.allow),
    )


def _still_right(before: Plan | None, settings: Settings) -> dict[str, HttpUpstream]:
    if before is None:
        return {}
    places = {name: _place(provider) for name, provider in before.settings.providers.items()}
    return {n: before.doors[n] for n, provider in settings.providers.items() if places.get(n) == _place(provider)}


def _place(provider: ProviderSettings) -> dict[str, object]:
    """What decides where its requests go, and what they are."""
    return provider.model_dump(exclude=_CHANGE_IN_PLACE)
