"""PromptLayer: start a run, then poll its results until every node has ended.

Sources: docs.promptlayer.com, "Run Workflow" and "Get Workflow Version Execution Results", and recorded responses of
the official SDK's tests.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from providers.contract import (
    Call,
    JsonValue,
    KeyHeader,
    NodeOutput,
    NodeStatus,
    Outcome,
    Pause,
    ProviderFault,
    RawError,
    Reply,
    Run,
    Steps,
    Unreadable,
    ask,
    bounded,
    clean,
    invalid,
    node_statuses,
    refusal,
    segment,
)
from providers.promptlayer_passthrough_rules import SDK_CALLS

_RESULTS = "/workflow-version-execution-results?workflow_version_execution_id={}&return_all_outputs={}"
_SETTLED_POLLS = 5  # equal results without an output node after which the run counts as ended without one
_UNFINISHED = {"QUEUED", "RUNNING"}
# The results page says FAILED, the callback page FAILURE: both mean the same.
_STATUSES: Mapping[object, Literal["succeeded", "failed", "skipped"]] = {
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "FAILURE": "failed",
    "SKIPPED": "skipped",
}
_PROGRESS: Mapping[object, NodeStatus] = {"QUEUED": "queued", "RUNNING": "running", **_STATUSES}


class PromptLayer:
    """Adapter of PromptLayer; it has no dialects."""

    key_header: KeyHeader = KeyHeader("X-API-KEY")
    base_url = "https://api.promptlayer.com"
    supports_versions = True
    supports_nodes = True
    key_check: Call | None = Call("GET", "/workflows?per_page=1", "key_check", safe=True)
    starts: tuple[str, ...] = ("* /workflows/*/run",)
    sdk_calls: tuple[str, ...] = tuple(SDK_CALLS)
    dialects: tuple[str, ...] = ()

    def __init__(self, dialect: str | None = None) -> None:
        if dialect is not None:
            raise ValueError("PromptLayer has no dialects")

    def steps(self, run: Run) -> Steps:
        """Start the run, wait, follow it."""
        path = f"/workflows/{segment(run.workflow)}/run"
        started = yield from ask(Call("POST", path, "start", safe=False, json=_request(run)), _read_start)
        yield Pause(started.execution_id, will_notify=run.notify_url is not None and started.will_notify)
        outcome = yield from self.follow(started.execution_id)
        warnings = [warning for warning in (started.warning, outcome.warning) if warning]
        return replace(outcome, warning=" ".join(warnings) or None)

    def follow(self, provider_run_id: str) -> Steps:
        """Poll until the run has ended.

        Always with `return_all_outputs=true`: the other form is a bare value, in which a failed run cannot be told from
        a successful one. Results without an output node count as the end once they stay the same: PromptLayer answers
        200 before its nodes are complete.
        """
        path = _RESULTS.format(segment(provider_run_id), "true")
        call = Call("GET", path, "poll", safe=True)
        statuses: dict[str, NodeStatus] | None = None
        polls = 0
        while True:
            results = yield from ask(call, _read_results)
            if isinstance(results, _Results):
                previous, statuses = statuses, {name: node.status for name, node in results.nodes.items()}
                polls = polls + 1 if statuses == previous else 1
                if polls >= _SETTLED_POLLS or any(node.is_output for node in results.nodes.values()):
                    break
                results = node_statuses(statuses.items())
            yield Pause(provider_run_id, nodes=results)
        outcome = _outcome(results)
        if sum(_is_successful_output(node) for node in results.nodes.values()) > 1:
            outcome = yield from _choose_output(provider_run_id, outcome)
        return replace(outcome, provider_run_id=provider_run_id)


def _choose_output(provider_run_id: str, outcome: Outcome) -> Steps:
    """Ask PromptLayer which of several successful outputs is the run's; keep the first where it does not say."""
    reply = yield Call("GET", _RESULTS.format(segment(provider_run_id), "false"), "poll", safe=True, optional=True)
    if reply.status != 200 or isinstance(reply.body, Unreadable):
        return replace(outcome, warning="several output nodes succeeded; the output is that of the first one listed")
    return replace(outcome, output=reply.body)


@dataclass(frozen=True, slots=True)
class _Started:
    execution_id: str
    will_notify: bool
    warning: str | None


def _request(run: Run) -> JsonValue:
    body: dict[str, JsonValue] = {
        "input_variables": dict(run.input),
        "metadata": dict(run.metadata),
        "return_all_outputs": run.return_all_outputs,
    }
    if run.label is not None:
        body["workflow_label_name"] = run.label
    if run.version is not None:
        body["workflow_version_number"] = run.version
    if run.notify_url is not None:
        body["callback_url"] = run.notify_url
    return body


