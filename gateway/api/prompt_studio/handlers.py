"""The routes of Prompt Studio's own API: a workflow is run while the app waits, whoever the provider behind it is.

Sources: docs.prompt.studio, "Run a workflow", and for `instructions` and `deployments` the later recipes/deploy page,
the ps-sdk and the node for n8n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from gateway import strictjson
from gateway.api.prompt_studio import responses
from gateway.clock import Clock
from gateway.http.body import parse_json_body, read_json_body
from gateway.http.response import make_response
from gateway.http.server import Handler, Request, Route
from gateway.http.traceparent import read_traceparent
from gateway.problems import Problem
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.durable.idempotency import parse_key
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.model import ApiName, RunRecord, RunSpec
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.contract import IdempotencyKey, IdempotencyRecord

_API: ApiName = "prompt_studio"
_MAX_NAME_LENGTH = 512
_REPLAYED_HEADER = ("Idempotent-Replayed", "true")
_SCHEMAS = {"request_schema": {"type": "object"}, "response_schema": {}}


class PromptStudioRunRequest(BaseModel):
    """The body of a run, as Prompt Studio has it. What else stands there is ignored, as it would be there."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    input: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class PromptStudioHandlers:
    """Parses, calls the desk, renders. Every run is kept, so that it can be looked up later. Bytes and seconds."""

    durable_runs: DurableRuns
    catalog: Catalog
    clock: Clock
    max_body: int
    body_timeout: float

    def routes(self) -> list[Route]:
        """Both generations of the API; with the doubled slash, too, that a base URL ending in one leads to."""
        return [
            route
            for slash in ("", "/")
            for route in (
                _route("POST", slash + "/v1/workflows/{path}/run", self.run_workflow, "run"),
                _route("POST", slash + "/api/v1/instructions/{path}/run", self.run_instruction, "run"),
                _route("GET", slash + "/api/v1/deployments", self.list_deployments, "deployments"),
            )
        ]

    async def run_workflow(self, request: Request) -> web.Response:
        """Answer `POST /v1/workflows/{deployment_id}/run` with `{"result": …}`."""
        return await self._run(request, "result")

    async def run_instruction(self, request: Request) -> web.Response:
        """Answer `POST /api/v1/instructions/{deployment_id}/run` with `{"completion": …}`."""
        return await self._run(request, "completion")

    async def list_deployments(self, request: Request) -> web.Response:
        """List what the client may run. Nobody knows when a deployment was made, or its schemas."""
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
        return make_response(200, strictjson.write({"deployments": deployments}), JSON_CONTENT_TYPE)

    async def _run(self, request: Request, member: str) -> web.Response:
        raw = await read_json_body(request, max_bytes=self.max_body, timeout=self.body_timeout)
        body = parse_json_body(PromptStudioRunRequest, raw)
        name = _workflow_name(request.path_param)
        values = request.headers.getall("Idempotency-Key", ())
        key = parse_key(request.client_name, values, raw, path_name=f"{_API} {name}")
        workflow = self.catalog.find_for_api(_API, name, request.client)
        run = RunRecord.create(self._build_spec(request, body, workflow), workflow.provider.name, self.clock)
        existing = await self.durable_runs.persist(run, key, callback_url=None)
        if existing is not None and key is not None:
            return self._replay(existing, key, member)
        request.run = run
        stored = await self.durable_runs.run_and_wait(run, workflow, request.request_id)
        if run.status != "succeeded":
            responses.decode_stored_response(stored)  # raises
        result = responses.format_result(run.output, self.catalog.api_of(run.provider))
        return responses.success_response(member, result, ((responses.RUN_ID_HEADER, run.id), *run.limit_headers))

    def _build_spec(self, request: Request, body: PromptStudioRunRequest, workflow: Workflow) -> RunSpec:
        return RunSpec(
            client=request.client_name,
            workflow=workflow.catalog_key,
            timeout=workflow.timeout,
            input=body.input,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            client_connected=request.connection_check(),
            api=_API,
        )

    def _replay(self, existing: IdempotencyRecord, key: IdempotencyKey, member: str) -> web.Response:
        """Answer a request whose key was used before."""
        if existing.key.fingerprint != key.fingerprint:
            raise Problem("idempotency_mismatch")
        if existing.response is None:
            raise Problem("idempotency_in_flight", retry_after=1)
        output, provider = responses.decode_stored_response(existing.response)
        result = responses.format_result(output, self.catalog.api_of(provider))
        return responses.success_response(
            member, result, ((responses.RUN_ID_HEADER, existing.run_id), _REPLAYED_HEADER)
        )

    def _deployment_id(self, workflow: Workflow, request: Request) -> str:
        """What it is called in this API, where that leads to it and nowhere else; else its alias, which always does."""
        for name in workflow.api_names.get(_API, (workflow.name,)):
            try:
                if self.catalog.find_for_api(_API, name, request.client) is workflow:
                    return name
            except Problem:
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
    )


def _workflow_name(path_param: str) -> str:
    """What the path says, decoded: a name may hold anything, slashes too."""
    try:
        name = unquote(path_param, errors="strict")
        name.encode()
    except UnicodeError:
        name = ""
    if not 1 <= len(name) <= _MAX_NAME_LENGTH:
        raise Problem("workflow_not_found")
    return name
