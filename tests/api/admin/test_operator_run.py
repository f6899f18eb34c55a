"""`POST /api/run`: an operator starts a run on behalf of a client, as the client itself would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

ORDER: dict[str, Any] = {"client": "one", "idempotency_key": "console-1", "run": {**PROMPT_STUDIO_BODY}}


async def start(
    session: aiohttp.ClientSession, running: GatewayProcess, key: str = "", **changes: Any
) -> tuple[int, dict[str, Any]]:
    """POST /api/run; returns status and document."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with session.post(f"{running.ops_url}/api/run", json={**ORDER, **changes}, headers=headers) as answer:
        return answer.status, await answer.json()


async def ended(session: aiohttp.ClientSession, running: GatewayProcess, run_id: str) -> dict[str, Any]:
    """Return the run of a client once it has ended, as the client reads it."""
    async with session.get(f"{running.url}/runs/{run_id}?wait=20", headers=auth_headers("one")) as answer:
        document: dict[str, Any] = await answer.json()
        return document


@pytest.fixture(params=["one process", "two workers"])
async def running(
    request: pytest.FixtureRequest, gateway: StartGateway, upstream: FakeUpstream, tmp_path: Path
) -> GatewayProcess:
    """A gateway with a durable store."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    if request.param == "two workers":
        return await gateway(env=WORKERS, store={"url": request.getfixturevalue("valkey").url})
    return await gateway(store={"url": f"sqlite:///{tmp_path}/runward.db"})


async def test_it_is_the_clients_run_and_is_started_once(
    running: GatewayProcess, session: aiohttp.ClientSession, run: PostRun, upstream: FakeUpstream
) -> None:
    """The client finds it, and its own request with the same key and body gets the same run."""
    first = await start(session, running)
    assert (202, "one", False) == (first[0], first[1]["client"], first[1]["replayed"])
    run_id = first[1]["id"]
    document = await ended(session, running, run_id)
    assert ("succeeded", "because") == (document["status"], document["output"])
    assert (202, {**first[1], "replayed": True}) == await start(session, running)
    headers = {"Idempotency_Key": "console-1", "Prefer": "respond-async"}
    assert run_id == (await run(running, PROMPT_STUDIO_BODY, **headers)).json["id"]
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))
    status, document = await start(session, running, run={**PROMPT_STUDIO_BODY, "input": {"other": "1"}})
    assert (422, "idempotency_mismatch") == (status, document["code"])
    assert 1 == metric_sum(await running.metrics(), "runward_runs_total", client="one")


async def test_a_refusal_is_that_of_the_client(running: GatewayProcess, session: aiohttp.ClientSession) -> None:
    """With the location of each error; nothing is sent."""
    refused = {
        "unknown client": await start(session, running, client="nothing"),
        "unknown workflow": await start(session, running, run={"workflow": "nothing"}),
        "empty key": await start(session, running, idempotency_key=" x"),
        "input that is no object": await start(session, running, run={"workflow": "studio", "input": []}),
    }
    assert {
        "unknown client": (422, "invalid_request", "/client"),
        "unknown workflow": (404, "workflow_not_found", None),
        "empty key": (400, "invalid_idempotency_key", None),
        "input that is no object": (422, "invalid_request", "/run/input"),
    } == {
        name: (status, document["code"], document.get("errors", [{}])[0].get("pointer"))
        for name, (status, document) in refused.items()
    }


async def test_the_operator_is_named_in_the_log_and_a_viewer_starts_nothing(
    gateway: StartGateway, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    operator, viewer = new_key(SystemClock()), new_key(SystemClock())
    keys: JsonValue = [{"hash": hash_key(operator), "name": "omar"}, {"hash": hash_key(viewer), "role": "viewer"}]
    running = await gateway(server={"ops_keys": keys})
    assert 403 == (await start(session, running, viewer))[0]
    status, document = await start(session, running, operator)
    assert 202 == status
    await wait_until(lambda: bool(running.logs("operator_run_started")))
    [line] = running.logs("operator_run_started")
    assert (document["id"], "one", "omar") == (line["run_id"], line["client"], line["actor"])
    assert 404 == (await start(session, running, operator, idempotency_key="2", run={"workflow": "nothing"}))[0]
    headers = {"Authorization": f"Bearer {viewer}"}
    async with session.get(f"{running.ops_url}/api/audit?action=runs.start", headers=headers) as answer:
        records = (await answer.json())["records"]
    assert [
        ("refused", "workflow_not_found", "", {}),
        ("succeeded", "", document["id"], {"client": "one", "workflow": "studio"}),
        ("refused", "forbidden", "", {}),
    ] == [
        tuple(each[name] for name in ("result", "code", "target", "details"))
        for each in records
        if each["result"] != "begun"
    ]


async def test_a_port_without_keys_starts_no_paid_run_over_the_network(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """Unless it listens on a loopback address."""
    running = await gateway(server={"ops_host": "0.0.0.0"})
    port = running.ops_url.rpartition(":")[2]
    async with session.post(f"http://127.0.0.1:{port}/api/run", json=ORDER) as answer:
        document = await answer.json()
    assert (403, "forbidden") == (answer.status, document["code"])
    assert [] == upstream.received
