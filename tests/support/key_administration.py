"""Client of the operations port of a gateway, as far as it is about stored keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.client import PROMPT_STUDIO_BODY, ReceivedResponse, post_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from tests.support.process import GatewayProcess


@dataclass
class KeyAdministration:
    """An operator, with the operations key `ops_key` if the port needs one."""

    session: aiohttp.ClientSession
    gateway: GatewayProcess
    ops_key: str = ""

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Send a request to `/api/keys` + `path`; returns status and document."""
        own = {"X-API-KEY": self.ops_key} if self.ops_key else {}
        own |= {"Content-Type": "application/json", **headers}
        url = f"{self.gateway.ops_url}/api/keys{path}"
        async with self.session.request(method, url, json=body, headers=own) as answer:
            assert "no-store" == answer.headers["Cache-Control"]
            document: dict[str, Any] = await answer.json(content_type=None)
            return answer.status, document

    async def create(self, **members: Any) -> dict[str, Any]:
        """Create a key of the client `one`."""
        status, document = await self.send("POST", "", {"client": "one", "name": "app", **members})
        assert 201 == status, document
        return document

    async def change(self, key_id: str, act: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Rotate, revoke or expire a key."""
        status, document = await self.send("POST", f"/{key_id}/{act}", dict(body or {}))
        assert 200 == status, document
        return document

    async def check(self, text: str) -> tuple[bool, str | None, str | None]:
        """Try a key; returns whether it is accepted, why not, and where it was found."""
        status, document = await self.send("POST", "/check", {"key": text})
        assert 200 == status, document
        return document["accepted"], document["why"], document["source"]

    async def run(
        self, text: str, body: Mapping[str, Any] = PROMPT_STUDIO_BODY, headers: Mapping[str, str] = {}
    ) -> ReceivedResponse:
        """POST /run with this key."""
        return await post_run(self.session, self.gateway.url, body, {"Authorization": f"Bearer {text}", **headers})
