"""Consistency between sections: providers, workflows, clients and keys that refer to each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple
from urllib.parse import urlsplit

from gateway.certificate_names import normalize_certificate_name
from gateway.claim_patterns import ClaimPattern, covers_all
from gateway.settings.console_section import ConsoleLoginSettings
from gateway.settings.errors import Location, did_you_mean, format_location
from gateway.settings.issuers_section import IssuerSettings, TokenSettings
from gateway.settings.providers_workflows_clients import (
    ClientSettings,
    ProviderSettings,
    TeamSettings,
    WorkflowSettings,
)
from gateway.settings.sections import AttentionSettings, CallbackSettings, KeySettings, OpsKeySettings

SettingErrors = Iterator[tuple[Location, str]]
_GITHUB = "token.actions.githubusercontent.com"
_OPEN_TO_GITHUB = (
    "would let in workflows of every repository of GitHub: name an owner, as in repository: acme/shop "
    "or sub: repo:acme/shop:*"
)


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


def inconsistent_tokens(clients: Mapping[str, ClientSettings], issuers: Mapping[str, IssuerSettings]) -> SettingErrors:
    """Find issuers that are listed twice, tokens of unknown issuers, and tokens that would stand for two clients.

    Two lists of claims whose values merely overlap are not found: such a token is refused when it is presented.
    """
    urls: dict[str, str] = {}
    for name, issuer in issuers.items():
        if issuer.url in urls:
            yield ("issuers", name, "url"), f"issuers.{urls[issuer.url]} has this url already"
        urls.setdefault(issuer.url, name)
    entries = [
        _TokenEntry(("clients", name, "tokens", index), name, token, _claim_patterns(token))
        for name, client in clients.items()
        for index, token in enumerate(client.tokens)
    ]
    covering = _entries_by_first_claim(entries)
    for entry in entries:
        issuer_name = entry.token.issuer
        if issuer_name not in issuers:
            yield (*entry.location, "issuer"), "no such issuer" + did_you_mean(issuer_name, issuers)
        elif is_open_to_github(issuers[issuer_name].url, entry.patterns):
            yield (*entry.location, "match"), _OPEN_TO_GITHUB
        others = (other for key in entry.possible_keys() for other in covering.get(key, ()))
        covered_by = next((o for o in others if o.name != entry.name and covers_all(o.patterns, entry.patterns)), None)
        if covered_by is not None:
            yield (*entry.location, "match"), f"each of these tokens would stand for clients.{covered_by.name} too"


def inconsistent_login(
    login: ConsoleLoginSettings | None, clients: Mapping[str, ClientSettings], issuers: Mapping[str, IssuerSettings]
) -> SettingErrors:
    """Find a log-in through an unknown issuer, and clients that would take the id tokens of operators."""
    if login is None:
        return
    if login.issuer not in issuers:
        yield ("console", "login", "issuer"), "no such issuer" + did_you_mean(login.issuer, issuers)
    for name, client in clients.items():
        for index, token in enumerate(client.tokens):
            if (token.issuer, token.audience) == (login.issuer, login.client_id):
                yield ("clients", name, "tokens", index, "audience"), "is that of the console's id tokens"


class _TokenEntry(NamedTuple):
    location: Location
    name: str
    token: TokenSettings
    patterns: Sequence[ClaimPattern]

    def key(self, pattern: ClaimPattern | None) -> tuple[str, str, ClaimPattern | None]:
        return self.token.issuer, self.token.audience, pattern

    def possible_keys(self) -> list[tuple[str, str, ClaimPattern | None]]:
        return [self.key(None), *map(self.key, self.patterns)]


def _entries_by_first_claim(entries: Sequence[_TokenEntry]) -> dict[object, list[_TokenEntry]]:
    """Index the entries so that few have to be compared: by the first claim, if it has no wildcard."""
    found: dict[object, list[_TokenEntry]] = {}
    for entry in entries:
        first = entry.patterns[0]
        found.setdefault(entry.key(None if "*" in str(first.value) else first), []).append(entry)
    return found


def _claim_patterns(token: TokenSettings) -> list[ClaimPattern]:
    return [ClaimPattern.parse(name, value) for name, value in token.match.items()]


def is_open_to_github(url: str, patterns: Sequence[ClaimPattern]) -> bool:
    """Return True if workflows of any repository of GitHub get such tokens: none of the claims names an owner."""
    if urlsplit(url).hostname != _GITHUB:
        return False
    return not any(len(pattern.path) == 1 and _names_owner(pattern.path[0], str(pattern.value)) for pattern in patterns)


def _names_owner(claim: str, value: str) -> bool:
    start, wildcard, _ = value.partition("*")
    if claim in {"repository_owner", "repository_owner_id", "repository_id"}:
        return not wildcard
    if claim == "sub":
        return start.startswith("repo:") and "/" in start
    return claim in {"repository", "workflow_ref"} and "/" in start


def unsigned_webhook(attention: AttentionSettings, callbacks: CallbackSettings) -> SettingErrors:
    """Find a webhook without a secret to sign its messages with."""
    if attention.webhook is not None and not callbacks.secrets:
        yield ("attention", "webhook"), "needs callbacks.secrets: messages are signed with them"


def unused_settings(
    clients: Mapping[str, ClientSettings],
    workflows: Mapping[str, WorkflowSettings],
    providers: Mapping[str, ProviderSettings],
    teams: Mapping[str, TeamSettings],
    unused_issuers: Sequence[str],
) -> SettingErrors:
    """Find settings without an effect: patterns without a match, clients without keys, issuers without tokens."""
    for name in teams.keys() - {client.team for client in clients.values()}:
        yield ("teams", name), "has no clients"
    for issuer in unused_issuers:
        yield ("issuers", issuer), "signs no tokens of a client"
    for name, client in clients.items():
        if not client.keys and not client.certificates and not client.tokens:
            yield ("clients", name), "has no keys here: only stored keys can be used"
        for index, pattern in enumerate(client.workflows):
            provider, slash, _ = pattern.partition("/")
            if provider not in providers if slash else not any(fnmatchcase(alias, pattern) for alias in workflows):
                yield ("clients", name, "workflows", index), "matches no workflow"
