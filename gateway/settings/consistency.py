"""What no section can see alone: whether the providers, workflows and clients fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from gateway.settings.errors import Location, did_you_mean
from gateway.settings.resources import ClientSettings, ProviderSettings, WorkflowSettings

SettingErrors = Iterator[tuple[Location, str]]


def unknown_providers(
    workflows: Mapping[str, WorkflowSettings], providers: Mapping[str, ProviderSettings]
) -> SettingErrors:
    """Find the workflows whose provider is not configured."""
    for alias, workflow in workflows.items():
        if workflow.provider not in providers:
            yield ("workflows", alias, "provider"), "no such provider" + did_you_mean(workflow.provider, providers)


def unknown_passthrough_providers(
    clients: Mapping[str, ClientSettings], providers: Mapping[str, ProviderSettings]
) -> SettingErrors:
    """Find the clients that may use other routes of a provider that is not configured."""
    for name, client in clients.items():
        for provider in client.passthrough:
            if provider not in providers:
                yield ("clients", name, "passthrough", provider), "no such provider" + did_you_mean(provider, providers)


def unknown_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find the fallbacks that are no alias, are named twice, or are the workflow itself."""
    for alias, workflow in workflows.items():
        for index, fallback in enumerate(workflow.fallback):
            location = ("workflows", alias, "fallback", index)
            if fallback == alias:
                yield location, "a workflow can not be its own fallback"
            elif fallback not in workflows:
                yield location, "no such workflow" + did_you_mean(fallback, workflows)
            elif fallback in workflow.fallback[:index]:
                yield location, "is named twice"


def cyclic_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find a circle of fallbacks, if there is one."""
    graph = {alias: set(workflow.fallback) - {alias} for alias, workflow in workflows.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        # The sorter names a node after the one that leads to it: read backwards, it is the order of the fallbacks.
        description = " → ".join(cycle[::-1]) if len(cycle) < 10 else f"{len(cycle) - 1} workflows"
        yield ("workflows", cycle[-1], "fallback"), f"leads back to itself ({description})"


def duplicate_aliases(workflows: Mapping[str, WorkflowSettings]) -> SettingErrors:
    """Find the names that two workflows answer to within one of the providers' APIs."""
    for api in ("promptlayer", "prompt_studio"):
        owners = {alias: alias for alias in workflows}
        for alias, workflow in workflows.items():
            for index, name in enumerate(getattr(workflow.aliases, api) or ()):
                if owners.setdefault(name, alias) != alias:
                    yield ("workflows", alias, "aliases", api, index), f"workflows.{owners[name]} answers to this name"


def duplicate_keys(clients: Mapping[str, ClientSettings]) -> SettingErrors:
    """Find the hashes that stand twice: nobody could tell whose key it is."""
    owners: dict[str, str] = {}
    for name, client in clients.items():
        for index, key in enumerate(client.keys):
            if key.hash in owners:
                yield ("clients", name, "keys", index, "hash"), f"clients.{owners[key.hash]} has this key already"
            owners.setdefault(key.hash, name)


def unused_settings(
    clients: Mapping[str, ClientSettings],
    workflows: Mapping[str, WorkflowSettings],
    providers: Mapping[str, ProviderSettings],
) -> SettingErrors:
    """Find what is no mistake and yet does nothing: patterns without a match, clients without keys."""
    for name, client in clients.items():
        if not client.keys:
            yield ("clients", name), "has no keys"
        for index, pattern in enumerate(client.workflows):
            provider, slash, _ = pattern.partition("/")
            if provider not in providers if slash else not any(fnmatchcase(alias, pattern) for alias in workflows):
                yield ("clients", name, "workflows", index), "matches no workflow"
