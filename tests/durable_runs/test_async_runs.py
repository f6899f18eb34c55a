"""Asynchronous runs: acceptance, look-up, listing, limits, and survival of the process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, cast

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, PostRun, ReceivedResponse, auth_headers
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import FINAL_STATUSES
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

pytestmark = pytest.mark.shared_gateway

DONE = prompt_studio_reply({"completion": "because"})


class RunsClient:
    """Client of the runs API."""

    def __init__(self, session: aiohttp.ClientSession, run: PostRun, gateway: GatewayProcess) -> None:
        self._session = session
        self._run = run
        self.gateway = gateway

    async def accept(self, body: Mapping[str, JsonValue] = PROMPT_STUDIO_BODY, **headers: str) -> ReceivedResponse:
        """POST /run asynchronously; asserts that it is accepted."""
        answered = await self._run(self.gateway, body, **({"Prefer": "respond-async"} | headers))
        assert 202 == answered.status, answered.body
        return answered

    async def get(self, target: str, *, client: str = "one", method: str = "GET") -> ReceivedResponse:
        """Send a request without a body."""
        url = self.gateway.url + target
        async with self._session.request(method, url, headers=auth_headers(client)) as answer:
            return ReceivedResponse(answer.status, answer.headers, await answer.read(), 0.0)

    async def wait_for_end(self, accepted: ReceivedResponse) -> dict[str, JsonValue]:
        """Return the accepted run once it has its final status."""
        async with asyncio.timeout(30):
            while (shown := (await self.get(f"/runs/{accepted.json['id']}?wait=5")).json)[
                "status"
            ] not in FINAL_STATUSES:
                pass
        return shown

    async def page(self, query: str = "", *, client: str = "one") -> tuple[list[str], JsonValue]:
        """GET /runs: returns the ids and the next cursor."""
        answered = await self.get("/runs?" + query, client=client)
        assert 200 == answered.status, answered.body
        runs = answered.json["runs"]
        assert isinstance(runs, list)
        return [str(run["id"]) for run in runs if isinstance(run, dict)], answered.json["next"]

    async def events(self, run_id: JsonValue) -> list[tuple[str, JsonValue]]:
        """Return every server-sent event until the stream ends: its name, and the status in its data."""
        headers = auth_headers("one") | {"Accept": "text/event-stream"}
        async with asyncio.timeout(30), self._session.get(f"{self.gateway.url}/runs/{run_id}", headers=headers) as it:
            assert (200, "text/event-stream") == (it.status, it.headers["Content-Type"])
            blocks = (await it.text()).removesuffix("\n\n").split("\n\n")
        found = (re.fullmatch(r"id: \d+-\w+\nevent: (\w+)\ndata: (.*)", block) for block in blocks)
        return [(match[1], json.loads(match[2])["status"]) for match in found if match is not None]


def run_ids(answers: Sequence[ReceivedResponse]) -> list[str]:
    """Ids of the accepted runs, newest first."""
    return [str(answered.json["id"]) for answered in reversed(answers)]


class StartRunsClient(Protocol):
    """Type of the fixture `start_client`."""

    async def __call__(self, **overrides: JsonValue) -> RunsClient:
        """Start a gateway; returns its first client."""


@pytest.fixture
def start_client(gateway: StartGateway, session: aiohttp.ClientSession, run: PostRun) -> StartRunsClient:
    """Factory of gateways with a client."""

    async def start(**overrides: JsonValue) -> RunsClient:
        return RunsClient(session, run, await gateway(None, PROVIDER_SECRETS, **overrides))

    return start


async def test_a_run_is_accepted_and_looked_up(upstream: FakeUpstream, start_client: StartRunsClient) -> None:
    """R46: 202 with Location and an id of 128 random bits; then the run as a waiting client would receive it."""
    upstream.default = faults.delayed(0.2, DONE)
    client = await start_client()
    accepted = await client.accept({**PROMPT_STUDIO_BODY, "metadata": {"team": "a"}})
    run_id = str(accepted.json["id"])
    assert re.fullmatch("run_[0-9a-f]{32}", run_id)
    assert (f"/runs/{run_id}", "queued") == (accepted.headers["Location"], accepted.json["status"])
    shown = await client.wait_for_end(accepted)
    assert (run_id, "succeeded", {"completion": "because"}, 1, {"team": "a"}) == tuple(
        shown[name] for name in ("id", "status", "output", "attempts", "metadata")
    )
    assert ("error" not in shown, 1) == (True, len(upstream.received))


@pytest.mark.parametrize(
    ("prefer", "status"),
    [
        ("respond-async", 202),
        ("Respond-Async, wait=10", 202),
        ("wait=10,respond-async;x=1", 202),
        ("respond-async-not", 200),
        ("wait=10", 200),
    ],
)
async def test_prefer(upstream: FakeUpstream, gateway: StartGateway, run: PostRun, prefer: str, status: int) -> None:
    """RFC 7240: case-insensitive, one of several preferences; unknown preferences are ignored."""
    upstream.default = DONE
    assert status == (await run(await gateway(), PROMPT_STUDIO_BODY, Prefer=prefer)).status


@pytest.mark.parametrize(
    ("results", "final"),
    [
        (promptlayer_done({"Answer": node("because")}), "succeeded"),
        (promptlayer_done({"Answer": node(None, "FAILED", error="no")}), "failed"),
        (reply(401, {}), "unknown"),
    ],
    ids=["succeeded", "failed", "unknown"],
)
async def test_states_only_move_forward(
    upstream: FakeUpstream, start_client: StartRunsClient, results: faults.ResponseScript, final: str
) -> None:
    """R46: a stream has each state once, polling never goes back, and both have the same end."""
    upstream.always("POST", LAYER_RUN, faults.delayed(0.2, promptlayer_started(787)))
    upstream.script("GET", LAYER_RESULTS, [promptlayer_running()] * 3)
    upstream.always("GET", LAYER_RESULTS, results)
    client = await start_client()
    accepted = await client.accept(PROMPTLAYER_BODY)
    listening = asyncio.ensure_future(client.events(accepted.json["id"]))
    seen: list[JsonValue] = ["queued"]
    async with asyncio.timeout(20):
        while seen[-1] not in FINAL_STATUSES:
            status = (await client.get(f"/runs/{accepted.json['id']}")).json["status"]
            seen += [status] * (status != seen[-1])
    assert ["queued", "running", final] == seen
    heard = [event for event in await listening if event[0] != "node"]
    assert [(name, name) for name, _ in heard] == heard
    names = [name for name, _ in heard]
    assert names in (["queued", "running", final], ["running", final])


async def test_a_run_without_a_key_is_looked_up_after_its_deadline(
    upstream: FakeUpstream, start_client: StartRunsClient, run: PostRun
) -> None:
    """It is polled on: `GET /runs/{id}` says `unknown` without an end, then how the run ended; one start."""
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    client = await start_client(polling={"follow_for": "60s"})
    answered = await run(client.gateway, {**PROMPTLAYER_BODY, "timeout": 1.0})
    # The code is that of the last poll if the deadline cuts it.
    assert ("unknown", "787") == (answered.json["outcome"], answered.json["provider_run_id"])
    where = f"/runs/{answered.json['run_id']}"
    shown = (await client.get(where)).json
    assert ("unknown", None) == (shown["status"], shown["finished_at"])
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    shown = (await client.get(f"{where}?wait=20")).json
    assert ("succeeded", "because", 1) == (shown["status"], shown["output"], len(upstream.requests("POST")))


async def test_waiting_ends_with_the_run_or_the_time(upstream: FakeUpstream, start_client: StartRunsClient) -> None:
    """`?wait=` answers when the run has ended, or with the current state after the time."""
    go = asyncio.Event()

    async def held(wire: UpstreamConnection) -> None:
        await go.wait()
        await DONE(wire)

    upstream.default = held
    client = await start_client(workflows={"studio": {"timeout": "30s", "max_timeout": "30s"}})
    where = f"/runs/{(await client.accept()).json['id']}"
    await wait_until(lambda: upstream.received)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert "running" == (await client.get(where + "?wait=1")).json["status"]
    assert loop.time() - started >= 0.9
    waiting = asyncio.ensure_future(client.get(where + "?wait=30"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    go.set()
    async with asyncio.timeout(10):
        assert "succeeded" == (await waiting).json["status"]


@pytest.mark.own_gateway
async def test_listing(upstream: FakeUpstream, start_client: StartRunsClient) -> None:
    """Newest first, paginated, each run once, filtered; only runs of the client."""
    upstream.default = DONE
    upstream.always("POST", LAYER_RUN, reply(500, {}))
    client = await start_client()
    studio = [await client.accept() for _ in range(5)]
    layer = [await client.accept(PROMPTLAYER_BODY) for _ in range(2)]
    for accepted in studio + layer:
        await client.wait_for_end(accepted)
    everything = run_ids(studio + layer)
    assert (everything, None) == await client.page()
    pages, cursor = [], ""
    while True:
        page, following = await client.page("limit=3" + cursor)
        pages.append(page)
        if following is None:
            break
        cursor = f"&cursor={following}"
    assert [everything[:3], everything[3:6], everything[6:]] == pages
    assert run_ids(studio) == (await client.page("workflow=studio"))[0]
    assert run_ids(layer) == (await client.page("status=unknown"))[0]
    assert [] == (await client.page("status=unknown&workflow=studio"))[0]
    assert ([], None) == await client.page(client="two")


@pytest.mark.own_gateway
async def test_search(upstream: FakeUpstream, start_client: StartRunsClient) -> None:
    """Every condition finds its runs; their tags are in the answers, in lists and in the run."""
    upstream.default = DONE
    upstream.always("POST", LAYER_RUN, reply(500, {}))
    client = await start_client()
    before = datetime.now(UTC)
    first = await client.accept({**PROMPT_STUDIO_BODY, "tags": ["team:b", "a"], "metadata": {"ticket": "4711"}})
    second = await client.accept({**PROMPT_STUDIO_BODY, "tags": ["a"]})
    third = await client.accept({**PROMPTLAYER_BODY, "metadata": {"ticket": "4711"}})
    assert [["team:b", "a"], ["a"], None] == [answered.json.get("tags") for answered in (first, second, third)]
    ended = [await client.wait_for_end(accepted) for accepted in (first, second, third)]
    assert [["team:b", "a"], ["a"], None] == [shown.get("tags") for shown in ended]
    error = ended[2]["error"]
    assert isinstance(error, dict)
    searches = {
        "tag=a": [second, first],
        "tag=a&tag=team:b": [first],
        "tag=team": [],
        "meta.ticket=4711": [third, first],
        "meta.ticket=4711&tag=a": [first],
        f"code={error['code']}": [third],
        "provider=promptlayer": [third],
        f"id={str(second.json['id'])[:20]}": [second],
        f"created_after={before:%Y-%m-%dT%H:%M:%SZ}": [third, second, first],
        f"created_before={before:%Y-%m-%dT%H:%M:%SZ}": [],
        "min_duration=3600": [],
        "max_duration=3600&status=succeeded": [second, first],
    }
    for query, expected in searches.items():
        answered = await client.get("/runs?" + query)
        assert (200, True) == (answered.status, answered.json["complete"]), answered.body
        runs = cast("list[dict[str, JsonValue]]", answered.json["runs"])
        assert [run.json["id"] for run in expected] == [run["id"] for run in runs], query
        assert [run.json.get("tags") for run in expected] == [run.get("tags") for run in runs]
    _, cursor = await client.page("tag=a&limit=1")
    assert ([first.json["id"]], None) == await client.page(f"tag=a&cursor={cursor}")
    assert (422, "invalid_request") == (await client.get(f"/runs?cursor={cursor}")).summary[:2]


@pytest.mark.own_gateway
async def test_a_run_that_is_not_stored_is_not_listed(
    upstream: FakeUpstream, start_client: StartRunsClient, run: PostRun
) -> None:
    """Synchronous runs without a key are not stored."""
    upstream.default = DONE
    client = await start_client()
    answered = await run(client.gateway, PROMPT_STUDIO_BODY)
    assert 404 == (await client.get(f"/runs/{answered.json['id']}")).status
    kept = await run(client.gateway, PROMPT_STUDIO_BODY, Idempotency_Key="k")
    assert ([kept.json["id"]], None) == await client.page()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=", "limit=-1", "limit=%C2%B2", "limit=1e1", "limit=99999",
        "status=done", "status=", "cursor=x", "cursor=", "cursor=bmFuOng=", "cursor=aW5mOng=", "cursor=%FF", "cursor=é",
        "tag=%20", "meta.=1", "code=none", "id=run_1", "created_after=now", "min_duration=-1", "unknown=1",
    ],
)  # fmt: skip
async def test_bad_queries(start_client: StartRunsClient, query: str) -> None:
    """422 with the errors."""
    answered = await (await start_client()).get("/runs?" + query)
    assert (422, "invalid_request") == answered.summary[:2]
    errors = answered.json["errors"]
    assert isinstance(errors, list)
    assert "?" + query.partition("=")[0] == dict(errors[0])["pointer"]  # type: ignore[arg-type]  # an object


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "", "%C2%B2", "99999"])
async def test_bad_waits(upstream: FakeUpstream, start_client: StartRunsClient, wait: str) -> None:
    """422 with the errors."""
    upstream.default = DONE
    client = await start_client()
    run_id = (await client.accept()).json["id"]
    assert (422, "invalid_request") == (await client.get(f"/runs/{run_id}?wait={wait}")).summary[:2]


async def test_a_run_of_another_client_looks_like_a_missing_run(
    upstream: FakeUpstream, start_client: StartRunsClient
) -> None:
    """R78: the responses differ in the request id only."""
    upstream.default = DONE
    client = await start_client()
    accepted = await client.accept()
    foreign = await client.get(f"/runs/{accepted.json['id']}", client="two")
    unknown = [await client.get(f"/runs/{name}", client="two") for name in ("run_" + "0" * 32, "x", "%00", "é", "")]
    for other in unknown:
        assert 404 == other.status
        assert {**foreign.json, "request_id": ""} == {**other.json, "request_id": ""}
    assert 200 == (await client.get(f"/runs/{accepted.json['id']}")).status


async def test_methods(upstream: FakeUpstream, start_client: StartRunsClient) -> None:
    """HEAD is GET without the body; other methods get a 405 with Allow."""
    upstream.default = DONE
    client = await start_client()
    run_id = (await client.accept()).json["id"]
    for target in ("/runs", f"/runs/{run_id}"):
        head = await client.get(target, method="HEAD")
        assert (200, b"") == (head.status, head.body)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            refused = await client.get(target, method=method)
            assert (405, "GET, HEAD") == (refused.status, refused.headers["Allow"])


async def test_the_providers_limit_holds_in_the_background(
    upstream: FakeUpstream, start_client: StartRunsClient
) -> None:
    """All runs are accepted, one at a time is sent, and all of them end."""
    most = now = 0

    async def counting(wire: UpstreamConnection) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        await DONE(wire)

    upstream.default = counting
    client = await start_client(
        providers={"prompt_studio": {"limits": {"concurrency": 1}}},
        workflows={"studio": {"timeout": "60s", "max_timeout": "60s"}},
    )
    accepted = [await client.accept() for _ in range(20)]
    assert {"succeeded"} == {(await client.wait_for_end(each))["status"] for each in accepted}
    assert (1, 20) == (most, len(upstream.received))


async def test_a_deadline_that_passes_in_the_queue_ends_a_run(
    upstream: FakeUpstream, start_client: StartRunsClient
) -> None:
    """Its outcome is not_run, and the provider receives nothing."""
    upstream.default = faults.hang
    client = await start_client(providers={"prompt_studio": {"limits": {"concurrency": 1}}})
    first = await client.accept()
    await wait_until(lambda: upstream.received)
    second = await client.wait_for_end(await client.accept({**PROMPT_STUDIO_BODY, "timeout": 1.5}))
    error = second["error"]
    assert isinstance(error, dict)
    assert ("not_run", "deadline_exceeded", 0) == (second["status"], error["code"], second["attempts"])
    assert "unknown" == (await client.wait_for_end(first))["status"]
    assert 1 == len(upstream.received)
    samples = await client.gateway.metrics()
    assert 2 == metric_sum(samples, "runward_run_errors_total", provider="prompt_studio", fault="provider")


async def test_the_queue_is_bounded(upstream: FakeUpstream, start_client: StartRunsClient, run: PostRun) -> None:
    """One more run is a 503 with Retry-After; other clients have separate queues."""
    upstream.default = faults.hang
    client = await start_client(server={"max_queued": 3})
    asked = [run(client.gateway, PROMPT_STUDIO_BODY, Prefer="respond-async") for _ in range(10)]
    answers = await asyncio.gather(*asked)
    refused = [answered for answered in answers if answered.status != 202]
    assert [(503, "overloaded", "not_run")] * 7 == [answered.summary for answered in refused]
    assert all(int(answered.headers["Retry-After"]) > 0 for answered in refused)
    assert 202 == (await run(client.gateway, PROMPT_STUDIO_BODY, client="two", Prefer="respond-async")).status
    for answered in answers:
        if answered.status == 202:
            await client.wait_for_end(answered)
    await client.accept()


def durable_settings(tmp_path: Path) -> dict[str, JsonValue]:
    """Settings with a persistent store and long deadlines."""
    slow: JsonValue = {"timeout": "30s", "max_timeout": "30s"}
    return {"store": {"url": f"sqlite:///{tmp_path}/runs.db"}, "workflows": {"studio": slow, "layer": slow}}


@pytest.mark.own_gateway
async def test_a_gateway_that_stops_loses_no_run(
    upstream: FakeUpstream, start_client: StartRunsClient, tmp_path: Path
) -> None:
    """R98: starts in flight are completed; the next gateway polls started runs and starts queued ones."""
    upstream.always("POST", STUDIO_RUN, faults.delayed(1.0, DONE))
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    limits: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1}}}
    client = await start_client(**durable_settings(tmp_path), providers=limits)
    sending, followed = await client.accept(), await client.accept(PROMPTLAYER_BODY)
    await wait_until(lambda: upstream.requests("POST", STUDIO_RUN) and upstream.requests("GET"))
    queued = await client.accept()
    assert 0 == await client.gateway.stop()
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    client = await start_client(**durable_settings(tmp_path), providers=limits)
    assert ["succeeded"] * 3 == [(await client.wait_for_end(each))["status"] for each in (sending, followed, queued)]
    assert (2, 1) == (len(upstream.requests("POST", STUDIO_RUN)), len(upstream.requests("POST", LAYER_RUN)))


@pytest.mark.own_gateway
async def test_a_second_signal_ends_the_process_at_once(
    upstream: FakeUpstream, start_client: StartRunsClient, tmp_path: Path
) -> None:
    """R98: a start without a response is abandoned; the next process reports its outcome as unknown."""
    upstream.default = faults.hang
    client = await start_client(**durable_settings(tmp_path))
    accepted = await client.accept()
    await wait_until(lambda: upstream.received)
    stopping = asyncio.ensure_future(client.gateway.stop())
    await wait_until(lambda: client.gateway.logs("draining"))
    await asyncio.sleep(0.5)
    assert not stopping.done()
    os.kill(client.gateway.pid, signal.SIGTERM)
    async with asyncio.timeout(5):
        assert 0 == await stopping
    client = await start_client(**durable_settings(tmp_path))
    assert "unknown" == (await client.wait_for_end(accepted))["status"]
    assert 1 == len(upstream.received)
