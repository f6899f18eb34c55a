"""Limits are shared by all workers: for providers and for clients (R89)."""

from __future__ import annotations

from providers.contract import JsonValue
from tests.conftest import StartGateway
from tests.supervisor.load import runs_by_worker, under_load
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import metric_sum
from tests.support.valkey import ValkeyServer
from tests.support.waiting import wait_until

WORKERS = {**PROVIDER_SECRETS, "RUNWARD_WORKERS": "3"}
ANSWER = prompt_studio_reply({"completion": "because"})


async def test_a_providers_rate_holds_over_three_workers(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway
) -> None:
    """R89: at most 5 calls per second and the burst, with waiting runs at all three workers."""
    upstream.default = ANSWER
    limits: dict[str, JsonValue] = {"rate": "5/s", "burst": 2, "max_wait": "2s"}
    running = await gateway(env=WORKERS, store={"url": valkey.url}, providers={"prompt_studio": {"limits": limits}})
    async with under_load(running, 15) as load:
        await wait_until(lambda: len(runs_by_worker(running)) == 3 and len(upstream.received) >= 25)
    times = [request.complete_at for request in upstream.requests("POST")]
    # A call is seen some time after it was counted: the window is shorter by what that may be.
    assert 5 + 2 >= max(sum(first <= at < first + 0.9 for at in times) for first in times)
    assert {200: len(times)} == {200: load.statuses[200]}
    assert {200, 503} >= set(load.statuses)


async def test_a_clients_rate_is_exact_over_three_workers(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway
) -> None:
    """R85, R89: the burst passes, at any worker; all other requests get 429."""
    upstream.default = ANSWER
    running = await gateway(
        env=WORKERS, store={"url": valkey.url}, clients={"one": {"limits": {"rate": "20/h", "burst": 20}}}
    )
    async with under_load(running, 6) as load:
        await wait_until(lambda: len(runs_by_worker(running)) == 3 and load.answered > 80)
    assert {200: 20, 429: load.answered - 20} == load.statuses
    assert 20 == len(upstream.received)
    shown = [s.value for s in await running.metrics() if s.name == "runward_limits_shared"]
    refused = metric_sum(await running.metrics(), "runward_refusals_total", client="one", code="rate_limited")
    assert ([1.0], load.statuses[429]) == (shown, refused)
