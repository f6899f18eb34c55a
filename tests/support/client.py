"""Minimal client of the gateway."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from tests.support.configuration import CLIENT_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp
    from multidict import CIMultiDictProxy

    from providers.contract import JsonValue
    from tests.support.process import GatewayProcess

PROMPT_STUDIO_BODY: Mapping[str, JsonValue] = MappingProxyType({"workflow": "studio", "input": {"question": "why?"}})
"""A run of the configured workflow at Prompt Studio."""
PROMPTLAYER_BODY: Mapping[str, JsonValue] = MappingProxyType({"workflow": "layer", "input": {"question": "why?"}})
"""A run of the configured workflow at PromptLayer."""


@dataclass(frozen=True, slots=True)
class ReceivedResponse:
    """Response, with its duration in seconds."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    elapsed: float

    @property
    def json(self) -> dict[str, JsonValue]:
        """JSON object of the body."""
        document = json.loads(self.body)
        assert isinstance(document, dict), document
        return document

    @property
    def summary(self) -> tuple[int, JsonValue, JsonValue]:
        """Status, `code` and `outcome`."""
        return self.status, self.json.get("code"), self.json.get("outcome")


class PostRun(Protocol):
    """Type of the fixture `run`."""

    async def __call__(
        self, gateway: GatewayProcess, body: Mapping[str, JsonValue], *, client: str = "one", **headers: str
    ) -> ReceivedResponse:
        """POST /run with that client's key; header names are written with underscores."""


async def post_run(
    session: aiohttp.ClientSession, url: str, body: Mapping[str, JsonValue], headers: Mapping[str, str]
) -> ReceivedResponse:
    """POST /run with exactly these headers."""
    started_at = time.monotonic()
    async with session.post(url + "/run", json=dict(body), headers=headers, allow_redirects=False) as answer:
        content = await answer.read()
        return ReceivedResponse(answer.status, answer.headers, content, time.monotonic() - started_at)


def auth_headers(client: str) -> dict[str, str]:
    """Return the header that authenticates a client."""
    return {"Authorization": f"Bearer {CLIENT_KEYS[client]}"}
