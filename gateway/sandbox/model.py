"""The words for what the sandbox can run: PromptLayer's workflows with their nodes, Prompt Studio's deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from providers.contract import JsonValue

MAX_SECONDS = 60.0
"""Nothing takes longer than this, in seconds, whatever the input asks for."""


class NodeFailed(Exception):
    """A node's answer is a failure; the text is the provider's error message."""


class NodeSkipped(Exception):
    """The branch that a node stands on was not taken."""


@dataclass(frozen=True, slots=True)
class RunInput:
    """What a run was asked: its input, and the version of the workflow that answers."""

    input: Mapping[str, JsonValue]
    version: int = 1

    def get_text(self, name: str) -> str:
        """The input variable as text; "" where it is missing or something else."""
        value = self.input.get(name)
        return value if isinstance(value, str) else ""

    def get_number(self, name: str, *, default: float, maximum: float) -> float:
        """The input variable as a number between 0 and `most`; `default` where it is missing or something else."""
        value = self.input.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        return float(min(max(value, 0), maximum))


NodeFunction: TypeAlias = Callable[[RunInput], JsonValue]
"""Pure: the same question has the same answer. May raise `NodeFailed` or `NodeSkipped`."""

DurationFunction: TypeAlias = Callable[[RunInput], float]
"""How long a run takes."""


def no_delay(_: RunInput) -> float:
    """It takes no time."""
    return 0.0


def short_delay(_: RunInput) -> float:
    """As long as a short completion."""
    return 0.6


def requested_delay(run_input: RunInput) -> float:
    """The input's `seconds`, 2 where it names none, never more than `LONGEST`."""
    return run_input.get_number("seconds", default=2.0, maximum=MAX_SECONDS)


@dataclass(frozen=True, slots=True)
class InjectedFault:
    """What befalls a start: an answer that is none.

    `paid` says that the run is executed all the same, so that whoever sends the start again pays twice (and finds it in
    the counts). `every_other` strikes the first of equal starts, spares the second, and so on. `hangs` waits as long as
    the input's `seconds` say, or `LONGEST`, before it answers. `html` is sent in place of JSON.
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
    """One step of a workflow; each depends on the one before it."""

    name: str
    compute: NodeFunction
    is_output: bool = False
    node_type: str = "PROMPT_TEMPLATE"


@dataclass(frozen=True, slots=True)
class SandboxWorkflow:
    """A workflow at PromptLayer.

    `inputs` maps the required input variables to their types; None takes whatever comes. Versions are 1 to `versions`,
    `labels` maps release labels to them. `fault` befalls a start; the first `poll_errors` polls of a run answer 500.
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
        """The version with that label or number, the latest where neither is given; None where there is none."""
        if label is not None:
            return self.labels.get(label)
        version = self.versions if number is None else number
        return version if 1 <= version <= self.versions else None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A workflow (today: recipe) deployed at Prompt Studio; `answer` makes the whole result, an object."""

    id: str
    compute: NodeFunction
    inputs: Mapping[str, str] = field(default_factory=dict)
    duration: DurationFunction = no_delay
    fault: InjectedFault | None = None


@dataclass(frozen=True, slots=True)
class SandboxCatalog:
    """All that one sandbox can run. ValueError where two things share a name."""

    workflows: tuple[SandboxWorkflow, ...] = ()
    deployments: tuple[Deployment, ...] = ()

    def __post_init__(self) -> None:
        keys = [key for w in self.workflows for key in (w.name, str(w.id))]
        for names in (keys, [d.id for d in self.deployments]):
            if len(names) != len(set(names)):
                raise ValueError("two workflows share a name or an id")
