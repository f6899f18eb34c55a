"""The workflows that can be run, by the names that clients use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.outbound.provider.passthrough import PassthroughRequest, PassthroughResponse
from gateway.problems import Problem
from gateway.runs.model import ApiName
from gateway.runs.workflow_aliases import NO_PIN, AliasIndex, VersionPin
from providers.contract import Adapter, Call, Reply
from providers.declarations import StartPattern, starts_of


class Upstream(Protocol):
    """The door to one provider."""

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """Make one call before `deadline` (monotonic); ProviderFault where no whole answer came."""

    async def send_passthrough(self, request: PassthroughRequest, deadline: float) -> PassthroughResponse:
        """Pass a client's own request on; raises as `send` does, and Problem where it must not be sent."""

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: its adapter says what to call, its upstream calls it. `api` names the adapter, and so the API.

    `starts`: the adapter's patterns of requests that start paid runs; None where it declares none.
    """

    name: str
    adapter: Adapter
    upstream: Upstream
    api: str = ""
    starts: tuple[StartPattern, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", starts_of(self.adapter))


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as configured. Times in seconds.

    `alias` is what clients, limits and metrics call it, `name` what the provider does. `fallbacks` are tried in order.
    `names`: what it answers to in each face, where the configuration says so.
    """

    alias: str
    provider: Provider
    name: str
    label: str | None = None
    version: int | str | None = None
    timeout: float = 60.0
    max_timeout: float = 60.0
    repeatable: bool = False
    fallbacks: tuple[Workflow, ...] = ()
    api_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether the configuration already chose a label or version."""
        return self.label is not None or self.version is not None

    @property
    def catalog_key(self) -> str:
        """What `Catalog.known` finds it by: its alias, or `provider/name` where it is not configured."""
        return f"{self.provider.name}/{self.name}" if "/" in self.alias else self.alias


class RunScope(Protocol):
    """What a client may run."""

    def may_run(self, alias: str) -> bool:
        """Whether this alias is in its scope."""

    def may_run_direct(self, provider: str, name: str) -> bool:
        """Whether this provider's own name is in its scope."""


class Catalog:
    """Finds a workflow for a client."""

    def __init__(self, workflows: Mapping[str, Workflow], providers: Mapping[str, Provider]) -> None:
        self.reconfigure(workflows, providers)

    def reconfigure(self, workflows: Mapping[str, Workflow], providers: Mapping[str, Provider]) -> None:
        """Know these from now on; who found a workflow before keeps it as it was."""
        self._workflows = workflows
        self._providers = providers
        self._aliases = AliasIndex(workflows.values())

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Every provider that there is now."""
        return tuple(self._providers.values())

    def find(self, name: str, scope: RunScope) -> Workflow:
        """Look up an alias, or `provider/name`.

        Raises Problem: forbidden where the client's scope does not have it, workflow_not_found where nobody has.
        """
        workflow = self._workflows.get(name)
        if workflow is not None:
            if not scope.may_run(name):
                raise Problem("forbidden", "This key may not run this workflow.")
            return workflow
        provider, separator, native_name = name.partition("/")
        if not separator or provider not in self._providers or native_name in {"", ".", ".."}:
            raise Problem("workflow_not_found", "No workflow has this name.")
        if not scope.may_run_direct(provider, native_name):
            raise Problem("forbidden", "This key may not run this workflow.")
        return self._unconfigured_workflow(provider, native_name)

    def find_for_api(self, api: ApiName, name: str, scope: RunScope, pin: VersionPin = NO_PIN) -> Workflow:
        """Look up what a client of a provider's own API calls `name`, in the version or label that it asks for.

        That is an alias; or one of the names that the configuration gives it there, the provider's own by default; or
        the number of `number`; or the name of a workflow that is not configured, where the client's scope has it.
        Raises as `find`.
        """
        if name in self._workflows:
            return self.find(name, scope)
        found = self._aliases.find(api, name)
        if found:
            return _select(found, scope, pin)
        for provider in self._providers.values():
            if provider.api == api and name not in {"", ".", ".."} and scope.may_run_direct(provider.name, name):
                return self._unconfigured_workflow(provider.name, name)
        raise Problem("workflow_not_found", "No workflow has this name.")

    def workflow_number(self, workflow: Workflow) -> int | None:
        """Number a configured workflow, the same in every replica; None for one that is not configured."""
        return self._aliases.workflow_numbers.get(workflow.alias)

    def list_runnable(self, scope: RunScope) -> list[Workflow]:
        """List the configured workflows that a client may run, by alias."""
        return [self._workflows[alias] for alias in sorted(self._workflows) if scope.may_run(alias)]

    def api_of(self, provider: str) -> str:
        """Whose API a provider has; "" for one that is gone."""
        return self._providers[provider].api if provider in self._providers else ""

    def find_stored(self, name: str, provider: str) -> Workflow | None:
        """Find what a kept run was about: its workflow, or the fallback of it that `provider` runs."""
        workflow = self._workflows.get(name)
        if workflow is not None:
            chain = (workflow, *workflow.fallbacks)
            return next((w for w in chain if w.provider.name == provider), None)
        requested_provider, separator, native_name = name.partition("/")
        return (
            self._unconfigured_workflow(requested_provider, native_name)
            if separator and requested_provider == provider and requested_provider in self._providers
            else None
        )

    def placeholder_for(self, provider: str) -> Workflow | None:
        """Stand for whatever this provider runs, to ask about a run whose workflow is gone."""
        return self._unconfigured_workflow(provider, "*") if provider in self._providers else None

    def _unconfigured_workflow(self, provider: str, native_name: str) -> Workflow:
        # Metrics and limits know these by the provider alone: their names come from clients, and are not bounded.
        return Workflow(alias=f"{provider}/*", provider=self._providers[provider], name=native_name)


def _select(found: Sequence[Workflow], scope: RunScope, pin: VersionPin) -> Workflow:
    """Choose among the workflows that share a name."""
    permitted = [workflow for workflow in found if scope.may_run(workflow.alias)]
    if not permitted:
        raise Problem("forbidden", "This key may not run this workflow.")
    exact = [workflow for workflow in permitted if pin != NO_PIN and (workflow.label, workflow.version) == pin]
    chosen = exact or [workflow for workflow in permitted if not workflow.pinned] or permitted
    if len(chosen) > 1:
        raise Problem(
            "workflow_not_found", "Several workflows have this name: the configuration must give them aliases."
        )
    return chosen[0]