def _read_start(reply: Reply) -> _Started:
    if reply.status not in {200, 201, 202}:
        raise _refusal(reply)
    body = reply.body
    if not isinstance(body, dict) or body.get("success") is not True:
        raise invalid("the start was answered without success: true")
    execution = body.get("workflow_version_execution_id")
    if not isinstance(execution, int) or isinstance(execution, bool) or not 0 <= execution < 2**63:
        raise invalid("the start was answered without an integer workflow_version_execution_id")
    warning = body.get("warning")
    warning = clean(warning, limit=1000) if isinstance(warning, str) else None
    return _Started(str(execution), reply.status == 202, warning)  # 201: started, without a callback


@dataclass(frozen=True, slots=True)
class _Results:
    nodes: Mapping[str, NodeOutput]
    raw_errors: Mapping[str, RawError]


def _read_results(reply: Reply) -> _Results | Mapping[str, NodeStatus]:
    """Return the results of a run that has ended; while it continues, the statuses of its nodes that are known.

    It continues at 202, and at 204 of an earlier proposal.
    """
    if reply.status in {202, 204}:
        return _progress(reply.body)
    if reply.status != 200:
        raise _refusal(reply)
    if not isinstance(reply.body, dict):
        raise invalid("the results are not an object of nodes")
    nodes = [(name, _fields(node)) for name, node in reply.body.items()]
    if any(node.get("status") in _UNFINISHED for _, node in nodes):
        return _progress(reply.body)  # changelog: status codes can be ahead of the nodes, so the nodes decide
    return _Results(
        {name: _node(node) for name, node in nodes},
        {name: _raw_error(node) for name, node in nodes if _has_error(node)},
    )


def _progress(body: JsonValue | Unreadable) -> dict[str, NodeStatus]:
    """Return the statuses of the nodes of a run in progress; without those, or the body, that cannot be read."""
    return node_statuses((name, _status(node)) for name, node in body.items()) if isinstance(body, dict) else {}


def _status(node: JsonValue) -> NodeStatus | None:
    status = node.get("status") if isinstance(node, dict) else None
    return _PROGRESS.get(status) if isinstance(status, str) else None


def _fields(node: JsonValue) -> dict[str, JsonValue]:
    if not isinstance(node, dict) or not isinstance(node.get("status"), str):
        raise invalid("a node has no status")
    if "value" not in node and node["status"] == "SUCCESS" and node.get("is_output_node") is True:
        raise invalid("a successful output node has no value")
    return node


def _node(node: dict[str, JsonValue]) -> NodeOutput:
    status = _STATUSES.get(node["status"])
    if status is None:
        raise invalid("a node has an unknown status")
    error = node.get("error_message")
    return NodeOutput(
        status=status,
        value=node.get("value"),
        error=clean(error) if isinstance(error, str) else None,
        is_output=node.get("is_output_node") is True,
    )


def _has_error(node: dict[str, JsonValue]) -> bool:
    return node.get("error_message") is not None or node.get("raw_error_message") is not None


def _raw_error(node: dict[str, JsonValue]) -> RawError:
    message = node.get("error_message")
    return RawError(bounded(message) if isinstance(message, str) else None, _bounded(node.get("raw_error_message")))


def _bounded(details: JsonValue) -> JsonValue:
    """Return `details`; where they are larger than the maximum, the beginning of their text."""
    if isinstance(details, str):
        return bounded(details)
    try:
        text = json.dumps(details, ensure_ascii=False)
    except RecursionError:
        return None
    shortened = bounded(text)
    return details if len(shortened) == len(text) else shortened


def _outcome(results: _Results) -> Outcome:
    """Return the outcome: the first successful output node listed; without one the run failed."""
    nodes, raw_errors = results.nodes, results.raw_errors or None
    for node in nodes.values():
        if _is_successful_output(node):
            return Outcome(succeeded=True, output=node.value, outputs=nodes, raw_errors=raw_errors)
    failed = [(name, node) for name, node in nodes.items() if node.status == "failed"]
    error = "no output node succeeded"
    if failed:
        name, node = failed[0]
        error = clean(f"node {name!r}: {node.error or 'failed'}")
    return Outcome(succeeded=False, outputs=nodes, error=error, raw_errors=raw_errors)


def _is_successful_output(node: NodeOutput) -> bool:
    return node.is_output and node.status == "succeeded"


def _refusal(reply: Reply) -> ProviderFault:
    return refusal(reply, _message(reply.body))


def _message(body: object) -> str:
    """Return the text of an error body: `message`, `error` or `detail` (a text, or FastAPI's list), or ""."""
    if not isinstance(body, dict):
        return ""
    detail = body.get("detail")
    if isinstance(detail, list):
        return "; ".join(_violation(item) for item in detail[:5])
    texts = (body.get("message"), body.get("error"), detail)
    return next((text for text in texts if isinstance(text, str) and text), "")


def _violation(item: object) -> str:
    if not isinstance(item, dict):
        return "not acceptable"
    place = item.get("loc")
    steps = [str(step) for step in place[:10]] if isinstance(place, list) else []
    return f"{'.'.join(steps)}: {item.get('msg', 'not acceptable')}"
