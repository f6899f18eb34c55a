"""`/api/replays` on the operations port: a plan starts nothing; its job starts each run once, also if repeated."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, ReceivedResponse
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

JSON = {"Content-Type": "application/json"}


class OpsPort:
    """Requests to the operations port of the current gateway."""

    def __init__(self, gateways: RestartableGateway, session: aiohttp.ClientSession) -> None:
        self.gateways = gateways
        self._session = session

    async def post(self, path: str, body: JsonValue = None, headers: dict[str, str] = JSON) -> ReceivedResponse:
        """POST to the port."""
        url = f"{self.gateways.current.ops_url}{path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def get(self, replay_id: str) -> ReceivedResponse:
        """GET /api/replays/{id}."""
        async with self._session.get(f"{self.gateways.current.ops_url}/api/replays/{replay_id}") as answer:
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def plan(self, **body: JsonValue) -> dict[str, JsonValue]:
        """Return a new plan."""
        answered = await self.post("/api/replays", body)
        assert 200 == answered.status, answered.body
        return answered.json

    async def wait_for_end(self, replay_id: str) -> dict[str, JsonValue]:
        """Return a job once it has ended."""
        async with asyncio.timeout(20):
            while (found := (await self.get(replay_id)).json)["state"] == "running":
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def gateways(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file."""
    started = RestartableGateway(gateway, session, tmp_path / "runward.db")
    await started.start()
    return started


@pytest.fixture
def port(gateways: RestartableGateway, session: aiohttp.ClientSession) -> OpsPort:
    """The operations port."""
    return OpsPort(gateways, session)


async def end_runs(gateways: RestartableGateway, count: int) -> list[str]:
    """Return the ids of runs that have ended."""
    run_ids = [await gateways.submit_async(PROMPT_STUDIO_BODY) for _ in range(count)]
    for run_id in run_ids:
        await gateways.wait_for_end(run_id)
    return run_ids


def counts(document: dict[str, JsonValue], part: str, *names: str) -> tuple[JsonValue, ...]:
    """Return members of a part of the document."""
    members = document[part]
    assert isinstance(members, dict)
    return tuple(members[name] for name in names)


async def test_a_plan_starts_nothing_and_its_job_each_run_once(
    upstream: FakeUpstream, gateways: RestartableGateway, port: OpsPort
) -> None:
    """Two operators click at once, and one again later: one job, one start for each run; `unknown` is left out."""
    upstream.script("POST", STUDIO_RUN, [faults.fin_after_request, *[reply(422, {"error": "no"})] * 3])
    unknown, *refused = await end_runs(gateways, 1) + await end_runs(gateways, 3)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    await end_runs(gateways, 1)
    wanted: dict[str, JsonValue] = {"filter": {"workflow": "studio"}, "rate": 50}
    planned = await port.plan(**wanted)
    assert ("planned", 5.0 * 10, None) == (planned["state"], planned["rate"], planned["started_at"])
    names = ("total", "not_run", "failed", "unknown", "left_out", "truncated")
    left_out: JsonValue = {"outcome_unknown": 1, "succeeded": 1}
    assert (3, 3, 0, 0, left_out, False) == counts(planned, "plan", *names)
    assert 5 == len(upstream.requests("POST", STUDIO_RUN))
    order = {**wanted, "dry_run": False, "plan": planned["id"]}
    clicks = await asyncio.gather(*(port.post("/api/replays", order) for _ in range(5)))
    assert {(202, f"/api/replays/{planned['id']}")} == {(each.status, each.headers["Location"]) for each in clicks}
    ended = await port.wait_for_end(str(planned["id"]))
    progress = counts(ended, "progress", "total", "started", "already_started", "refused", "left")
    assert ("done", 3, 3, 0, 0, 0) == (ended["state"], *progress)
    assert ended == (await port.post("/api/replays", order)).json
    replays = [(await gateways.list_runs(f"replay_of={each}"))[0] for each in refused]
    for each in replays:
        assert "succeeded" == (await gateways.wait_for_end(str(each["id"])))["status"]
    assert 8 == len(upstream.requests("POST", STUDIO_RUN))
    again = await port.plan(ids=[*refused, unknown], include_unknown=True)
    assert (1, 1, {"already_replayed": 3}) == counts(again, "plan", "total", "unknown", "left_out")


