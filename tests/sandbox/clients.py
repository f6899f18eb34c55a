"""Clients of the emulated providers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from urllib.parse import quote

from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.json import strict_json
from gateway.sandbox import SandboxKeys
from providers.contract import JsonValue

KEYS = SandboxKeys(promptlayer="pl_sandbox_key", prompt_studio="ps_sandbox_key")
Client = TestClient[web.Request, web.Application]


@dataclass(frozen=True)
class SandboxResponse:
    """Response; `json` is None if the body is not JSON."""

    status: int
    json: JsonValue
    text: str
    headers: Mapping[str, str]

    @property
    def id(self) -> int:
        """Execution id of the started run."""
        assert isinstance(self.json, dict)
        execution_id = self.json["workflow_version_execution_id"]
        assert isinstance(execution_id, int)
        return execution_id


async def request(
    client: Client, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> SandboxResponse:
    """Send any request."""
    async with client.request(method, path, headers=headers, data=body and BytesIO(body)) as response:
        data = await response.read()
        document = strict_json.read(data) if response.content_type == "application/json" else None
        return SandboxResponse(response.status, document, data.decode(), dict(response.headers))


@dataclass(frozen=True)
class PromptLayerClient:
    """Client of the emulated PromptLayer API."""

    client: Client
    key: str = KEYS.promptlayer

    async def get(self, path: str) -> SandboxResponse:
        """Send a GET with the key."""
        return await request(self.client, "GET", path, {"X-API-KEY": self.key})

    async def post(self, path: str, body: bytes) -> SandboxResponse:
        """Send a POST with the key and any body."""
        headers = {"X-API-KEY": self.key, "Content-Type": "application/json"}
        return await request(self.client, "POST", path, headers, body)

    async def run(self, name: str, **body: JsonValue) -> SandboxResponse:
        """Start a workflow; its name is encoded."""
        return await self.post(f"/workflows/{quote(name, safe='')}/run", strict_json.write(body))

    async def results(self, execution_id: int, *, all_outputs: str = "true") -> SandboxResponse:
        """Request the results of a run."""
        return await self.get(
            f"/workflow-version-execution-results?workflow_version_execution_id={execution_id}"
            f"&return_all_outputs={all_outputs}"
        )


@dataclass(frozen=True)
class PromptStudioClient:
    """Client of the emulated Prompt Studio API, in either dialect."""

    client: Client
    key: str = KEYS.prompt_studio

    async def run(self, deployment_id: str, **input_object: JsonValue) -> SandboxResponse:
        """Run a deployment in the documented dialect."""
        return await self.post(deployment_id, strict_json.write({"input": input_object}))

    async def post(self, deployment_id: str, body: bytes) -> SandboxResponse:
        """Send a POST in the documented dialect with any body."""
        return await request(self.client, "POST", f"/v1/workflows/{deployment_id}/run", {"API_KEY": self.key}, body)

    async def run_instruction(self, deployment_id: str, **input_object: JsonValue) -> SandboxResponse:
        """Run a deployment in the dialect of the newer SDK."""
        path = f"/api/v1/instructions/{deployment_id}/run"
        return await request(self.client, "POST", path, self._bearer, strict_json.write({"input": input_object}))

    async def deployments(self) -> SandboxResponse:
        """List the deployments."""
        return await request(self.client, "GET", "/api/v1/deployments", self._bearer)

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}
