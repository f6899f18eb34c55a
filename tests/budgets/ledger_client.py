"""Reads the budgets of a gateway, and the spend in its metrics and records."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.support.process import metric_sum

if TYPE_CHECKING:
    import aiohttp

    from tests.support.process import GatewayProcess

SUMS = ("spent", "unknown", "reserved", "remaining")


def amounts(*texts: str) -> tuple[Decimal, ...]:
    """Return decimal numbers."""
    return tuple(map(Decimal, texts))


async def get_budgets(session: aiohttp.ClientSession, gateway: GatewayProcess) -> dict[str, dict[str, str]]:
    """GET /api/budgets; returns the documents by name."""
    async with session.get(f"{gateway.ops_url}/api/budgets") as answer:
        assert 200 == answer.status, await answer.text()
        return {each["budget"]: each for each in (await answer.json())["budgets"]}


async def sums_of(session: aiohttp.ClientSession, gateway: GatewayProcess, budget: str) -> tuple[Decimal, ...]:
    """Return what is spent, unknown, reserved, and what remains of a budget."""
    found = (await get_budgets(session, gateway))[budget]
    return tuple(Decimal(found[name]) for name in SUMS)


async def settled_sums(session: aiohttp.ClientSession, gateway: GatewayProcess, budget: str) -> tuple[Decimal, ...]:
    """Return the sums of a budget once nothing is reserved: settlements follow the responses."""
    async with asyncio.timeout(20):
        while (sums := await sums_of(session, gateway, budget))[2]:
            await asyncio.sleep(0.05)
    return sums


async def spend(gateway: GatewayProcess, **labels: str) -> Decimal:
    """Return `runward_spend_total`."""
    return Decimal(str(metric_sum(await gateway.metrics(), "runward_spend_total", **labels)))
