"""Aliases: index of the names and numbers of workflows in the providers' own APIs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeAlias, TypeVar

VersionPin: TypeAlias = tuple[str | None, int | str | None]
"""A label, or a version, or neither."""
NO_PIN: VersionPin = (None, None)
_APIS = ("promptlayer", "prompt_studio")


class NamedWorkflow(Protocol):
    """A workflow as far as the index reads it."""

    @property
    def alias(self) -> str:
        """Name for clients of the gateway's own API."""

    @property
    def name(self) -> str:
        """Name at the provider."""

    @property
    def api_names(self) -> Mapping[str, tuple[str, ...]]:
        """Configured names, by API."""


WorkflowT = TypeVar("WorkflowT", bound=NamedWorkflow)


class ApiNameIndex(Generic[WorkflowT]):
    """Index of workflows by their names in the providers' own APIs; several workflows may share a name.

    `workflow_numbers`: numbers by alias, since PromptLayer's API also identifies workflows by number.
    """

    def __init__(self, workflows: Iterable[WorkflowT]) -> None:
        self._by_api: dict[str, dict[str, list[WorkflowT]]] = {api: {} for api in _APIS}
        self.workflow_numbers: dict[str, int] = {}
        ordered = sorted(workflows, key=lambda workflow: workflow.alias)
        for workflow in ordered:
            for api, by_name in self._by_api.items():
                for name in workflow.api_names.get(api, (workflow.name,)):
                    by_name.setdefault(name, []).append(workflow)
        for workflow in ordered:
            self._assign_number(workflow)

    def _assign_number(self, workflow: WorkflowT) -> None:
        number = int.from_bytes(hashlib.sha256(workflow.alias.encode()).digest()[:4]) >> 1
        while number in self.workflow_numbers.values() or not number:
            number += 1
        self.workflow_numbers[workflow.alias] = number
        self._by_api["promptlayer"].setdefault(str(number), [workflow])

    def find(self, api: str, name: str) -> Sequence[WorkflowT]:
        """Return the workflows with this name in `api`, in the order of their aliases."""
        return self._by_api[api].get(name, ())
