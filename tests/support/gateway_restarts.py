"""Successive gateways on the same store file, for crash recovery tests."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.support.client import ReceivedResponse, auth_headers, post_run
from tests.support.configuration import PROVIDER_SECRETS, merged
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.process import GatewayProcess

FINAL_STATUSES = ("succeeded", "failed", "unknown", "not_run")


def new_callback_secret() -> str:
    """Return a new secret in the format of Standard Webhooks."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


CALLBACK_SECRETS: Mapping[str, str] = MappingProxyType(
    {"RUNWARD_CALLBACK_SECRET": new_callback_secret(), "RUNWARD_CALLBACK_SECRET_OLD": new_callback_secret()}
)
"""What callbacks are signed with, by environment variable: made anew by each test run."""

CALLBACK_SETTINGS: Mapping[str, JsonValue] = MappingProxyType(
    {
        "secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}],
        "allow": ["127.0.0.1/32"],
        "schedule": ["0s", "200ms", "200ms", "200ms", "200ms", "200ms"],
    }
)
"""May call this machine, and comes again soon."""

_LONG_TIMEOUTS = {"timeout": "20s", "max_timeout": "20s"}


class RestartableGateway:
    """Gateways with the same configuration and store, one at a time; methods address the current one.

    `environment`: the environment variables of the next one.
    """

    def __init__(
        self, start_gateway: StartGateway, session: aiohttp.ClientSession, file: Path, **overrides: JsonValue
    ) -> None:
        base: dict[str, JsonValue] = {
            "store": {"url": f"sqlite:///{file}"},
            "callbacks": dict(CALLBACK_SETTINGS),
            "workflows": {"studio": dict(_LONG_TIMEOUTS), "layer": dict(_LONG_TIMEOUTS)},
        }
        self.overrides = merged(base, overrides)
        self.environment: dict[str, str] = {**PROVIDER_SECRETS, **CALLBACK_SECRETS}
        self._start_gateway = start_gateway
        self._session = session
        self._current: GatewayProcess | None = None

    @property
    def current(self) -> GatewayProcess:
        """Current gateway, running or ended."""
        assert self._current is not None
        return self._current

    async def start(self, **overrides: JsonValue) -> GatewayProcess:
        """Start the next one; overrides persist."""
        self.overrides = merged(self.overrides, overrides)
        self._current = await self._start_gateway(None, self.environment, **self.overrides)
        return self._current

    async def kill_and_restart(self) -> GatewayProcess:
        """Kill the gateway (SIGKILL) and start the next one."""
        assert -9 == await self.current.kill()
        return await self.start()

    async def post(self, body: Mapping[str, JsonValue], **headers: str) -> ReceivedResponse:
        """POST /run; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post_run(self._session, self.current.url, body, auth_headers("one") | named)

    async def post_until_finished(self, body: Mapping[str, JsonValue], key: str) -> ReceivedResponse:
        """POST /run with a key, repeatedly while the first request is in progress."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while True:
                answered = await self.post(body, Idempotency_Key=key)
                if answered.summary[1] != "idempotency_in_flight":
                    return answered
                await asyncio.sleep(0.05)

    async def submit_async(self, body: Mapping[str, JsonValue], **headers: str) -> str:
        """POST /run asynchronously; returns the id of the run."""
        answered = await self.post(body, Prefer="respond-async", **headers)
        assert 202 == answered.status, answered.body
        return str(answered.json["id"])

    async def get_run(self, run_id: str, wait: int = 0) -> dict[str, JsonValue]:
        """GET /runs/{id}."""
        url = f"{self.current.url}/runs/{run_id}?wait={wait}"
        async with self._session.get(url, headers=auth_headers("one")) as answer:
            assert 200 == answer.status, await answer.text()
            document = await answer.json()
        assert isinstance(document, dict)
        return document

    async def cancel(self, run_id: str, *, client: str = "one") -> ReceivedResponse:
        """POST /runs/{id}/cancel."""
        url = f"{self.current.url}/runs/{run_id}/cancel"
        async with self._session.post(url, headers=auth_headers(client)) as answer:
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def list_runs(self, query: str = "") -> list[dict[str, JsonValue]]:
        """GET /runs: the first page."""
        async with self._session.get(f"{self.current.url}/runs?{query}", headers=auth_headers("one")) as answer:
            assert 200 == answer.status, await answer.text()
            runs: list[dict[str, JsonValue]] = (await answer.json())["runs"]
        return runs

    async def get_readiness(self) -> tuple[int, JsonValue]:
        """GET /readyz."""
        async with self._session.get(f"{self.current.ops_url}/readyz") as answer:
            return answer.status, await answer.json()

    async def wait_for_end(self, run_id: str) -> dict[str, JsonValue]:
        """Return the run once it has its final status."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while (document := await self.get_run(run_id, wait=5))["status"] not in FINAL_STATUSES:
                pass
        return document

    async def wait_for_callback(self, run_id: str) -> JsonValue:
        """Return the callback state of the run once it is settled."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while True:
                callback = (await self.get_run(run_id)).get("callback")
                if callback != {"state": "pending"}:
                    return callback
                await asyncio.sleep(0.05)
