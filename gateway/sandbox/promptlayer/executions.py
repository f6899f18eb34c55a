"""PromptLayer executions. The state of each node is computed at the time of a request.

There are no background tasks: an execution is an input, a start time and a duration.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sandbox.model import Node, NodeFailed, NodeSkipped, RunInput, SandboxWorkflow
from providers.contract import JsonValue

FIRST_ID = 98765
"""The first id, as in the examples of the documentation; ids are consecutive."""

_MAX_EXECUTIONS = 10_000
_MAX_INPUT_BYTES = 64 * 1024 * 1024
_UNFINISHED = {"QUEUED", "RUNNING"}


@dataclass(slots=True)
class Execution:
    """One run of a workflow. `started` is a reading of the monotonic clock, `size` the bytes of its request."""

    id: int
    workflow: SandboxWorkflow
    run_input: RunInput
    started: float
    size: int
    polls: int = 0


Results = dict[str, dict[str, JsonValue]]
"""State by node name, with the five keys of PromptLayer."""


def node_results(execution: Execution, now: float) -> Results:
    """Return the state of all nodes at `now`; nodes run one after the other, with equal shares of the duration."""
    nodes = execution.workflow.nodes
    elapsed = now - execution.started
    share = execution.workflow.duration(execution.run_input) / len(nodes)
    outcomes: Results = {}
    for position, node in enumerate(nodes):
        if elapsed >= share * (position + 1):
            outcomes[node.name] = _finished_node(node, execution.run_input)
        else:
            status = "RUNNING" if elapsed >= share * position else "QUEUED"
            outcomes[node.name] = _node_state(node, status)
    return outcomes


def is_running(outcomes: Results) -> bool:
    """Return True if a node has not ended."""
    return any(node["status"] in _UNFINISHED for node in outcomes.values())


def main_output(outcomes: Results) -> JsonValue:
    """Return the result for `return_all_outputs=false`: the value of the first successful output node, or all nodes."""
    for node in outcomes.values():
        if node["is_output_node"] and node["status"] == "SUCCESS":
            return node["value"]
    return dict(outcomes)


class Executions:
    """The last 10 000 executions, with at most 64 MiB of input; older ones are deleted."""

    def __init__(self) -> None:
        self._executions: dict[str, Execution] = {}
        self._bytes = 0
        self._next = FIRST_ID

    def start(self, workflow: SandboxWorkflow, run_input: RunInput, *, now: float, size: int) -> Execution:
        """Start an execution."""
        execution = Execution(self._next, workflow, run_input, now, size)
        self._next += 1
        self._executions[str(execution.id)] = execution
        self._bytes += size
        while len(self._executions) > _MAX_EXECUTIONS or self._bytes > _MAX_INPUT_BYTES:
            self._bytes -= self._executions.pop(next(iter(self._executions))).size
        return execution

    def get(self, execution_id: str) -> Execution | None:
        """Return the execution with this id, or None."""
        return self._executions.get(execution_id)


def _finished_node(node: Node, run_input: RunInput) -> dict[str, JsonValue]:
    try:
        return _node_state(node, "SUCCESS", value=node.compute(run_input))
    except NodeFailed as failed:
        return _node_state(node, "FAILED", error=str(failed))
    except NodeSkipped:
        return _node_state(node, "SKIPPED")


def _node_state(node: Node, status: str, *, value: JsonValue = None, error: str | None = None) -> dict[str, JsonValue]:
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": node.is_output,
    }
