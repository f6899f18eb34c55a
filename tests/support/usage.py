"""Sums of what a gateway has counted: its usage, its records, its metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.support.process import metric_sum

if TYPE_CHECKING:
    import aiohttp

    from tests.support.process import GatewayProcess


@dataclass
class Sums:
    """Runs by outcome, and amounts."""

    runs: dict[str, int] = field(default_factory=dict)
    spent: Decimal = Decimal(0)
    unknown: Decimal = Decimal(0)

    def add(self, outcome: str, runs: int, spent: str, unknown: str) -> None:
        """Add runs."""
        self.runs[outcome] = self.runs.get(outcome, 0) + runs
        self.spent += Decimal(spent)
        self.unknown += Decimal(unknown)


async def usage_of(session: aiohttp.ClientSession, gateway: GatewayProcess, query: str = "") -> Sums:
    """Return the usage of all days."""
    async with session.get(f"{gateway.ops_url}/api/usage?group_by=outcome&{query}") as answer:
        assert answer.status == 200, await answer.text()
        rows = (await answer.json())["rows"]
    sums = Sums()
    for row in rows:
        sums.add(row["outcome"], row["runs"], row["spent"], row["unknown"])
    return sums


async def recorded(session: aiohttp.ClientSession, gateway: GatewayProcess, query: str = "") -> Sums:
    """Return the sum of all records of runs that have ended."""
    sums, cursor = Sums(), ""
    while True:
        async with session.get(f"{gateway.ops_url}/api/runs?limit=100{cursor}&{query}") as answer:
            assert answer.status == 200, await answer.text()
            page = await answer.json()
        for run in page["runs"]:
            if run["finished_at"] is not None:
                cost = run.get("cost", {"amount": "0"})
                unknown = Decimal(cost.get("unknown", "0"))
                sums.add(run["status"], 1, str(Decimal(cost["amount"]) - unknown), str(unknown))
        if page["next"] is None:
            return sums
        cursor = f"&cursor={page['next']}"


async def metered(gateway: GatewayProcess) -> tuple[Decimal, Decimal] | None:
    """Return what the metrics of a process say, spent and unknown; None if it has no such metrics."""
    samples = await gateway.metrics()
    name = "runward_spend_total"
    if not any(sample.name == name for sample in samples):
        return None
    amounts = (metric_sum(samples, name, certainty=certainty) for certainty in ("spent", "unknown"))
    spent, unknown = (Decimal(str(round(amount, 6))) for amount in amounts)
    return spent, unknown
