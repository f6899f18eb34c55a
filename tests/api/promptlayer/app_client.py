"""Client of PromptLayer's API with the gateway's base URL."""

from __future__ import annotations

import asyncio
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from yarl import URL

from tests.support.client import ReceivedResponse
from tests.support.configuration import CLIENT_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.support.process import GatewayProcess

RESULTS = "/workflow-version-execution-results"
BODY: Mapping[str, JsonValue] = MappingProxyType(
    {
        "input_variables": {"question": "why?"},
        "metadata": None,
        "workflow_label_name": None,
        "workflow_version_number": None,
        "return_all_outputs": False,
    }
)
"""The body as the SDKs send it: unset members are null."""
NO_MEMBERS: Mapping[str, JsonValue] = MappingProxyType({})


class PromptLayerApp:
    """Base URL and key, sent in PromptLayer's header."""

    def __init__(self, session: aiohttp.ClientSession, gateway: GatewayProcess, client: str = "one") -> None:
        self._session = session
        self.gateway = gateway
        self.key = CLIENT_KEYS[client]

    def as_other_client(self) -> PromptLayerApp:
        """Return the same application with the key of another client."""
        return PromptLayerApp(self._session, self.gateway, "two")

    async def request(self, method: str, target: str, body: JsonValue = None, **headers: str) -> ReceivedResponse:
        """Send one request; `target` is sent unchanged, header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            named.setdefault("Content-Type", "application/json")
        data = None if body is None else json.dumps(body).encode()
        where = URL(self.gateway.url + target, encoded=True)
        async with self._session.request(method, where, data=data, headers={"X-API-KEY": self.key} | named) as answer:
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def start_run(
        self, name: str = "layer", more: Mapping[str, JsonValue] = NO_MEMBERS, **headers: str
    ) -> ReceivedResponse:
        """POST a run; `name` is sent unchanged in the path, `more` are members of the body."""
        return await self.request("POST", f"/workflows/{name}/run", {**BODY, **more}, **headers)

    async def get_results(self, number: object, *, all_nodes: bool = False) -> tuple[int, Any]:
        """GET the current results; returns the status and the JSON."""
        query = f"?workflow_version_execution_id={number}&return_all_outputs={'true' if all_nodes else 'false'}"
        answered = await self.request("GET", RESULTS + query)
        return answered.status, json.loads(answered.body)

    async def wait_for_results(self, started: ReceivedResponse, *, all_nodes: bool = False) -> Any:
        """Return the results of a run once it has ended."""
        async with asyncio.timeout(30):
            while True:
                status, found = await self.get_results(execution_id_of(started), all_nodes=all_nodes)
                if status != 202:
                    assert 200 == status, found
                    return found
                await asyncio.sleep(0.02)

    async def get_run(self, started: ReceivedResponse) -> dict[str, JsonValue]:
        """Return the run as `GET /runs/{id}` shows it."""
        answered = await self.request("GET", f"/runs/{started.headers['Runward-Run-Id']}")
        assert 200 == answered.status
        return answered.json


def execution_id_of(started: ReceivedResponse) -> int:
    """Execution id of the started run."""
    assert started.status in {201, 202}, started.body
    number = started.json["workflow_version_execution_id"]
    assert isinstance(number, int)
    return number


def error_locations(response: ReceivedResponse) -> list[JsonValue]:
    """Errors of a request, in FastAPI's format."""
    detail = response.json["detail"]
    assert isinstance(detail, list)
    return [error["loc"] for error in detail if isinstance(error, dict)]
