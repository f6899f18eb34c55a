"""The workflows that can be run, by the names that clients use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.problems import Problem
from providers.contract import Adapter, Call, Reply


class Upstream(Protocol):
    """The door to one provider."""

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """Make one call before `deadline` (monotonic); ProviderFault where no whole answer came."""

    async def close(self) -> None:
        """Close every connection."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: its adapter says what to call, its upstream calls it."""

    name: str
    adapter: Adapter
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as configured. Times in seconds.

    `alias` is what clients, limits and metrics call it, `name` what the provider does. `fallbacks` are tried in order.
    """

    alias: str
    provider: Provider
    name: str
    label: str | None = None
    version: int | None = None
    timeout: float = 60.0
    max_timeout: float = 60.0
    repeatable: bool = False
    fallbacks: tuple[Workflow, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether the configuration already chose a label or version."""
        return self.label is not None or self.version is not None


class Scope(Protocol):
    """What a client may run."""

    def may_run(self, alias: str) -> bool:
        """Whether this alias is in its scope."""

    def may_run_direct(self, provider: str, name: str) -> bool:
        """Whether this provider's own name is in its scope."""


class Catalog:
    """Finds a workflow for a client."""

    def __init__(self, workflows: Mapping[str, Workflow], providers: Mapping[str, Provider]) -> None:
        self._workflows = workflows
        self._providers = providers

    def find(self, name: str, scope: Scope) -> Workflow:
        """Look up an alias, or `provider/name`.

        Raises Problem: forbidden where the client's scope does not have it, workflow_not_found where nobody has.
        """
        workflow = self._workflows.get(name)
        if workflow is not None:
            if not scope.may_run(name):
                raise Problem("forbidden", "This key may not run this workflow.")
            return workflow
        provider, slash, own_name = name.partition("/")
        if not slash or provider not in self._providers or own_name in {"", ".", ".."}:
            raise Problem("workflow_not_found", "No workflow has this name.")
        if not scope.may_run_direct(provider, own_name):
            raise Problem("forbidden", "This key may not run this workflow.")
        return self._direct(provider, own_name)

    def known(self, name: str, provider: str) -> Workflow | None:
        """Find what a kept run was about: its workflow, or the fallback of it that `provider` runs."""
        workflow = self._workflows.get(name)
        if workflow is not None:
            chain = (workflow, *workflow.fallbacks)
            return next((w for w in chain if w.provider.name == provider), None)
        asked, slash, own_name = name.partition("/")
        return self._direct(asked, own_name) if slash and asked == provider and asked in self._providers else None

    def _direct(self, provider: str, own_name: str) -> Workflow:
        # Metrics and limits know these by the provider alone: their names come from clients, and are not bounded.
        return Workflow(alias=f"{provider}/*", provider=self._providers[provider], name=own_name)
