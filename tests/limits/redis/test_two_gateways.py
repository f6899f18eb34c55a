"""Two gateways and one server: the load of both together at the provider (R89)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.valkey import running_server

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

TIMEOUT = 60.0  # seconds; only a hanging test takes so long


async def _flood(run: PostRun, gateways: list[GatewayProcess], requests: int) -> Counter[int]:
    """Send `requests` requests to each gateway at once; return the number of responses by status."""

    async def one(gateway: GatewayProcess) -> int:
        return (await run(gateway, PROMPT_STUDIO_BODY)).status

    async with asyncio.timeout(TIMEOUT):
        return Counter(await asyncio.gather(*(one(gateway) for _ in range(requests) for gateway in gateways)))


def _limits(**limits: JsonValue) -> dict[str, JsonValue]:
    return {"prompt_studio": {"limits": limits}}


async def test_a_rate_holds_over_two_gateways(
    gateway: StartGateway, run: PostRun, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """R89: the provider never sees more calls than 5 a second and the burst; the other requests are refused."""
    upstream.default = prompt_studio_reply("because")
    with running_server(tmp_path / "valkey") as server:
        limits = _limits(rate="5/s", burst=3, max_wait="2s")
        both = [await gateway(store={"url": server.url}, providers=limits) for _ in range(2)]
        began = time.monotonic()
        statuses = await _flood(run, both, 30)
        await asyncio.gather(*(each.stop() for each in both))
    times = sorted(request.complete_at for request in upstream.requests("POST"))
    assert [] == [n for n, at in enumerate(times, 1) if n > 3 + 5 * (at - began) + 1]
    assert {200: len(times), 503: 60 - len(times)} == statuses
    assert len(times) >= 8


async def test_a_cap_holds_over_two_gateways(
    gateway: StartGateway, run: PostRun, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """At most 3 runs at once at the provider, and each gateway gets slots."""
    running, most = 0, 0

    async def busy(wire: UpstreamConnection) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        await prompt_studio_reply("because")(wire)

    upstream.default = busy
    with running_server(tmp_path / "valkey") as server:
        limits = _limits(concurrency=3, max_wait="20s")
        slow: dict[str, JsonValue] = {"studio": {"timeout": "30s", "max_timeout": "30s"}}
        both = [await gateway(store={"url": server.url}, providers=limits, workflows=slow) for _ in range(2)]
        assert {200: 40} == await _flood(run, both, 20)
        shown = [sample for each in both for sample in await each.metrics() if sample.name == "runward_limits_shared"]
        await asyncio.gather(*(each.stop() for each in both))
    assert 3 == most
    assert [1.0, 1.0] == [sample.value for sample in shown]
