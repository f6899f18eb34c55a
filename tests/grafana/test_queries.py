"""Every query of every dashboard on a real Prometheus that scraped a real gateway under mixed load."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.alerts.prometheus_server import PrometheusServer, running_prometheus
from tests.alerts.prometheus_tools import find_program
from tests.grafana import mixed_load
from tests.grafana.dashboards import queries, query
from tests.grafana.mixed_load import MixedLoad
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port
from tests.support.gateway_restarts import CALLBACK_SECRETS
from tests.support.operations_port import set_mode
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.client import PostRun

pytestmark = pytest.mark.slow

TEST_TIMEOUT = 58.0  # seconds, twice the time needed on an idle machine
CHOSEN = {"__rate_interval": "1m", "namespace": ".*", "instance": ".*", "provider": ".+", "client": ".+"}
"""What Grafana would fill in with everything chosen. The whole test is within the last minute."""


@pytest.fixture
async def load(
    tmp_path: Path, upstream: FakeUpstream, receiver: FakeUpstream, gateway: StartGateway, run: PostRun
) -> AsyncIterator[MixedLoad]:
    """Load for a gateway with an account for each behaviour."""
    find_program("prometheus")
    mixed_load.script_all(upstream)
    with closed_port() as down:
        changes = mixed_load.overrides(upstream.url, down, f"sqlite:///{tmp_path}/runward.db")
        config = gateway_config(upstream.url, upstream.url, **changes)
        running = await gateway(config, {**PROVIDER_SECRETS, **CALLBACK_SECRETS})
        yield MixedLoad(run, running, receiver.url)


async def test_no_query_is_empty_and_the_sums_are_those_of_the_upstream(
    tmp_path: Path, upstream: FakeUpstream, receiver: FakeUpstream, load: MixedLoad, session: aiohttp.ClientSession
) -> None:
    """R96: runs of every outcome, refusals, callbacks, a reload, an override, a provider that is down, two clients."""
    running = load.gateway
    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await load.send(session)
        await mixed_load.reload_twice(running)
        await set_mode(session, running.ops_url, "idle", "suspended")
        async with session.get(running.ops_url + "/api/attention") as items:
            assert 200 == items.status
        await load.send(session)
        await wait_for_counts(server, load)
        assert metric_sum(await running.metrics(), "runward_runs_total") == load.answered.runs
        empty = [each for each in queries() if not await has_value(server, each.filled_in(CHOSEN))]
        assert [] == empty
        await check_sums(server, load, upstream, receiver)


async def wait_for_counts(server: PrometheusServer, load: MixedLoad) -> None:
    """Wait until a scrape has all runs, the callbacks, and the ends of the runs that are polled on."""
    wanted = {
        "sum(runward_runs_total)": load.answered.runs,
        'sum(runward_callbacks_total{result="2xx"})': 6,
        "sum(runward_followed_runs_total)": 1,
        "count(runward_budget_remaining_ratio)": 1,
    }
    while [each for each, count in wanted.items() if await server.value(each) < count]:
        await asyncio.sleep(0.2)


async def has_value(server: PrometheusServer, expr: str) -> bool:
    """Return whether a query has a result that is a number."""
    return any(not math.isnan(value) for _, value in await server.samples(expr))


async def check_sums(server: PrometheusServer, load: MixedLoad, upstream: FakeUpstream, receiver: FakeUpstream) -> None:
    """Compare what panels show with what was sent, answered and received."""
    answered = load.answered
    assert sum(answered.outcomes.values(), Counter()) == await totals(server, "overview", "Runs by outcome", "outcome")
    assert answered.codes == await totals(server, "overview", "Failed runs by code", "code")
    for client, outcomes in answered.outcomes.items():
        assert outcomes == await totals(server, "client", "Runs by outcome", "outcome", client=client)
        assert answered.refused[client] == await totals(server, "client", "Refusals by code", "code", client=client)
    assert answered.refused[""] == await totals(server, "client", "Refusals without a client", "code")
    for provider in mixed_load.REACHED:
        received = [r for r in upstream.received if account_of(r.path) == provider]
        calls = await totals(server, "provider", "Calls by result", "operation", provider=provider)
        assert Counter({"POST": "start", "GET": "poll"}[r.method] for r in received) == calls, provider
    down = await totals(server, "provider", "Calls by result", "result", provider="down")
    assert {"unreachable"} == set(down)
    studio = sum(r.path == "/v1/workflows/dep_test/run" for r in upstream.received)
    broken = sum(account_of(r.path) == "broken" for r in upstream.received)
    for certainty, amount in (("spent", 0.04 * studio), ("unknown", 0.25 * broken)):
        shown = await server.value(f'sum(runward_spend_total{{certainty="{certainty}"}})')
        assert math.isclose(shown, amount), certainty
    assert Counter({"2xx": len(receiver.received)}) == await totals(server, "store", "Callbacks by result", "result")


async def totals(server: PrometheusServer, board: str, panel: str, label: str, **chosen: str) -> Counter[str]:
    """Return what the counters of a panel have counted in all, by a label."""
    counts: Counter[str] = Counter()
    for labels, value in await server.samples(query(board, panel).totals(CHOSEN | chosen)):
        counts[labels[label]] += int(value)
    return counts


def account_of(path: str) -> str:
    """Return the provider account of a path at the fake upstream."""
    first = path.split("/")[1]
    if first in mixed_load.REACHED:
        return first
    return "promptlayer" if path.startswith(("/workflows/", "/workflow-version")) else "prompt_studio"
