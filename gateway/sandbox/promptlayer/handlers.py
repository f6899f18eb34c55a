"""Emulator of PromptLayer: run and results (reference/run-workflow, workflow-version-execution-results).

Assumptions where the documentation has no answer: label and version together are a 400; a run with missing or unknown
input variables starts with a warning; the text of that warning.
"""

from __future__ import annotations

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.call_counts import UNKNOWN_WORKFLOW, ProviderCallCounts
from gateway.sandbox.faults import FaultInjector
from gateway.sandbox.http_json import JSON, json_response, read_request_body
from gateway.sandbox.model import RunInput, SandboxWorkflow
from gateway.sandbox.promptlayer.callbacks import PostCallback, SandboxCallbacks
from gateway.sandbox.promptlayer.executions import Executions, is_running, main_output, node_results
from gateway.sandbox.promptlayer.validation import (
    ResultsQuery,
    RunWorkflow,
    bad_request,
    check_key,
    error_body,
    not_found,
    read_body,
    read_query,
)


class PromptLayerEmulator:
    """Handlers of run and results. `workflows` by name and by id."""

    def __init__(
        self,
        clock: Clock,
        key: str,
        workflows: dict[str, SandboxWorkflow],
        calls: ProviderCallCounts,
        *,
        post_callback: PostCallback | None = None,
    ) -> None:
        self._clock = clock
        self._key = key
        self._workflows = workflows
        self._calls = calls
        self._executions = Executions()
        self.callbacks = SandboxCallbacks(clock, post_callback)
        self._faults = FaultInjector(clock, error_body)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes. A `/` in a name may be percent-encoded."""
        return [
            web.post("/workflows/{name:.+}/run", self._run),
            web.get("/workflow-version-execution-results", self._results),
        ]

    async def _run(self, request: web.Request) -> web.Response:
        workflow = self._workflows.get(request.match_info["name"])
        count = self._calls.workflows[workflow.name if workflow else UNKNOWN_WORKFLOW]
        count.starts += 1
        check_key(request, self._key)
        body = await read_request_body(request)
        parsed = read_body(RunWorkflow, body)
        if workflow is None:
            raise not_found("Workflow")
        run_input = RunInput(parsed.input_variables, _requested_version(workflow, parsed))
        fault = self._faults.select(workflow.fault, workflow.name, body)
        count.runs += fault is None or fault.paid
        if fault is not None:
            return await self._faults.respond(fault, run_input)
        execution = self._executions.start(workflow, run_input, now=self._clock.monotonic(), size=len(body))
        if parsed.callback_url is not None:
            self.callbacks.schedule(execution, str(parsed.callback_url), all_outputs=parsed.return_all_outputs)
        return _start_response(execution.id, parsed, _input_warning(workflow, run_input))

    async def _results(self, request: web.Request) -> web.Response:
        execution = self._executions.get(request.query.get("workflow_version_execution_id", ""))
        self._calls.workflows[execution.workflow.name if execution else UNKNOWN_WORKFLOW].polls += 1
        check_key(request, self._key)
        query = read_query(ResultsQuery, request)
        if execution is None:
            raise not_found("Workflow version execution")
        execution.polls += 1
        if execution.polls <= execution.workflow.poll_errors:
            return web.Response(status=500, body=error_body("Internal server error."), content_type=JSON)
        outcomes = node_results(execution, self._clock.monotonic())
        document = outcomes if query.return_all_outputs else main_output(outcomes)
        return json_response(document, 202 if is_running(outcomes) else 200)


def _requested_version(workflow: SandboxWorkflow, parsed: RunWorkflow) -> int:
    label, number = parsed.workflow_label_name, parsed.workflow_version_number
    if label is not None and number is not None:
        raise bad_request("workflow_label_name and workflow_version_number are mutually exclusive")
    version = workflow.resolve_version(label, number)
    if version is None:
        raise not_found("Workflow label" if label is not None else "Workflow version")
    return version


def _input_warning(workflow: SandboxWorkflow, run_input: RunInput) -> str | None:
    if workflow.inputs is None:
        return None
    missing = [name for name in workflow.inputs if name not in run_input.input]
    unused = [name for name in run_input.input if name not in workflow.inputs]
    parts = (("Missing", missing), ("Unused", unused))
    return "; ".join(f"{what} input variables: {', '.join(names)}" for what, names in parts if names) or None


def _start_response(execution_id: int, parsed: RunWorkflow, warning: str | None) -> web.Response:
    status, message = 201, "Workflow execution started"
    if parsed.callback_url is not None:
        status, message = 202, "Workflow execution accepted"
    document = {
        "success": True,
        "message": message,
        "warning": warning,
        "workflow_version_execution_id": execution_id,
    }
    return json_response(document, status)
