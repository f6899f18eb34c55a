"""The words for what the sandbox can run: PromptLayer's workflows with their nodes, Prompt Studio's deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from providers.contract import JsonValue

LONGEST = 60.0
"""Nothing takes longer than this, in seconds, whatever the input asks for."""


class NodeFailed(Exception):
    """A node's answer is a failure; the text is the provider's error message."""


class NodeSkipped(Exception):
    """The branch that a node stands on was not taken."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a run was asked: its input, and the version of the workflow that answers."""

    input: Mapping[str, JsonValue]
    version: int = 1

    def text(self, name: str) -> str:
        """The input variable as text; "" where it is missing or something else."""
        value = self.input.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str, *, default: float, most: float) -> float:
        """The input variable as a number between 0 and `most`; `default` where it is missing or something else."""
        value = self.input.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return default
        return float(min(max(value, 0), most))


Answer: TypeAlias = Callable[[Question], JsonValue]
"""Pure: the same question has the same answer. May raise `NodeFailed` or `NodeSkipped`."""

Seconds: TypeAlias = Callable[[Question], float]
"""How long a run takes."""


def at_once(_: Question) -> float:
    """It takes no time."""
    return 0.0


def a_moment(_: Question) -> float:
    """As long as a short completion."""
    return 0.6


def as_asked(question: Question) -> float:
    """The input's `seconds`, 2 where it names none, never more than `LONGEST`."""
    return question.number("seconds", default=2.0, most=LONGEST)


@dataclass(frozen=True, slots=True)
class Fault:
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
    answer: Answer
    is_output: bool = False
    kind: str = "PROMPT_TEMPLATE"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow at PromptLayer.

    `inputs` maps the required input variables to their types; None takes whatever comes. Versions are 1 to `versions`,
    `labels` maps release labels to them. `fault` befalls a start; the first `poll_errors` polls of a run answer 500.
    """

    id: int
    name: str
    nodes: tuple[Node, ...]
    inputs: Mapping[str, str] | None = None
    seconds: Seconds = at_once
    versions: int = 1
    labels: Mapping[str, int] = field(default_factory=dict)
    fault: Fault | None = None
    poll_errors: int = 0

    def version_meant(self, label: str | None, number: int | None) -> int | None:
        """The version with that label or number, the latest where neither is given; None where there is none."""
        if label is not None:
            return self.labels.get(label)
        meant = self.versions if number is None else number
        return meant if 1 <= meant <= self.versions else None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A workflow (today: recipe) deployed at Prompt Studio; `answer` makes the whole result, an object."""

    id: str
    answer: Answer
    inputs: Mapping[str, str] = field(default_factory=dict)
    seconds: Seconds = at_once
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that one sandbox can run. ValueError where two things share a name."""

    workflows: tuple[Workflow, ...] = ()
    deployments: tuple[Deployment, ...] = ()

    def __post_init__(self) -> None:
        keys = [key for w in self.workflows for key in (w.name, str(w.id))]
        for names in (keys, [d.id for d in self.deployments]):
            if len(names) != len(set(names)):
                raise ValueError("two workflows share a name or an id")
