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
from gateway.api.prompt_studio import answers
from gateway.api.server import Handler, Request, Route
from gateway.api.tracing import read_traceparent
from gateway.api.wire import answer, parse, read_body
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs.answers import JSON
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.desk import Desk
from gateway.runs.idempotency import read_key
from gateway.runs.record import Face, Order, RunRecord
from gateway.store.contract import Claim, Key

_FACE: Face = "prompt_studio"
_LONGEST_NAME = 512
_REPLAYED = ("Idempotent-Replayed", "true")
_SCHEMAS = {"request_schema": {"type": "object"}, "response_schema": {}}


class StudioRequest(BaseModel):
    """The body of a run, as Prompt Studio has it. What else stands there is ignored, as it would be there."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)

    input: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class StudioFace:
    """Parses, calls the desk, renders. Every run is kept, so that it can be looked up later. Bytes and seconds."""

    desk: Desk
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
                _route("GET", slash + "/api/v1/deployments", self.deployments, "deployments"),
            )
        ]

    async def run_workflow(self, request: Request) -> web.Response:
        """Answer `POST /v1/workflows/{deployment_id}/run` with `{"result": …}`."""
        return await self._run(request, "result")

    async def run_instruction(self, request: Request) -> web.Response:
        """Answer `POST /api/v1/instructions/{deployment_id}/run` with `{"completion": …}`."""
        return await self._run(request, "completion")

    async def deployments(self, request: Request) -> web.Response:
        """List what the client may run. Nobody knows when a deployment was made, or its schemas."""
        found = [
            {
                "deployment_id": self._deployment_id(workflow, request),
                "created_at": None,
                "recipe_id": workflow.alias,
                "recipe_name": workflow.alias,
                "schemas": _SCHEMAS,
            }
            for workflow in self.catalog.runnable(request.client)
        ]
        return answer(200, strictjson.write({"deployments": found}), JSON)

    async def _run(self, request: Request, member: str) -> web.Response:
        raw = await read_body(request, limit=self.max_body, seconds=self.body_timeout)
        body = parse(StudioRequest, raw)
        name = _name(request.tail)
        values = request.headers.getall("Idempotency-Key", ())
        key = read_key(request.client_name, values, raw, at=f"{_FACE} {name}")
        workflow = self.catalog.find_as(_FACE, name, request.client)
        run = RunRecord.open(self._order(request, body, workflow), workflow.provider.name, self.clock)
        claim = await self.desk.keep(run, key, callback_url=None)
        if claim is not None and key is not None:
            return self._again(claim, key, member)
        request.run = run
        kept = await self.desk.serve(run, workflow, request.request_id)
        if run.status != "succeeded":
            answers.again(kept)  # raises
        result = answers.result_of(run.output, self.catalog.api(run.provider))
        return answers.succeeded(member, result, ((answers.RUN_ID, run.id), *run.limit_headers))

    def _order(self, request: Request, body: StudioRequest, workflow: Workflow) -> Order:
        return Order(
            client=request.client_name,
            workflow=workflow.known_as,
            timeout=workflow.timeout,
            input=body.input,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            wanted=request.is_awaited(),
            face=_FACE,
        )

    def _again(self, claim: Claim, key: Key, member: str) -> web.Response:
        """Answer a request whose key was used before."""
        if claim.key.fingerprint != key.fingerprint:
            raise Problem("idempotency_mismatch")
        if claim.answer is None:
            raise Problem("idempotency_in_flight", retry_after=1)
        output, provider = answers.again(claim.answer)
        result = answers.result_of(output, self.catalog.api(provider))
        return answers.succeeded(member, result, ((answers.RUN_ID, claim.run_id), _REPLAYED))

    def _deployment_id(self, workflow: Workflow, request: Request) -> str:
        """What it is called in this API, where that leads to it and nowhere else; else its alias, which always does."""
        for name in workflow.names.get(_FACE, (workflow.name,)):
            try:
                if self.catalog.find_as(_FACE, name, request.client) is workflow:
                    return name
            except Problem:
                continue
        return workflow.alias


def _route(method: str, path: str, handler: Handler, name: str) -> Route:
    label = f"{_FACE}_{name}"
    return Route(method, path, handler, label, keyed=True, refuse=answers.refuse, key_headers=("API_KEY",))


def _name(tail: str) -> str:
    """What the path says, decoded: a name may hold anything, slashes too."""
    try:
        name = unquote(tail, errors="strict")
        name.encode()
    except UnicodeError:
        name = ""
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise Problem("workflow_not_found")
    return name
