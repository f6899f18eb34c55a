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
from gateway.runs.record import Order
from providers.contract import JsonValue

Document: TypeAlias = Mapping[str, JsonValue]
"""A run that has ended, as `GET /runs/{id}` shows it with `return_all_outputs`."""

Form: TypeAlias = Callable[[Document], JsonValue]
"""What makes a client's results of a run."""

ONLY_NODE = "Output"
"""What the node is called where the provider has none: Prompt Studio's runs, and those that never got so far."""

_STATUSES = MappingProxyType({"succeeded": "SUCCESS", "failed": "FAILED", "skipped": "SKIPPED"})
_KNOWN = MappingProxyType(
    {
        "failed": "",
        "not_run": " Nothing was run.",
        "unknown": " Whether the workflow ran is not known.",
    }
)


def every_node(run: Document) -> JsonValue:
    """Each node's output, by its name; where there are no nodes, one that stands for the whole workflow."""
    outputs = cast("Mapping[str, Document]", run.get("outputs") or {})
    nodes = {name: _node(node) for name, node in outputs.items()}
    if run["status"] == "succeeded":
        nodes = nodes or {ONLY_NODE: _shown("SUCCESS", value=run["output"])}
    elif not any(node["is_output_node"] for node in nodes.values()):
        nodes[ONLY_NODE] = _shown("FAILED", error=_why(run))
    return dict(nodes)


def main_output(run: Document) -> JsonValue:
    """The value of the first output node that succeeded; every node where none did."""
    return run["output"] if run["status"] == "succeeded" else every_node(run)


FORMS: Mapping[bool, Form] = MappingProxyType({True: every_node, False: main_output})
"""By `return_all_outputs`."""


def final_output(document: bytes, form: Form) -> JsonValue:
    """The results of a run that has ended, in one of the `FORMS`; `document` is what `GET /runs/{id}` shows."""
    return form(cast("Document", strictjson.read_back(document)))


def going_on(status: str) -> dict[str, JsonValue]:
    """The results of a run that is "queued" or "running"."""
    return {ONLY_NODE: _shown(status.upper())}


def payload(order: Order, document: bytes, _finished_at: datetime) -> bytes:
    """What is posted to `callback_url` when a run has ended, in the form that its client asked for."""
    output = final_output(document, FORMS[order.all_outputs])
    return strictjson.write({"workflow_version_execution_id": order.number, "final_output": output})


def _node(node: Document) -> dict[str, JsonValue]:
    status = _STATUSES[cast("str", node["status"])]
    shown = _shown(status, value=node["value"], error=node["error"])
    return {**shown, "is_output_node": node["is_output"]}


def _shown(status: str, *, value: JsonValue = None, error: JsonValue = None) -> dict[str, JsonValue]:
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": True,
    }


def _why(run: Document) -> str:
    error = cast("dict[str, str | None]", run["error"])
    detail = error["detail"] or PROBLEMS[cast("str", error["code"])].title + "."
    return detail + _KNOWN[cast("str", run["status"])]