async def test_a_job_is_continued_after_a_crash(
    upstream: FakeUpstream, gateways: RestartableGateway, port: OpsPort
) -> None:
    """SIGKILL in the middle: the next gateway starts the rest; no run is started twice."""
    upstream.always("POST", STUDIO_RUN, reply(422, {"error": "no"}))
    run_ids = await end_runs(gateways, 12)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    planned = await port.plan(ids=list(run_ids), rate=4)
    order: JsonValue = {"ids": list(run_ids), "rate": 4, "dry_run": False, "plan": planned["id"]}
    await port.post("/api/replays", order)
    async with asyncio.timeout(20):
        while len(upstream.requests("POST", STUDIO_RUN)) < 16:
            await asyncio.sleep(0.01)
    await gateways.kill_and_restart()
    ended = await port.wait_for_end(str(planned["id"]))
    assert ("done", 12, 0) == (ended["state"], *counts(ended, "progress", "started", "left"))
    for run_id in run_ids:
        (replay,) = await gateways.list_runs(f"replay_of={run_id}")
        assert (await gateways.wait_for_end(str(replay["id"])))["status"] in {"succeeded", "unknown"}
    assert 24 == len(upstream.requests("POST", STUDIO_RUN))


async def test_an_abort_stops_a_job(upstream: FakeUpstream, gateways: RestartableGateway, port: OpsPort) -> None:
    """And a plan, which then starts nothing."""
    upstream.always("POST", STUDIO_RUN, reply(422, {"error": "no"}))
    run_ids: list[JsonValue] = list(await end_runs(gateways, 10))
    planned = await port.plan(ids=run_ids, rate=1)
    order: JsonValue = {"ids": run_ids, "rate": 1, "dry_run": False, "plan": planned["id"]}
    assert 202 == (await port.post("/api/replays", order)).status
    path = f"/api/replays/{planned['id']}/abort"
    aborted = await port.post(path)
    assert (200, "aborted") == (aborted.status, aborted.json["state"])
    await asyncio.sleep(1.2)
    before = len(upstream.requests("POST", STUDIO_RUN))
    assert before <= 12
    assert ["aborted"] * 2 == [(await port.post(*each)).json["state"] for each in ((path,), ("/api/replays", order))]
    other = await port.plan(ids=run_ids, rate=1)
    assert "aborted" == (await port.post(f"/api/replays/{other['id']}/abort")).json["state"]
    start: JsonValue = {"ids": run_ids, "rate": 1, "dry_run": False, "plan": other["id"]}
    assert "aborted" == (await port.post("/api/replays", start)).json["state"]
    await asyncio.sleep(1.2)
    assert before == len(upstream.requests("POST", STUDIO_RUN))


async def test_bad_requests_plan_nothing(upstream: FakeUpstream, port: OpsPort) -> None:
    """A filter that matches nothing is a plan of nothing, which can be carried out."""
    empty = await port.plan(
        filter={"status": "failed", "tag": ["a", "b"], "meta.x": "y", "min_duration": 1, "api": "run"}
    )
    assert (0, {}, False) == counts(empty, "plan", "total", "left_out", "truncated")
    run_id = "run_" + "0" * 32
    bad: list[JsonValue] = [
        {},
        {"filter": {}, "ids": [run_id]},
        {"ids": []},
        {"ids": ["x"]},
        {"ids": [run_id] * 1001},
        {"filter": {"nothing": "x"}},
        {"filter": {"nothing": []}},
        {"filter": {}, "ids": None},
        {"filter": None},
        {"filter": {"limit": 5}},
        {"filter": {"cursor": "x"}},
        {"filter": {"idempotency_key": "x", "client": "one"}},
        {"filter": {"api": "other"}},
        {"filter": {"status": ["failed", "unknown"]}},
        {"filter": {"client": ["one", "two"]}},
        {"filter": {}, "rate": 0.1},
        {"filter": {}, "rate": 1000},
        {"filter": {}, "dry_run": False},
        {"filter": {}, "plan": empty["id"]},
        {"filter": {}, "plan": empty["id"], "dry_run": False},
        {"filter": {}, "other": 1},
    ]
    answers = [await port.post("/api/replays", each) for each in bad]
    assert [(422, "invalid_request")] * len(bad) == [each.summary[:2] for each in answers]
    missing: JsonValue = {"filter": {}, "dry_run": False, "plan": "rpl_" + "0" * 32}
    answers = [await port.post("/api/replays", missing), await port.get("rpl_x"), await port.get("a" * 300)]
    answers.append(await port.post(f"/api/replays/rpl_{'0' * 32}/abort"))
    assert [(404, "replay_not_found")] * 4 == [each.summary[:2] for each in answers]
    crossing = await port.post("/api/replays", {"filter": {}}, {**JSON, "Origin": "http://evil.example"})
    assert (403, "forbidden") == crossing.summary[:2]
    assert [] == upstream.requests("POST", STUDIO_RUN)
