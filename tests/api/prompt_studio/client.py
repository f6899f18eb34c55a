"""An app that was written for Prompt Studio's API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from providers.contract import JsonValue
from tests.client import bearer
from tests.configuration import KEYS
from tests.process import Gateway

OLD, NEW = "/v1/workflows/{}/run", "/api/v1/instructions/{}/run"
INPUT: Mapping[str, JsonValue] = {"input": {"prompt": "what is the fastest car in the world?"}}


@dataclass(frozen=True, slots=True)
class Told:
    """What the app sees."""

    status: int
    body: JsonValue
    headers: CIMultiDictProxy[str]

    @property
    def verdict(self) -> tuple[int, JsonValue, str | None, str | None]:
        """All that it can decide by."""
        return self.status, self.body, self.headers.get("Runward-Problem"), self.headers.get("Runward-Outcome")


@dataclass(slots=True)
class App:
    """Runs deployments at a gateway, as the page has it, or as the later recipes have it."""

    session: aiohttp.ClientSession
    gateway: Gateway
    key: str = KEYS["one"]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its base URL."""
        return self.gateway.url

    async def run(
        self, deployment: str, *, path: str = OLD, body: object = INPUT, headers: Mapping[str, str] | None = None
    ) -> Told:
        """Run one; the older API has its key in API_KEY, the newer in Authorization."""
        own = {"API_KEY": self.key} if path is OLD else {"Authorization": f"Bearer {self.key}"}
        target = URL(self.url + path.format(quote(deployment, safe="")), encoded=True)
        return await self.ask("POST", target, {**own, **self.headers, **(headers or {})}, json.dumps(body).encode())

    async def deployments(self) -> Told:
        """List them."""
        target = URL(self.url + "/api/v1/deployments")
        return await self.ask("GET", target, {"Authorization": f"Bearer {self.key}"}, None)

    async def ask(self, method: str, target: URL, headers: Mapping[str, str], data: bytes | None) -> Told:
        """One request."""
        fields = {"Content-Type": "application/json", **headers}
        async with self.session.request(method, target, data=data, headers=fields) as answer:
            return Told(answer.status, await answer.json(content_type=None), answer.headers)

    async def look_up(self, told: Told) -> JsonValue:
        """The run, as `GET /runs/{id}` shows it."""
        target = f"{self.url}/runs/{told.headers['Runward-Run-Id']}"
        async with self.session.get(target, headers=bearer("one")) as answer:
            document: dict[str, JsonValue] = await answer.json()
            return [answer.status, document.get("status"), document.get("workflow"), document.get("output")]
