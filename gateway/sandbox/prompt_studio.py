"""Emulator of Prompt Studio: run in both forms of its API, and the list of deployments.

`POST /v1/workflows/{deployment_id}/run` with `API_KEY` is documented (api/run-flow); the newer SDK calls
`POST /api/v1/instructions/{deployment_id}/run` with a Bearer key. Documented errors are 404 and 500 with an empty
object; by analogy: 401 for a wrong key, 400 for a body without an `input` object.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from gateway.clock import Clock
from gateway.json import strict_json
from gateway.sandbox.call_counts import UNKNOWN_WORKFLOW, ProviderCallCounts
from gateway.sandbox.faults import FaultInjector
from gateway.sandbox.http_json import header_equals, json_response, read_request_body
from gateway.sandbox.model import Deployment, NodeFailed, RunInput
from providers.contract import JsonValue

_CREATED = "2026-01-15T09:00:00Z"


class PromptStudioEmulator:
    """Handlers of three routes. `deployments` by id."""

    def __init__(
        self, clock: Clock, key: str, deployments: Mapping[str, Deployment], calls: ProviderCallCounts
    ) -> None:
        self._clock = clock
        self._key = key
        self._deployments = deployments
        self._calls = calls
        self._faults = FaultInjector(clock, lambda _: b"{}")

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.post("/v1/workflows/{deployment_id}/run", self._run_workflow),
            web.post("/api/v1/instructions/{deployment_id}/run", self._run_instruction),
            web.get("/api/v1/deployments", self._list),
        ]

    async def _run_workflow(self, request: web.Request) -> web.Response:
        return await self._run(request, "result", allowed=header_equals(request, "API_KEY", self._key))

    async def _run_instruction(self, request: web.Request) -> web.Response:
        return await self._run(request, "completion", allowed=self._has_bearer(request))

    async def _list(self, request: web.Request) -> web.Response:
        if not self._has_bearer(request):
            return json_response({}, 401)
        return json_response({"deployments": [_deployment_document(d) for d in self._deployments.values()]})

    def _has_bearer(self, request: web.Request) -> bool:
        return header_equals(request, "Authorization", f"Bearer {self._key}")

    async def _run(self, request: web.Request, member: str, *, allowed: bool) -> web.Response:
        deployment = self._deployments.get(request.match_info["deployment_id"])
        count = self._calls.workflows[deployment.id if deployment else UNKNOWN_WORKFLOW]
        count.starts += 1
        if not allowed:
            return json_response({}, 401)
        if deployment is None:
            return json_response({}, 404)
        body = await read_request_body(request)
        input_object = _parse_input(body)
        if input_object is None:
            return json_response({}, 400)
        run_input = RunInput(input_object)
        fault = self._faults.select(deployment.fault, deployment.id, body)
        count.runs += fault is None or fault.paid
        if fault is not None:
            return await self._faults.respond(fault, run_input)
        return await self._respond(deployment, run_input, member)

    async def _respond(self, deployment: Deployment, run_input: RunInput, member: str) -> web.Response:
        seconds = deployment.duration(run_input)
        if seconds > 0:
            await self._clock.sleep(seconds)
        try:
            return json_response({member: deployment.compute(run_input)})
        except NodeFailed:
            return json_response({}, 500)


def _parse_input(body: bytes) -> dict[str, JsonValue] | None:
    try:
        document = strict_json.read(body)
    except strict_json.NotJson:
        return None
    input_object = document.get("input") if isinstance(document, dict) else None
    return input_object if isinstance(input_object, dict) else None


def _deployment_document(deployment: Deployment) -> dict[str, object]:
    properties = {name: {"type": kind} for name, kind in deployment.inputs.items()}
    return {
        "deployment_id": deployment.id,
        "created_at": _CREATED,
        "recipe_id": deployment.id.replace("dep_", "rec_", 1),
        "recipe_name": deployment.id.removeprefix("dep_"),
        "schemas": {
            "request_schema": {"type": "object", "properties": properties},
            "response_schema": {"type": "object"},
        },
    }
