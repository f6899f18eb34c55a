"""PromptLayer's run and results, as its pages have them (reference/run-workflow, workflow-version-execution-results).

Chosen where the pages are silent: label and version together are a 400; a run whose input variables are not the
required ones starts all the same, with a warning, and the words of that warning.
"""

from __future__ import annotations

from aiohttp import web

from gateway.clock import Clock
from gateway.sandbox.callbacks import CallBack, Callbacks
from gateway.sandbox.calls import UNKNOWN, ProviderCalls
from gateway.sandbox.executions import Executions, is_running, main_output, results
from gateway.sandbox.faults import Faults
from gateway.sandbox.promptlayer_wire import (
    ResultsQuery,
    RunWorkflow,
    bad_request,
    check_key,
    error,
    not_found,
    read_body,
    read_query,
)
from gateway.sandbox.wire import JSON, answer, read
from gateway.sandbox.workflows import Question, Workflow


class PromptLayer:
    """The two routes that a run needs. `workflows` are found by name and by id."""

    def __init__(
        self,
        clock: Clock,
        key: str,
        workflows: dict[str, Workflow],
        calls: ProviderCalls,
        *,
        call_back: CallBack | None = None,
    ) -> None:
        self._clock = clock
        self._key = key
        self._workflows = workflows
        self._calls = calls
        self._executions = Executions()
        self.callbacks = Callbacks(clock, call_back)
        self._faults = Faults(clock, error)

    def routes(self) -> list[web.RouteDef]:
        """The `/` in a name may be percent-encoded or not."""
        return [
            web.post("/workflows/{name:.+}/run", self._run),
            web.get("/workflow-version-execution-results", self._results),
        ]

    async def _run(self, request: web.Request) -> web.Response:
        workflow = self._workflows.get(request.match_info["name"])
        count = self._calls.workflows[workflow.name if workflow else UNKNOWN]
        count.starts += 1
        check_key(request, self._key)
        body = await read(request)
        asked = read_body(RunWorkflow, body)
        if workflow is None:
            raise not_found("Workflow")
        question = Question(asked.input_variables, _version(workflow, asked))
        fault = self._faults.due(workflow.fault, workflow.name, body)
        count.runs += fault is None or fault.paid
        if fault is not None:
            return await self._faults.answer(fault, question)
        execution = self._executions.start(workflow, question, now=self._clock.monotonic(), size=len(body))
        if asked.callback_url is not None:
            self.callbacks.promise(execution, str(asked.callback_url), all_outputs=asked.return_all_outputs)
        return _started(execution.id, asked, _warning(workflow, question))

    async def _results(self, request: web.Request) -> web.Response:
        execution = self._executions.get(request.query.get("workflow_version_execution_id", ""))
        self._calls.workflows[execution.workflow.name if execution else UNKNOWN].polls += 1
        check_key(request, self._key)
        query = read_query(ResultsQuery, request)
        if execution is None:
            raise not_found("Workflow version execution")
        execution.polls += 1
        if execution.polls <= execution.workflow.poll_errors:
            return web.Response(status=500, body=error("Internal server error."), content_type=JSON)
        found = results(execution, self._clock.monotonic())
        document = found if query.return_all_outputs else main_output(found)
        return answer(document, 202 if is_running(found) else 200)


def _version(workflow: Workflow, asked: RunWorkflow) -> int:
    label, number = asked.workflow_label_name, asked.workflow_version_number
    if label is not None and number is not None:
        raise bad_request("workflow_label_name and workflow_version_number are mutually exclusive")
    version = workflow.version_meant(label, number)
    if version is None:
        raise not_found("Workflow label" if label is not None else "Workflow version")
    return version


def _warning(workflow: Workflow, question: Question) -> str | None:
    if workflow.inputs is None:
        return None
    missing = [name for name in workflow.inputs if name not in question.input]
    unused = [name for name in question.input if name not in workflow.inputs]
    parts = (("Missing", missing), ("Unused", unused))
    return "; ".join(f"{what} input variables: {', '.join(names)}" for what, names in parts if names) or None


def _started(execution_id: int, asked: RunWorkflow, warning: str | None) -> web.Response:
    status, message = 201, "Workflow execution started"
    if asked.callback_url is not None:
        status, message = 202, "Workflow execution accepted"
    document = {
        "success": True,
        "message": message,
        "warning": warning,
        "workflow_version_execution_id": execution_id,
    }
    return answer(document, status)
