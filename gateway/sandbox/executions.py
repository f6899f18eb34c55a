"""PromptLayer's executions: what each node looks like at any moment, worked out when somebody asks.

Nothing runs in the background: an execution is a question, the time at which it began, and how long it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sandbox.workflows import Node, NodeFailed, NodeSkipped, Question, Workflow
from providers.contract import JsonValue

FIRST_ID = 98765
"""The id in the page's examples; they count up from there."""

_MOST = 10_000
_MOST_BYTES = 64 * 1024 * 1024
_UNFINISHED = {"QUEUED", "RUNNING"}


@dataclass(slots=True)
class Execution:
    """One run of a workflow. `started` is a reading of the monotonic clock, `size` the bytes of its request."""

    id: int
    workflow: Workflow
    question: Question
    started: float
    size: int
    polls: int = 0


Results = dict[str, dict[str, JsonValue]]
"""Node by node, with PromptLayer's five keys each."""


def results(execution: Execution, now: float) -> Results:
    """How every node stands at `now`; they run one after the other and share the time evenly."""
    nodes = execution.workflow.nodes
    elapsed = now - execution.started
    share = execution.workflow.seconds(execution.question) / len(nodes)
    found: Results = {}
    for position, node in enumerate(nodes):
        if elapsed >= share * (position + 1):
            found[node.name] = _finished(node, execution.question)
        else:
            status = "RUNNING" if elapsed >= share * position else "QUEUED"
            found[node.name] = _state(node, status)
    return found


def is_running(found: Results) -> bool:
    """Whether any node is not at its end."""
    return any(node["status"] in _UNFINISHED for node in found.values())


def main_output(found: Results) -> JsonValue:
    """What `return_all_outputs=false` shows: the first output node's value that there is, or else all the nodes."""
    for node in found.values():
        if node["is_output_node"] and node["status"] == "SUCCESS":
            return node["value"]
    return dict(found)


class Executions:
    """The last 10 000, and no more than 64 MiB of input; older ones are forgotten."""

    def __init__(self) -> None:
        self._kept: dict[str, Execution] = {}
        self._bytes = 0
        self._next = FIRST_ID

    def start(self, workflow: Workflow, question: Question, *, now: float, size: int) -> Execution:
        """Begin one."""
        execution = Execution(self._next, workflow, question, now, size)
        self._next += 1
        self._kept[str(execution.id)] = execution
        self._bytes += size
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            self._bytes -= self._kept.pop(next(iter(self._kept))).size
        return execution

    def get(self, execution_id: str) -> Execution | None:
        """The one whose id is written so, or None."""
        return self._kept.get(execution_id)


def _finished(node: Node, question: Question) -> dict[str, JsonValue]:
    try:
        return _state(node, "SUCCESS", value=node.answer(question))
    except NodeFailed as failed:
        return _state(node, "FAILED", error=str(failed))
    except NodeSkipped:
        return _state(node, "SKIPPED")


def _state(node: Node, status: str, *, value: JsonValue = None, error: str | None = None) -> dict[str, JsonValue]:
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": node.is_output,
    }
