"""Catalog of workflows and providers: lookup by the names that clients use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from gateway.errors import WorkflowForbidden, WorkflowNotFound
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse
from gateway.runs.api_name_index import NO_PIN, ApiNameIndex, VersionPin
from gateway.runs.model import ApiName
from gateway.runs.prices import PriceTable
from providers.contract import Adapter, Call, Reply
from providers.declarations import StartPattern, accepts_release, starts_of


class Upstream(Protocol):
    """Client of one provider."""

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """Make one call before `deadline` (monotonic). Raises ProviderFault without a complete reply."""

    def send_passthrough(
        self, request: PassthroughRequest, deadline: float, *, max_body: int
    ) -> AbstractAsyncContextManager[PassthroughResponse]:
        """Pass a client's own request on; its response has at most `max_body` bytes.

        Raises as `send`, and InvalidRequest if the request must not be sent.
        """

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: its adapter decides on calls, its upstream makes them. `api`: the name of the adapter and its API.

    `starts`: the adapter's patterns of requests that start paid runs; None if it declares none. `address`: host and
    port of its URL. `prices`: those of workflows without prices of their own.
    """

    name: str
    adapter: Adapter
    upstream: Upstream
    api: str = ""
    address: tuple[str, int] = ("", 0)
    prices: PriceTable | None = None
    starts: tuple[StartPattern, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", starts_of(self.adapter))


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow of the configuration. Times in seconds.

    `alias`: its name for clients, limits and metrics; `name`: its name at the provider. `fallbacks` are tried in order.
    `api_names`: its configured names in the providers' APIs. `prices`: None if it has none, and its provider neither.
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
    prices: PriceTable | None = None
    catalog_key: str = field(init=False)
    """Name for `Catalog.find_stored`: the alias, or `provider/name` of a workflow that is not configured."""

    def __post_init__(self) -> None:
        catalog_key = f"{self.provider.name}/{self.name}" if "/" in self.alias else self.alias
        object.__setattr__(self, "catalog_key", catalog_key)

    def price_of(self, label: str | None, version: int | str | None) -> int | None:
        """Return the price of a start in micros; None if none is declared. The arguments: what the request asks for."""
        return None if self.prices is None else self.prices.price_of(self.label or label, self.version or version)

    @property
    def pinned(self) -> bool:
        """True if the configuration sets a label or version."""
        return self.label is not None or self.version is not None

    def refuses_pin(self, pin: VersionPin) -> str | None:
        """Return why a requested label or version would be ignored; None if it is applied, or the configuration's."""
        if pin in {NO_PIN, (self.label, self.version)}:
            return None
        adapter = self.provider.adapter
        if not adapter.supports_versions:
            return "the provider of this workflow does not support versions"
        if not accepts_release(adapter, *pin):
            return f"the provider of this workflow has no such {'labels' if pin[0] is not None else 'versions'}"
        return "the configuration pins this workflow to another version" if self.pinned else None


class RunScope(Protocol):
    """Scope of a client: the workflows that it may run."""

    def may_run(self, alias: str) -> bool:
        """Return whether the alias is in the scope."""

    def may_run_direct(self, provider: str, name: str) -> bool:
        """Return whether the workflow with this name at the provider is in the scope."""


class Catalog:
    """Lookup of workflows."""

    def __init__(self, workflows: Mapping[str, Workflow], providers: Mapping[str, Provider]) -> None:
        self.reconfigure(workflows, providers)

    def reconfigure(self, workflows: Mapping[str, Workflow], providers: Mapping[str, Provider]) -> None:
        """Replace the workflows and providers; runs in progress keep theirs."""
        self._workflows = workflows
        self._providers = providers
        self._aliases = ApiNameIndex(workflows.values())

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The providers of the current configuration."""
        return tuple(self._providers.values())

    def find(self, name: str, scope: RunScope) -> Workflow:
        """Look up an alias, or `provider/name`.

        Raises WorkflowForbidden if it is outside the client's scope, WorkflowNotFound if no workflow has this name.
        """
        workflow = self._workflows.get(name)
        if workflow is not None:
            if not scope.may_run(name):
                raise WorkflowForbidden("This key may not run this workflow.")
            return workflow
        provider, separator, native_name = name.partition("/")
        if not separator or provider not in self._providers or native_name in {"", ".", ".."}:
            raise WorkflowNotFound("No workflow has this name.")
        if not scope.may_run_direct(provider, native_name):
            raise WorkflowForbidden("This key may not run this workflow.")
        return self._unconfigured_workflow(provider, native_name)

    def find_for_api(self, api: ApiName, name: str, scope: RunScope, pin: VersionPin = NO_PIN) -> Workflow:
        """Look up a workflow by the name that a client of a provider's own API uses, in the requested release.

        The name is an alias; a configured name in that API (default: the provider's own); its `workflow_number`; or the
        name of a workflow that is not configured but in the client's scope. If workflows of several providers have the
        name, that of the API's own provider is meant. Raises as `find`.
        """
        if name in self._workflows:
            return self.find(name, scope)
        found = self._aliases.find(api, name)
        if found:
            own = [w for w in found if w.provider.api == api or name in w.api_names.get(api, ())]
            return _select(own or found, scope, pin)
        for provider in self._providers.values():
            if provider.api == api and name not in {"", ".", ".."} and scope.may_run_direct(provider.name, name):
                return self._unconfigured_workflow(provider.name, name)
        raise WorkflowNotFound("No workflow has this name.")

    def workflow_number(self, workflow: Workflow) -> int | None:
        """Return the number of a configured workflow, the same in every replica; None if it is not configured."""
        return self._aliases.workflow_numbers.get(workflow.alias)

    def list_runnable(self, scope: RunScope) -> list[Workflow]:
        """List the configured workflows in the scope, sorted by alias."""
        return [self._workflows[alias] for alias in sorted(self._workflows) if scope.may_run(alias)]

    def api_of(self, provider: str) -> str:
        """Return the API of a provider; "" if it is no longer configured."""
        return self._providers[provider].api if provider in self._providers else ""

    def find_stored(self, name: str, provider: str) -> Workflow | None:
        """Find the workflow of a stored run: the requested one, or its fallback at `provider`."""
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
        """Return a stand-in for a workflow that is no longer configured, for polling its run."""
        return self._unconfigured_workflow(provider, "*") if provider in self._providers else None

    def _unconfigured_workflow(self, provider: str, native_name: str) -> Workflow:
        # Metrics and limits know these by the provider alone: clients choose the names, so their number is not bounded.
        found = self._providers[provider]
        return Workflow(alias=f"{provider}/*", provider=found, name=native_name, prices=found.prices)


def _select(found: Sequence[Workflow], scope: RunScope, pin: VersionPin) -> Workflow:
    """Select one of the workflows that share a name. Raises WorkflowForbidden, WorkflowNotFound."""
    permitted = [workflow for workflow in found if scope.may_run(workflow.alias)]
    if not permitted:
        raise WorkflowForbidden("This key may not run this workflow.")
    exact = [workflow for workflow in permitted if pin != NO_PIN and (workflow.label, workflow.version) == pin]
    chosen = exact or [workflow for workflow in permitted if not workflow.pinned] or permitted
    if len(chosen) > 1:
        raise WorkflowNotFound("Several workflows have this name: the configuration must give them aliases.")
    return chosen[0]
