"""A budget is one for all workers, and the operations port shows it."""

from __future__ import annotations

import asyncio
from collections import Counter
from decimal import Decimal

import aiohttp

from tests.budgets.ledger_client import amounts, settled_sums, spend
from tests.conftest import StartGateway
from tests.support.client import PROMPT_STUDIO_BODY, PostRun
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum
from tests.support.valkey import ValkeyServer

WORKERS = {**PROVIDER_SECRETS, "RUNWARD_WORKERS": "2"}


async def test_two_workers_share_a_budget(
    valkey: ValkeyServer,
    upstream: FakeUpstream,
    gateway: StartGateway,
    run: PostRun,
    session: aiohttp.ClientSession,
) -> None:
    """Its metrics are those of both: sums, and the smallest remainder that a worker knows."""
    upstream.default = prompt_studio_reply("because")
    running = await gateway(
        env=WORKERS,
        store={"url": valkey.url},
        workflows={"studio": {"price": 0.04}, "layer": {"price": 0}},
        providers={"prompt_studio": {"connect_timeout": "20s"}},
        clients={"one": {"budget": {"amount": 0.4, "per": "week"}}},
    )
    answers = await asyncio.gather(*(run(running, PROMPT_STUDIO_BODY) for _ in range(60)))
    assert {200: 10, 402: 50} == Counter(each.status for each in answers)
    assert 10 == len(upstream.requests("POST"))
    assert amounts("0.4", "0", "0", "0") == await settled_sums(session, running, "client:one")
    samples = await running.metrics()
    assert Decimal("0.4") == await spend(running, client="one")
    assert 50 == metric_sum(samples, "runward_budget_refusals_total", budget="client:one")
    assert [0] == [sample.value for sample in samples if sample.name == "runward_budget_remaining_ratio"]
