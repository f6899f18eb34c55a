"""What no section can see alone: whether the providers, workflows and clients fit together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter

from gateway.settings.complaints import Loc, hint
from gateway.settings.routes import ClientSettings, ProviderSettings, WorkflowSettings

Complaints = Iterator[tuple[Loc, str]]


def unknown_providers(
    workflows: Mapping[str, WorkflowSettings], providers: Mapping[str, ProviderSettings]
) -> Complaints:
    """Find the workflows whose provider is not configured."""
    for alias, workflow in workflows.items():
        if workflow.provider not in providers:
            yield ("workflows", alias, "provider"), "no such provider" + hint(workflow.provider, providers)


def unknown_passages(clients: Mapping[str, ClientSettings], providers: Mapping[str, ProviderSettings]) -> Complaints:
    """Find the clients that may use other routes of a provider that is not configured."""
    for name, client in clients.items():
        for provider in client.passthrough:
            if provider not in providers:
                yield ("clients", name, "passthrough", provider), "no such provider" + hint(provider, providers)


def unknown_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> Complaints:
    """Find the fallbacks that are no alias, are named twice, or are the workflow itself."""
    for alias, workflow in workflows.items():
        for index, fallback in enumerate(workflow.fallback):
            place = ("workflows", alias, "fallback", index)
            if fallback == alias:
                yield place, "a workflow can not be its own fallback"
            elif fallback not in workflows:
                yield place, "no such workflow" + hint(fallback, workflows)
            elif fallback in workflow.fallback[:index]:
                yield place, "is named twice"


def circular_fallbacks(workflows: Mapping[str, WorkflowSettings]) -> Complaints:
    """Find a circle of fallbacks, if there is one."""
    graph = {alias: set(workflow.fallback) - {alias} for alias, workflow in workflows.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        # The sorter names a node after the one that leads to it: read backwards, it is the order of the fallbacks.
        way = " → ".join(circle[::-1]) if len(circle) < 10 else f"{len(circle) - 1} workflows"
        yield ("workflows", circle[-1], "fallback"), f"leads back to itself ({way})"


def shared_aliases(workflows: Mapping[str, WorkflowSettings]) -> Complaints:
    """Find the names that two workflows answer to within one of the providers' APIs."""
    for face in ("promptlayer", "prompt_studio"):
        owners = {alias: alias for alias in workflows}
        for alias, workflow in workflows.items():
            for index, name in enumerate(getattr(workflow.aliases, face) or ()):
                if owners.setdefault(name, alias) != alias:
                    yield ("workflows", alias, "aliases", face, index), f"workflows.{owners[name]} answers to this name"


def shared_keys(clients: Mapping[str, ClientSettings]) -> Complaints:
    """Find the hashes that stand twice: nobody could tell whose key it is."""
    owners: dict[str, str] = {}
    for name, client in clients.items():
        for index, key in enumerate(client.keys):
            if key.hash in owners:
                yield ("clients", name, "keys", index, "hash"), f"clients.{owners[key.hash]} has this key already"
            owners.setdefault(key.hash, name)


def idle(
    clients: Mapping[str, ClientSettings],
    workflows: Mapping[str, WorkflowSettings],
    providers: Mapping[str, ProviderSettings],
) -> Complaints:
    """Find what is no mistake and yet does nothing: patterns without a match, clients without keys."""
    for name, client in clients.items():
        if not client.keys:
            yield ("clients", name), "has no keys"
        for index, pattern in enumerate(client.workflows):
            provider, slash, _ = pattern.partition("/")
            if provider not in providers if slash else not any(fnmatchcase(a, pattern) for a in workflows):
                yield ("clients", name, "workflows", index), "matches no workflow"
