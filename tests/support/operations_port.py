"""Client of the operations port of a gateway, as far as it is about providers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue


async def set_mode(
    session: aiohttp.ClientSession, ops_url: str, provider: str, mode: str, note: str = ""
) -> dict[str, JsonValue]:
    """POST /providers/override/{id}; returns the document of the provider."""
    body = {"mode": mode, "note": note}
    async with session.post(f"{ops_url}/providers/override/{provider}", json=body) as answer:
        assert 200 == answer.status, await answer.text()
        document: dict[str, JsonValue] = await answer.json()
    return document


async def get_providers(session: aiohttp.ClientSession, ops_url: str) -> dict[str, dict[str, JsonValue]]:
    """GET /providers; returns the documents by provider."""
    async with session.get(f"{ops_url}/providers") as answer:
        assert 200 == answer.status, await answer.text()
        providers: list[dict[str, JsonValue]] = (await answer.json())["providers"]
    return {str(each["provider"]): each for each in providers}
