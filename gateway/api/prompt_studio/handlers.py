"""Handlers of Prompt Studio's own API: synchronous runs of a workflow of any provider.

Sources: docs.prompt.studio, "Run a workflow", and for `instructions` and `deployments` the later recipes/deploy page,
the ps-sdk and the node for n8n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict

from gateway.api.prompt_studio import responses
from gateway.clock import Clock
from gateway.errors import HeaderFields, IdempotencyInFlight, WorkflowForbidden, WorkflowNotFound
from gateway.http.body import hold_replay, parse_json_body, read_json_body
from gateway.http.request import Handler, Request, Route
from gateway.http.response import Response, make_response
from gateway.http.traceparent import request_traceparent
from gateway.json import strict_json
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.idempotency_key import parse_key
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.idempotent_submission import Finished, Followed, InFlight, Replayed, Started, followed_error, submit
from gateway.runs.model import ApiName, RunRecord, RunSpec
from gateway.runs.rendering import JSON_CONTENT_TYPE
from providers.contract import JsonValue

_API: ApiName = "prompt_studio"
_MAX_NAME_LENGTH = 512
_REPLAYED_HEADER = ("Idempotent-Replayed", "true")
_SCHEMAS = {"request_schema": {"type": "object"}, "response_schema": {}}


class PromptStudioRunRequest(BaseModel):
    """Body of a run. Unknown members are ignored, as Prompt Studio does."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    input: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class PromptStudioHandlers:
    """Handlers: parse, call, render. Every run is stored, for later look-up. Sizes in bytes, times in seconds."""

    durable_runs: DurableRuns
    catalog: Catalog
    clock: Clock
    max_body: int
    body_timeout: float

    def routes(self) -> list[Route]:
        """Return the routes of both generations of the API, also for a base URL that ends in a slash."""
        return [
            route
            for slash in ("", "/")
            for route in (
                _route("POST", slash + "/v1/workflows/{path}/run", self.run_workflow, "run"),
                _route("POST", slash + "/api/v1/instructions/{path}/run", self.run_instruction, "run"),
                _route("GET", slash + "/api/v1/deployments", self.list_deployments, "deployments"),
            )
        ]

    async def run_workflow(self, request: Request) -> Response:
        """Answer `POST /v1/workflows/{deployment_id}/run` with `{"result": …}`."""
        return await self._run(request, "result")

    async def run_instruction(self, request: Request) -> Response:
        """Answer `POST /api/v1/instructions/{deployment_id}/run` with `{"completion": …}`."""
        return await self._run(request, "completion")

    async def list_deployments(self, request: Request) -> Response:
        """Answer `GET /api/v1/deployments`: the client's workflows; creation times and schemas are not known."""
        deployments = [
            {
                "deployment_id": self._deployment_id(workflow, request),
                "created_at": None,
                "recipe_id": workflow.alias,
                "recipe_name": workflow.alias,
                "schemas": _SCHEMAS,
            }
            for workflow in self.catalog.list_runnable(request.client)
        ]
        return make_response(200, strict_json.write({"deployments": deployments}), JSON_CONTENT_TYPE)

    async def _run(self, request: Request, member: str) -> Response:
        raw = await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
        body = parse_json_body(PromptStudioRunRequest, raw)
        name = _workflow_name(request.path_param)
        values = request.head.idempotency_keys
        key = parse_key(request.client_name, values, raw, path_name=f"{_API} {name}")
        workflow = self.catalog.find_for_api(_API, name, request.client)
        record = RunRecord.create(self._build_spec(request, body, workflow), workflow.provider.name, self.clock)
        match await submit(self.durable_runs, record, key, callback_url=None):
            case Started(run):
                request.run = record
                request.discard_input()
                del raw, body
                response = await self.durable_runs.run_and_wait(run, workflow, request.request_id)
                if record.status != "succeeded":
                    responses.decode_stored_response(response)  # raises the problem that it holds
                return self._render(member, record.output, record.provider, record.id, record.limit_headers)
            case Finished(run_id, response):
                hold_replay(request, len(response.body))
                output, provider = responses.decode_stored_response(response)
                return self._render(member, output, provider, run_id, (_REPLAYED_HEADER,))
            case Followed(stored):
                raise followed_error(stored)
            case Replayed() | InFlight():
                raise IdempotencyInFlight(retry_after=1)

    def _build_spec(self, request: Request, body: PromptStudioRunRequest, workflow: Workflow) -> RunSpec:
        return RunSpec(
            client=request.client_name,
            team=request.client.team,
            key_id=request.client.key_id,
            key_limits=request.client.key_limits,
            workflow=workflow.catalog_key,
            timeout=workflow.timeout,
            input=body.input,
            traceparent=request_traceparent(request, self.clock),
            client_connected=request.connection_check(),
            api=_API,
        )

    def _render(self, member: str, output: JsonValue, provider: str, run_id: str, headers: HeaderFields) -> Response:
        """Render the output of a run that `provider` has executed."""
        result = responses.format_result(output, self.catalog.api_of(provider))
        return responses.success_response(member, result, ((responses.RUN_ID_HEADER, run_id), *headers))

    def _deployment_id(self, workflow: Workflow, request: Request) -> str:
        """Return the first configured name that selects the workflow in this API, else its alias, which always does."""
        for name in workflow.api_names.get(_API, (workflow.name,)):
            try:
                if self.catalog.find_for_api(_API, name, request.client) is workflow:
                    return name
            except (WorkflowNotFound, WorkflowForbidden):
                continue
        return workflow.alias


def _route(method: str, path: str, handler: Handler, name: str) -> Route:
    label = f"{_API}_{name}"
    return Route(
        method,
        path,
        handler,
        label,
        requires_key=True,
        render_problem=responses.render_problem,
        key_headers=("API_KEY",),
        starts_run=method == "POST",
    )


def _workflow_name(path_param: str) -> str:
    """Return the decoded name in the path; it may contain any character. Raises WorkflowNotFound."""
    try:
        name = unquote(path_param, errors="strict")
        name.encode()
    except UnicodeError:
        name = ""
    if not 1 <= len(name) <= _MAX_NAME_LENGTH:
        raise WorkflowNotFound
    return name
