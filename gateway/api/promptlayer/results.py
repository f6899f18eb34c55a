"""How a run ended, in the two forms that PromptLayer's API has: every node, or the first output node's bare value.

Sources: docs.promptlayer.com, "Get Workflow Version Execution Results", and what the official SDKs read: they know a
failed run by the nodes alone, so a run that did not succeed always shows them, with the reason in an output node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias, cast

from gateway import strictjson
from gateway.problems import PROBLEMS
from gateway.runs.durable import codec
from gateway.runs.model import RunSpec
from gateway.store.contract import StoredRun
from providers.contract import JsonValue

RunDocument: TypeAlias = Mapping[str, JsonValue]
"""A run that has ended, as `GET /runs/{id}` shows it with `return_all_outputs`."""

ResultFormat: TypeAlias = Callable[[RunDocument], JsonValue]
"""What makes a client's results of a run."""

PLACEHOLDER_NODE = "Output"
"""What the node is called where the provider has none: Prompt Studio's runs, and those that never got so far."""

_NUMBER, _ALL_OUTPUTS = "number", "all_outputs"  # keys of `RunSpec.client_context`
_NODE_STATUSES = MappingProxyType({"succeeded": "SUCCESS", "failed": "FAILED", "skipped": "SKIPPED"})
_OUTCOME_NOTES = MappingProxyType(
    {
        "failed": "",
        "not_run": " Nothing was run.",
        "unknown": " Whether the workflow ran is not known.",
    }
)


def all_nodes(run: RunDocument) -> JsonValue:
    """Each node's output, by its name; where there are no nodes, one that stands for the whole workflow."""
    outputs = cast("Mapping[str, RunDocument]", run.get("outputs") or {})
    nodes = {name: _render_node(node) for name, node in outputs.items()}
    if run["status"] == "succeeded":
        nodes = nodes or {PLACEHOLDER_NODE: _node_result("SUCCESS", value=run["output"])}
    elif not any(node["is_output_node"] for node in nodes.values()):
        nodes[PLACEHOLDER_NODE] = _node_result("FAILED", error=_failure_reason(run))
    return dict(nodes)


def main_output(run: RunDocument) -> JsonValue:
    """The value of the first output node that succeeded; every node where none did."""
    return run["output"] if run["status"] == "succeeded" else all_nodes(run)


RESULT_FORMATS: Mapping[bool, ResultFormat] = MappingProxyType({True: all_nodes, False: main_output})
"""By `return_all_outputs`."""


def client_context(execution_id: int, *, all_outputs: bool) -> dict[str, JsonValue]:
    """Return what this API keeps with a run: its number, and whether its client asked for the output of every node."""
    return {_NUMBER: execution_id, _ALL_OUTPUTS: all_outputs}


def execution_id_of_run(run: StoredRun) -> JsonValue:
    """Return the number of a stored run, or None if its specification cannot be read."""
    return codec.client_context(run).get(_NUMBER)


def wants_all_outputs(run: StoredRun) -> bool:
    """Return whether the client of a stored run asked for the output of every node."""
    return codec.client_context(run).get(_ALL_OUTPUTS) is True


def final_output(document: bytes, result_format: ResultFormat) -> JsonValue:
    """The results of a run that has ended, in one of the `FORMS`; `document` is what `GET /runs/{id}` shows."""
    return result_format(cast("RunDocument", strictjson.read_stored(document)))


def pending_results(status: str) -> dict[str, JsonValue]:
    """The results of a run that is "queued" or "running"."""
    return {PLACEHOLDER_NODE: _node_result(status.upper())}


def callback_payload(spec: RunSpec, document: bytes, _finished_at: datetime) -> bytes:
    """What is posted to `callback_url` when a run has ended, in the form that its client asked for."""
    context = spec.client_context
    output = final_output(document, RESULT_FORMATS[context.get(_ALL_OUTPUTS) is True])
    return strictjson.write({"workflow_version_execution_id": context.get(_NUMBER), "final_output": output})


def _render_node(node: RunDocument) -> dict[str, JsonValue]:
    status = _NODE_STATUSES[cast("str", node["status"])]
    shown = _node_result(status, value=node["value"], error=node["error"])
    return {**shown, "is_output_node": node["is_output"]}


def _node_result(status: str, *, value: JsonValue = None, error: JsonValue = None) -> dict[str, JsonValue]:
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": True,
    }


def _failure_reason(run: RunDocument) -> str:
    error = cast("dict[str, str | None]", run["error"])
    detail = error["detail"] or PROBLEMS[cast("str", error["code"])].title + "."
    return detail + _OUTCOME_NOTES[cast("str", run["status"])]
