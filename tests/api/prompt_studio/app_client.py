"""Client application of Prompt Studio's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from providers.contract import JsonValue
from tests.support.client import auth_headers
from tests.support.configuration import CLIENT_KEYS
from tests.support.process import GatewayProcess

WORKFLOWS_PATH, INSTRUCTIONS_PATH = "/v1/workflows/{}/run", "/api/v1/instructions/{}/run"
INPUT: Mapping[str, JsonValue] = {"input": {"prompt": "what is the fastest car in the world?"}}


@dataclass(frozen=True, slots=True)
class AppResponse:
    """Response as the application receives it."""

    status: int
    body: JsonValue
    headers: CIMultiDictProxy[str]

    @property
    def summary(self) -> tuple[int, JsonValue, str | None, str | None]:
        """Members of the response that the application can act on."""
        return self.status, self.body, self.headers.get("Runward-Problem"), self.headers.get("Runward-Outcome")


@dataclass(slots=True)
class PromptStudioApp:
    """Runs deployments through a gateway, in the documented or the later dialect."""

    session: aiohttp.ClientSession
    gateway: GatewayProcess
    key: str = CLIENT_KEYS["one"]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return self.gateway.url

    async def run(
        self,
        deployment: str,
        *,
        path: str = WORKFLOWS_PATH,
        body: object = INPUT,
        headers: Mapping[str, str] | None = None,
    ) -> AppResponse:
        """Run a deployment; the older API has the key in API_KEY, the newer one in Authorization."""
        own = {"API_KEY": self.key} if path is WORKFLOWS_PATH else {"Authorization": f"Bearer {self.key}"}
        target = URL(self.url + path.format(quote(deployment, safe="")), encoded=True)
        return await self.request("POST", target, {**own, **self.headers, **(headers or {})}, json.dumps(body).encode())

    async def deployments(self) -> AppResponse:
        """List the deployments."""
        target = URL(self.url + "/api/v1/deployments")
        return await self.request("GET", target, {"Authorization": f"Bearer {self.key}"}, None)

    async def request(self, method: str, target: URL, headers: Mapping[str, str], data: bytes | None) -> AppResponse:
        """Send one request."""
        fields = {"Content-Type": "application/json", **headers}
        async with self.session.request(method, target, data=data, headers=fields) as answer:
            return AppResponse(answer.status, await answer.json(content_type=None), answer.headers)

    async def get_run(self, response: AppResponse) -> JsonValue:
        """Return the run as `GET /runs/{id}` shows it."""
        target = f"{self.url}/runs/{response.headers['Runward-Run-Id']}"
        async with self.session.get(target, headers=auth_headers("one")) as answer:
            document: dict[str, JsonValue] = await answer.json()
            return [answer.status, document.get("status"), document.get("workflow"), document.get("output")]
