"""Consistency between sections: providers, workflows, clients and keys that refer to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from gateway.certificate_names import normalize_certificate_name
from gateway.settings.errors import Location, did_you_mean, format_location
from gateway.settings.providers_workflows_clients import (
    ClientSettings,
    ProviderSettings,
    TeamSettings,
    WorkflowSettings,
)
from gateway.settings.sections import AttentionSettings, CallbackSettings, KeySettings, OpsKeySettings

SettingErrors = Iterator[tuple[Location, str]]


def unknown_providers(
    workflows: Mapping[str, WorkflowSettings], providers: Mapping[str, ProviderSettings]
) -> SettingErrors:
    """Find workflows whose provider is not configured."""
    for alias, workflow in workflows.items():
        if workflow.provider not in providers:
            yield ("workflows", alias, "provider"), "no such provider" + did_you_mean(workflow.provider, providers)


def unknown_passthrough_providers(
    clients: Mapping[str, ClientSettings], providers: Mapping[str, ProviderSettings]
) -> SettingErrors:
    """Find passthrough rules for a provider that is not configured."""
    for name, client in clients.items():
        for provider in client.passthrough:
            if provider not in providers:
                yield ("clients", name, "passthrough", provider), "no such provider" + did_you_mean(provider, providers)


def unknown_teams(
    clients: Mapping[str, ClientSettings], ops_keys: Sequence[OpsKeySettings], teams: Mapping[str, TeamSettings]
) -> SettingErrors:
    """Find clients and keys of the operations port whose team is not configured."""
    named: list[tuple[Location, str | None]] = [
        *((("clients", name, "team"), client.team) for name, client in clients.items()),
        *((("server", "ops_keys", index, "team"), key.team) for index, key in enumerate(ops_keys)),
    ]
    for location, team in named:
        if team is not None and team not in teams:
            yield location, "no such team" + did_you_mean(team, teams)


def unknown_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find fallbacks that are no alias, are listed twice, or are the workflow itself."""
    for alias, workflow in workflows.items():
        for index, fallback in enumerate(workflow.fallback):
            location = ("workflows", alias, "fallback", index)
            if fallback == alias:
                yield location, "a workflow cannot be its own fallback"
            elif fallback not in workflows:
                yield location, "no such workflow" + did_you_mean(fallback, workflows)
            elif fallback in workflow.fallback[:index]:
                yield location, "is listed twice"


def cyclic_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find a cycle of fallbacks."""
    graph = {alias: set(workflow.fallback) - {alias} for alias, workflow in workflows.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        # The sorter lists a node after its predecessor; the order of the fallbacks is the reverse.
        description = " → ".join(cycle[::-1]) if len(cycle) < 10 else f"{len(cycle) - 1} workflows"
        yield ("workflows", cycle[-1], "fallback"), f"leads back to itself ({description})"


def duplicate_aliases(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find names that two workflows share in the API of one provider."""
    for api in ("promptlayer", "prompt_studio"):
        owners = {alias: alias for alias in workflows}
        for alias, workflow in workflows.items():
            for index, name in enumerate(getattr(workflow.aliases, api) or ()):
                if owners.setdefault(name, alias) != alias:
                    yield ("workflows", alias, "aliases", api, index), f"workflows.{owners[name]} has this name already"


def duplicate_keys(clients: Mapping[str, ClientSettings], ops_keys: Sequence[KeySettings]) -> SettingErrors:
    """Find key hashes that occur twice: a key must belong to one client, or to operations."""
    keys_by_location: dict[Location, Sequence[KeySettings]] = {
        **{("clients", name): client.keys for name, client in clients.items()},
        ("server", "ops_keys"): ops_keys,
    }
    owners: dict[str, str] = {}
    for location, keys in keys_by_location.items():
        suffix = ("keys",) if location[0] == "clients" else ()
        for index, key in enumerate(keys):
            if key.hash in owners:
                yield (*location, *suffix, index, "hash"), f"{owners[key.hash]} has this key already"
            owners.setdefault(key.hash, format_location(location))


def duplicate_certificates(clients: Mapping[str, ClientSettings]) -> SettingErrors:
    """Find the certificate names that two clients have: a certificate must name one client."""
    owners: dict[str, str] = {}
    for name, client in clients.items():
        for index, text in enumerate(client.certificates):
            certificate = normalize_certificate_name(text)
            if certificate in owners:
                yield (
                    ("clients", name, "certificates", index),
                    f"clients.{owners[certificate]} has this certificate already",
                )
            owners.setdefault(certificate, name)


def unsigned_webhook(attention: AttentionSettings, callbacks: CallbackSettings) -> SettingErrors:
    """Find a webhook without a secret to sign its messages with."""
    if attention.webhook is not None and not callbacks.secrets:
        yield ("attention", "webhook"), "needs callbacks.secrets: messages are signed with them"


def unused_settings(
    clients: Mapping[str, ClientSettings],
    workflows: Mapping[str, WorkflowSettings],
    providers: Mapping[str, ProviderSettings],
    teams: Mapping[str, TeamSettings],
) -> SettingErrors:
    """Find settings without an effect: patterns without a match, clients without keys, teams without clients."""
    for name in teams.keys() - {client.team for client in clients.values()}:
        yield ("teams", name), "has no clients"
    for name, client in clients.items():
        if not client.keys and not client.certificates:
            yield ("clients", name), "has no keys"
        for index, pattern in enumerate(client.workflows):
            provider, slash, _ = pattern.partition("/")
            if provider not in providers if slash else not any(fnmatchcase(alias, pattern) for alias in workflows):
                yield ("clients", name, "workflows", index), "matches no workflow"
