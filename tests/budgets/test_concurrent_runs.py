"""1 000 runs at once on a budget for 10 start exactly 10, with every store."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.budgets.ledger_client import amounts, settled_sums, spend
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.valkey import ValkeyServer

RUNS, AFFORDED = 1000, 10
BUDGET: JsonValue = {"amount": "0.4", "per": "month"}
WORKFLOWS: JsonValue = {"studio": {"price": 0.04, "timeout": "90s", "max_timeout": "90s"}, "layer": {"price": 1}}


@pytest.fixture(params=["memory", "sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: ValkeyServer = request.getfixturevalue("valkey")
        return server.url
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'runward.db'}"


async def test_a_thousand_runs_at_once_start_what_the_budget_pays(
    store_url: str, gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """Counted at the provider; records, metrics and the ledger agree with it."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway(
        store={"url": store_url},
        workflows=WORKFLOWS,
        clients={"one": {"budget": BUDGET}},
        server={"max_in_flight": 2 * RUNS, "header_timeout": "60s", "body_timeout": "60s"},
        providers={"prompt_studio": {"connect_timeout": "60s"}},
        breaker={"failures": 1000},
    )
    answers = await asyncio.gather(*(run(running, PROMPT_STUDIO_BODY) for _ in range(RUNS)))
    found = Counter((each.status, each.json.get("code")) for each in answers)
    assert {(200, None): AFFORDED, (402, "budget_exhausted"): RUNS - AFFORDED} == found
    assert AFFORDED == len(upstream.requests("POST", STUDIO_RUN))
    assert amounts("0.4", "0", "0", "0") == await settled_sums(session, running, "client:one")
    assert Decimal("0.4") == await spend(running, client="one", workflow="studio", certainty="spent")


async def test_a_refusal_costs_nothing_and_says_until_when(
    store_url: str, gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """A problem document, not_run, Retry-After to the end of the window; no limit is charged for it."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway(
        store={"url": store_url},
        workflows=WORKFLOWS,
        clients={"one": {"budget": {"amount": 0.05, "per": "day"}, "limits": {"daily": 2}}},
    )
    first = await run(running, PROMPT_STUDIO_BODY)
    assert (200, "0.04") == (first.status, first.headers["Runward-Cost"])
    assert "0.01; window=" == first.headers["Runward-Budget-Remaining"][:13]
    assert {"amount": "0.04", "certainty": "spent"} == first.json["cost"]
    for _ in range(3):
        refused = await run(running, PROMPT_STUDIO_BODY)
        assert (402, "budget_exhausted", "not_run") == refused.summary
        assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert "0" == refused.headers["Runward-Cost"]
        assert "0.01 of it remain" in str(refused.json["detail"])
    assert amounts("0.04", "0", "0", "0.01") == await settled_sums(session, running, "client:one")
    other = await run(running, PROMPT_STUDIO_BODY, client="two")
    assert (200, "0.04", None) == (
        other.status,
        other.headers["Runward-Cost"],
        other.headers.get("Runward-Budget-Remaining"),
    )
