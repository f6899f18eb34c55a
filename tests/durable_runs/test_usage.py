"""Usage of a gateway: the sum of its records, of its metrics and of what the providers executed."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from tests.support.client import auth_headers
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.usage import metered, recorded, usage_of
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

PRICES = {"studio": Decimal("0.04"), "layer": Decimal("0.25")}
PRICED: dict[str, JsonValue] = {name: {"price": str(price)} for name, price in PRICES.items()}


class MixedProviders:
    """Providers that do with a run what its question asks for, and count the starts that they may have executed."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self.executed = Counter[str]()
        upstream.always("POST", STUDIO_RUN, self._studio)
        upstream.always("POST", LAYER_RUN, self._layer)
        upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))

    @property
    def paid(self) -> Decimal:
        """Sum of the prices."""
        return sum((PRICES[name] * count for name, count in self.executed.items()), Decimal(0))

    async def _studio(self, wire: UpstreamConnection) -> None:
        assert wire.request is not None
        question = json.loads(wire.request.body)["input"]["question"]
        if question == "refuse":
            await reply(422, {"error": "no"})(wire)
            return
        self.executed["studio"] += 1
        if question == "break":
            await rst_after_request(wire)
        else:
            await (prompt_studio_reply("because") if question == "answer" else reply(500, {"error": "failed"}))(wire)

    async def _layer(self, wire: UpstreamConnection) -> None:
        self.executed["layer"] += 1
        await promptlayer_started(self.executed["layer"])(wire)


def body(question: str = "answer", workflow: str = "studio", **members: JsonValue) -> dict[str, JsonValue]:
    """Return the body of a run."""
    return {"workflow": workflow, "input": {"question": question}, "tags": ["a", "b"], **members}


async def send_mixed_runs(gateway: RestartableGateway, name: str) -> None:
    """Send runs of every kind and outcome; `name` makes their keys different."""
    questions = ("answer", "break", "refuse")
    ids = await asyncio.gather(*(gateway.submit_async(body(question)) for question in (*questions, "answer")))
    plain = [gateway.post(body(question)) for question in questions for _ in range(3)]
    keyed = [gateway.post(body(question), Idempotency_Key=f"{name}-{question}") for question in questions]
    layer = [gateway.post(body(workflow="layer")), gateway.post(body(workflow="layer"), Idempotency_Key=f"{name}-l")]
    await asyncio.gather(*plain, *keyed, *layer)
    for question in questions[:2]:  # repetitions start nothing, and count nothing
        await gateway.post(body(question), Idempotency_Key=f"{name}-{question}")
    await asyncio.gather(*(gateway.wait_for_end(run_id) for run_id in ids))


async def settled(session: aiohttp.ClientSession, gateway: RestartableGateway, runs: int) -> None:
    """Wait until the usage has this number of runs."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while sum((await usage_of(session, gateway.current)).runs.values()) < runs:
            await asyncio.sleep(0.05)


@pytest.fixture
def restartable(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """A gateway on a file, with prices; it is not started."""
    return RestartableGateway(gateway, session, tmp_path / "runward.db", workflows=PRICED, retries={"attempts": 1})


async def test_records_metrics_usage_and_providers_agree(
    restartable: RestartableGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    providers = MixedProviders(upstream)
    running = await restartable.start()
    await send_mixed_runs(restartable, "one")
    await settled(session, restartable, 17)
    usage, records = await usage_of(session, running), await recorded(session, running)
    assert usage == records
    assert usage.runs == {"succeeded": 3 + 1 + 2 + 2, "unknown": 3 + 1 + 1, "not_run": 3 + 1}
    assert usage.spent + usage.unknown == providers.paid
    assert usage.unknown == 5 * PRICES["studio"]
    assert await metered(running) in {None, (usage.spent, usage.unknown)}
    by_tag = await usage_of(session, running, "tag=b")
    assert (by_tag.runs, by_tag.spent, by_tag.unknown) == (usage.runs, usage.spent, usage.unknown)
    assert await usage_of(session, running, "client=two") == await recorded(session, running, "client=two")


async def test_usage_survives_a_kill(
    restartable: RestartableGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """SIGKILL amid runs: what was recorded is counted, once, and no more."""
    MixedProviders(upstream)
    await restartable.start(store={"lease": "2s"})
    for name in ("one", "two"):
        sending = asyncio.gather(send_mixed_runs(restartable, name), return_exceptions=True)
        await asyncio.sleep(random.uniform(0.05, 0.3))
        running = await restartable.kill_and_restart()
        await sending
        async with asyncio.timeout(WAIT_TIMEOUT):
            while await _unfinished(session, running.ops_url):
                await asyncio.sleep(0.1)
        assert await usage_of(session, running) == await recorded(session, running)


@pytest.mark.parametrize("keep", ["kept", "none"])
async def test_runs_without_a_record_are_counted(
    restartable: RestartableGateway, upstream: FakeUpstream, session: aiohttp.ClientSession, keep: str
) -> None:
    providers = MixedProviders(upstream)
    running = await restartable.start(history={"keep": keep})
    for _ in range(5):
        await restartable.post(body())
    await restartable.post(body("break"))
    await settled(session, restartable, 6)
    assert (await recorded(session, running)).runs == {}
    usage = await usage_of(session, running)
    assert usage.runs == {"succeeded": 5, "unknown": 1}
    assert usage.spent + usage.unknown == providers.paid
    await restartable.current.stop()
    assert await usage_of(session, await restartable.start()) == usage


async def test_a_client_reads_its_own_usage(
    restartable: RestartableGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    MixedProviders(upstream)
    running = await restartable.start(usage={"currency": "EUR"})
    await restartable.post(body())
    await settled(session, restartable, 1)

    async def read(query: str, client: str = "one") -> tuple[int, JsonValue]:
        async with session.get(f"{running.url}/usage?{query}", headers=auth_headers(client)) as answer:
            return answer.status, await answer.json()

    status, document = await read("group_by=workflow")
    assert status == 200
    assert isinstance(document, dict)
    assert document["rows"] == [{"workflow": "studio", "runs": 1, "spent": "0.04", "unknown": "0"}]
    assert document["currency"] == "EUR"
    _, other = await read("group_by=workflow", "two")
    assert isinstance(other, dict)
    assert other["rows"] == []
    assert (await read("client=two"))[0] == 422
    assert (await read("from=2026-01-01&to=2026-11-01"))[0] == 422
    async with session.get(f"{running.url}/usage") as answer:
        assert answer.status == 401


async def _unfinished(session: aiohttp.ClientSession, ops_url: str) -> int:
    count = 0
    for status in ("queued", "running"):
        async with session.get(f"{ops_url}/api/runs?status={status}") as answer:
            count += len((await answer.json())["runs"])
    async with session.get(f"{ops_url}/api/runs?status=unknown&kept=true") as answer:
        return count + sum(run["finished_at"] is None for run in (await answer.json())["runs"])
