"""Results of a run in the two formats of PromptLayer's API: every node, or the value of the first output node.

Sources: docs.promptlayer.com, "Get Workflow Version Execution Results", and the official SDKs: they recognize a failed
run by its nodes alone. So a run that did not succeed always has nodes, with the reason in an output node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias, cast

from gateway.api.promptlayer.errors import with_outcome
from gateway.errors import as_sentence
from gateway.json import strict_json
from gateway.problems import PROBLEMS
from gateway.runs.durable import codec
from gateway.runs.model import RunSpec
from gateway.store.records import StoredRun
from providers.contract import JsonValue

RunDocument: TypeAlias = Mapping[str, JsonValue]
"""A finished run as `GET /runs/{id}` returns it with `return_all_outputs`."""

ResultFormat: TypeAlias = Callable[[RunDocument], JsonValue]
"""Function that formats the results of a finished run."""

PLACEHOLDER_NODE = "Output"
"""Name of the only node if the provider reports none, as Prompt Studio, or if the run did not start."""

_NUMBER, _ALL_OUTPUTS = "number", "all_outputs"  # keys of `RunSpec.client_context`
_NODE_STATUSES = MappingProxyType({"succeeded": "SUCCESS", "failed": "FAILED", "skipped": "SKIPPED"})
_STARTED_NOTE = " The workflow was started; its result is not known."


def all_nodes(run: RunDocument) -> JsonValue:
    """Output of each node by name. Without nodes, one placeholder node for the whole workflow."""
    outputs = cast("Mapping[str, RunDocument]", run.get("outputs") or {})
    raw_errors = cast("Mapping[str, RunDocument]", run.get("raw_errors") or {})
    nodes = {name: _render_node(node, raw_errors.get(name)) for name, node in outputs.items()}
    if run["status"] == "succeeded":
        nodes = nodes or {PLACEHOLDER_NODE: _node_result("SUCCESS", value=run["output"])}
    elif not any(node["is_output_node"] for node in nodes.values()):
        nodes[PLACEHOLDER_NODE] = _node_result("FAILED", error=_failure_reason(run))
    return dict(nodes)


def main_output(run: RunDocument) -> JsonValue:
    """Value of the first output node that succeeded; every node if the run did not succeed."""
    return run["output"] if run["status"] == "succeeded" else all_nodes(run)


RESULT_FORMATS: Mapping[bool, ResultFormat] = MappingProxyType({True: all_nodes, False: main_output})
"""Format by `return_all_outputs`."""


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
    """Results of a finished run in one of RESULT_FORMATS. `document`: the run as `GET /runs/{id}` returns it."""
    return result_format(cast("RunDocument", strict_json.read_stored(document)))


def pending_results(status: str) -> dict[str, JsonValue]:
    """Results of an unfinished run: queued, running, or `unknown` if its deadline has passed and it is polled on."""
    return {PLACEHOLDER_NODE: _node_result("QUEUED" if status == "queued" else "RUNNING")}


def callback_payload(spec: RunSpec, document: bytes, _finished_at: datetime) -> bytes:
    """Body of the callback of a finished run, in the format that its client requested."""
    context = spec.client_context
    output = final_output(document, RESULT_FORMATS[context.get(_ALL_OUTPUTS) is True])
    return strict_json.write({"workflow_version_execution_id": context.get(_NUMBER), "final_output": output})


def _render_node(node: RunDocument, raw_error: RunDocument | None) -> dict[str, JsonValue]:
    """Render a node; its error is as the provider sent it, or as cleaned where the run was stored without."""
    status = _NODE_STATUSES[cast("str", node["status"])]
    shown = _node_result(status, value=node["value"], error=node["error"])
    if raw_error is not None:
        shown |= {"error_message": raw_error["message"], "raw_error_message": raw_error["details"]}
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
    detail = error["detail"] or PROBLEMS[cast("str", error["code"])].title
    if run["status"] == "unknown" and run.get("provider_run_id") is not None:
        return as_sentence(detail) + _STARTED_NOTE
    return with_outcome(detail, cast("str", run["status"]))
