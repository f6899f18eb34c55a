"""One gateway after another on the same file: what a killed one leaves behind, the next one finds."""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.client import Answered, bearer, post_run
from tests.configuration import SECRETS, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.process import Gateway

PATIENCE = 30.0
"""Seconds for what must happen; a machine that is busy with other tests is no failure of ours."""
FINAL = ("succeeded", "failed", "unknown", "not_run")


def callback_secret() -> str:
    """A new secret in the form of Standard Webhooks."""
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


CALLBACK_SECRETS: Mapping[str, str] = MappingProxyType(
    {"RUNWARD_CALLBACK_SECRET": callback_secret(), "RUNWARD_CALLBACK_SECRET_OLD": callback_secret()}
)
"""What callbacks are signed with, by environment variable: made anew by each test run."""

CALLBACKS: Mapping[str, JsonValue] = MappingProxyType(
    {
        "secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}],
        "allow": ["127.0.0.1/32"],
        "schedule": ["0s", "200ms", "200ms", "200ms", "200ms", "200ms"],
    }
)
"""May call this machine, and comes again soon."""

_SLOW_ENOUGH = {"timeout": "20s", "max_timeout": "20s"}


class Lives:
    """Gateways with the same configuration and store, of which one lives at a time; `calls` talk to that one."""

    def __init__(self, start: StartGateway, session: aiohttp.ClientSession, file: Path, **overrides: JsonValue) -> None:
        base: dict[str, JsonValue] = {
            "store": {"url": f"sqlite:///{file}"},
            "callbacks": dict(CALLBACKS),
            "workflows": {"studio": dict(_SLOW_ENOUGH), "layer": dict(_SLOW_ENOUGH)},
        }
        self.overrides = merged(base, overrides)
        self._start = start
        self._session = session
        self._now: Gateway | None = None

    @property
    def now(self) -> Gateway:
        """The one that lives, or died last."""
        assert self._now is not None
        return self._now

    async def begin(self, **overrides: JsonValue) -> Gateway:
        """The next one; what is overridden holds from now on."""
        self.overrides = merged(self.overrides, overrides)
        self._now = await self._start(None, {**SECRETS, **CALLBACK_SECRETS}, **self.overrides)
        return self._now

    async def die_and_begin(self) -> Gateway:
        """A power cut, and the next one."""
        assert -9 == await self.now.kill()
        return await self.begin()

    async def post(self, body: Mapping[str, JsonValue], **headers: str) -> Answered:
        """POST /run; header names are written with underscores."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post_run(self._session, self.now.url, body, bearer("one") | named)

    async def post_until_told(self, body: Mapping[str, JsonValue], key: str) -> Answered:
        """POST /run with a key, again and again while the first request with it goes on."""
        async with asyncio.timeout(PATIENCE):
            while True:
                answered = await self.post(body, Idempotency_Key=key)
                if answered.summary[1] != "idempotency_in_flight":
                    return answered
                await asyncio.sleep(0.05)

    async def accepted(self, body: Mapping[str, JsonValue], **headers: str) -> str:
        """POST /run without waiting; the run's id."""
        answered = await self.post(body, Prefer="respond-async", **headers)
        assert 202 == answered.status, answered.body
        return str(answered.json["id"])

    async def shown(self, run_id: str, wait: int = 0) -> dict[str, JsonValue]:
        """GET /runs/{id}."""
        url = f"{self.now.url}/runs/{run_id}?wait={wait}"
        async with self._session.get(url, headers=bearer("one")) as answer:
            assert 200 == answer.status, await answer.text()
            document = await answer.json()
        assert isinstance(document, dict)
        return document

    async def ready(self) -> tuple[int, JsonValue]:
        """GET /readyz."""
        async with self._session.get(f"{self.now.ops_url}/readyz") as answer:
            return answer.status, await answer.json()

    async def ended(self, run_id: str) -> dict[str, JsonValue]:
        """The run, once it has its final status."""
        async with asyncio.timeout(PATIENCE):
            while (document := await self.shown(run_id, wait=5))["status"] not in FINAL:
                pass
        return document

    async def told(self, run_id: str) -> JsonValue:
        """What became of the run's callback, once that is settled."""
        async with asyncio.timeout(PATIENCE):
            while True:
                callback = (await self.shown(run_id)).get("callback")
                if callback != {"state": "pending"}:
                    return callback
                await asyncio.sleep(0.05)


async def until(happened: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for what another process does; TimeoutError where it does not."""
    async with asyncio.timeout(seconds):
        while True:
            if happened():
                return
            await asyncio.sleep(0.01)
