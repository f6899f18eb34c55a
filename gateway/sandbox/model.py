"""Model of the sandbox: PromptLayer workflows with nodes, and Prompt Studio deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from providers.contract import JsonValue

MAX_SECONDS = 60.0
"""Upper limit of every duration, in seconds."""


class NodeFailed(Exception):
    """The node failed; the text is the error message of the provider."""


class NodeSkipped(Exception):
    """The node was skipped, as its branch was not taken."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """Input of a run, and the version of its workflow."""

    input: Mapping[str, JsonValue]
    version: int = 1

    def get_text(self, name: str) -> str:
        """Return an input variable; "" if it is missing or no text."""
        value = self.input.get(name)
        return value if isinstance(value, str) else ""

    def get_number(self, name: str, *, default: float, maximum: float) -> float:
        """Return an input variable, limited to 0 and `maximum`; `default` if it is missing or no number."""
        value = self.input.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        return float(min(max(value, 0), maximum))


NodeFunction: TypeAlias = Callable[[RunInput], JsonValue]
"""Pure function. May raise `NodeFailed` or `NodeSkipped`."""

DurationFunction: TypeAlias = Callable[[RunInput], float]
"""Duration of a run, in seconds."""


def no_delay(_: RunInput) -> float:
    """Return 0."""
    return 0.0


def short_delay(_: RunInput) -> float:
    """Return the duration of a short completion."""
    return 0.6


def requested_delay(run_input: RunInput) -> float:
    """Return the input variable `seconds`, 2 by default, at most `MAX_SECONDS`."""
    return run_input.get_number("seconds", default=2.0, maximum=MAX_SECONDS)


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """Injected fault of a start.

    `paid`: the run is executed all the same, so that a repeated start is paid twice (and counted). `every_other`: only
    the first of two equal starts has the fault. `hangs`: the response is delayed by the input variable `seconds`, or
    `MAX_SECONDS`. `html`: body in place of JSON.
    """

    status: int
    message: str = ""
    retry_after: str | None = None
    paid: bool = True
    every_other: bool = False
    hangs: bool = False
    html: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow, which depends on the node before it."""

    name: str
    compute: NodeFunction
    is_output: bool = False
    node_type: str = "PROMPT_TEMPLATE"


@dataclass(frozen=True, slots=True)
class SandboxWorkflow:
    """A PromptLayer workflow.

    `inputs` maps the required input variables to their types; None allows any. Versions are 1 to `versions`; `labels`
    maps release labels to versions. `fault` is injected into starts; the first `poll_errors` polls of a run answer 500.
    """

    id: int
    name: str
    nodes: tuple[Node, ...]
    inputs: Mapping[str, str] | None = None
    duration: DurationFunction = no_delay
    versions: int = 1
    labels: Mapping[str, int] = field(default_factory=dict)
    fault: InjectedFault | None = None
    poll_errors: int = 0

    def resolve_version(self, label: str | None, number: int | None) -> int | None:
        """Return the version with this label or number, the latest by default; None if it does not exist."""
        if label is not None:
            return self.labels.get(label)
        version = self.versions if number is None else number
        return version if 1 <= version <= self.versions else None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A workflow (now: recipe) deployed at Prompt Studio; `compute` returns the result, an object."""

    id: str
    compute: NodeFunction
    inputs: Mapping[str, str] = field(default_factory=dict)
    duration: DurationFunction = no_delay
    fault: InjectedFault | None = None


@dataclass(frozen=True, slots=True)
class SandboxCatalog:
    """Workflows and deployments of a sandbox. Raises ValueError for a duplicate name or id."""

    workflows: tuple[SandboxWorkflow, ...] = ()
    deployments: tuple[Deployment, ...] = ()

    def __post_init__(self) -> None:
        keys = [key for w in self.workflows for key in (w.name, str(w.id))]
        for names in (keys, [d.id for d in self.deployments]):
            if len(names) != len(set(names)):
                raise ValueError("two workflows share a name or an id")
