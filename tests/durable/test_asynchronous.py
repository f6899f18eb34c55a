"""Runs that nobody waits for: accepted, looked up, listed, held to every limit, and not lost when the process ends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.client import LAYER, STUDIO, Answered, RunWorkflow, bearer
from tests.configuration import SECRETS
from tests.durable.lives import FINAL, until
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire
    from tests.process import Gateway

DONE = prompt_studio_reply({"completion": "because"})


class Calls:
    """One client's look at its runs."""

    def __init__(self, session: aiohttp.ClientSession, run: RunWorkflow, gateway: Gateway) -> None:
        self._session = session
        self._run = run
        self.gateway = gateway

    async def accept(self, body: Mapping[str, JsonValue] = STUDIO, **headers: str) -> Answered:
        """POST /run without waiting for the end; it is accepted."""
        answered = await self._run(self.gateway, body, **({"Prefer": "respond-async"} | headers))
        assert 202 == answered.status, answered.body
        return answered

    async def get(self, target: str, *, client: str = "one", method: str = "GET") -> Answered:
        """Any request without a body."""
        url = self.gateway.url + target
        async with self._session.request(method, url, headers=bearer(client)) as answer:
            return Answered(answer.status, answer.headers, await answer.read(), 0.0)

    async def ended(self, accepted: Answered) -> dict[str, JsonValue]:
        """The run that was accepted, once it has its final status."""
        async with asyncio.timeout(30):
            while (shown := (await self.get(f"/runs/{accepted.json['id']}?wait=5")).json)["status"] not in FINAL:
                pass
        return shown

    async def page(self, query: str = "", *, client: str = "one") -> tuple[list[str], JsonValue]:
        """GET /runs: the ids, and the next cursor."""
        answered = await self.get("/runs?" + query, client=client)
        assert 200 == answered.status, answered.body
        runs = answered.json["runs"]
        assert isinstance(runs, list)
        return [str(run["id"]) for run in runs if isinstance(run, dict)], answered.json["next"]

    async def events(self, run_id: JsonValue) -> list[tuple[str, JsonValue]]:
        """Every server-sent event until the stream ends: its name, and the status in its data."""
        headers = bearer("one") | {"Accept": "text/event-stream"}
        async with asyncio.timeout(30), self._session.get(f"{self.gateway.url}/runs/{run_id}", headers=headers) as it:
            assert (200, "text/event-stream") == (it.status, it.headers["Content-Type"])
            blocks = (await it.text()).removesuffix("\n\n").split("\n\n")
        found = (re.fullmatch(r"event: (\w+)\ndata: (.*)", block) for block in blocks)
        return [(match[1], json.loads(match[2])["status"]) for match in found if match is not None]


def ids(answers: Sequence[Answered]) -> list[str]:
    """Of runs that were accepted, newest first."""
    return [str(answered.json["id"]) for answered in reversed(answers)]


class StartCalls(Protocol):
    """The fixture `serve`."""

    async def __call__(self, **overrides: JsonValue) -> Calls:
        """Start a gateway, and look at it as its first client."""


@pytest.fixture
def serve(gateway: StartGateway, session: aiohttp.ClientSession, run: RunWorkflow) -> StartCalls:
    """A gateway and what a client does with it."""

    async def start(**overrides: JsonValue) -> Calls:
        return Calls(session, run, await gateway(None, SECRETS, **overrides))

    return start


async def test_a_run_is_accepted_and_looked_up(upstream: Upstream, serve: StartCalls) -> None:
    """R46: 202, where to look, an id of 128 random bits; then the run as a waiting client would have it."""
    upstream.default = faults.after(0.2, DONE)
    calls = await serve()
    accepted = await calls.accept({**STUDIO, "metadata": {"team": "a"}})
    run_id = str(accepted.json["id"])
    assert re.fullmatch("run_[0-9a-f]{32}", run_id)
    assert (f"/runs/{run_id}", "queued") == (accepted.headers["Location"], accepted.json["status"])
    shown = await calls.ended(accepted)
    assert (run_id, "succeeded", {"completion": "because"}, 1, {"team": "a"}) == tuple(
        shown[name] for name in ("id", "status", "output", "attempts", "metadata")
    )
    assert ("error" not in shown, 1) == (True, len(upstream.log))


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
async def test_prefer(upstream: Upstream, gateway: StartGateway, run: RunWorkflow, prefer: str, status: int) -> None:
    """RFC 7240: one preference among others, whatever its case; what is not known is ignored."""
    upstream.default = DONE
    assert status == (await run(await gateway(), STUDIO, Prefer=prefer)).status


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
    upstream: Upstream, serve: StartCalls, results: faults.Script, final: str
) -> None:
    """R46: whoever listens hears each state once, whoever asks never sees one twice in turn; the end is the same."""
    upstream.always("POST", LAYER_RUN, faults.after(0.2, promptlayer_started(787)))
    upstream.script("GET", LAYER_RESULTS, [promptlayer_running()] * 3)
    upstream.always("GET", LAYER_RESULTS, results)
    calls = await serve()
    accepted = await calls.accept(LAYER)
    listening = asyncio.ensure_future(calls.events(accepted.json["id"]))
    seen: list[JsonValue] = ["queued"]
    async with asyncio.timeout(20):
        while seen[-1] not in FINAL:
            status = (await calls.get(f"/runs/{accepted.json['id']}")).json["status"]
            seen += [status] * (status != seen[-1])
    assert ["queued", "running", final] == seen
    heard = await listening
    assert [(name, name) for name, _ in heard] == heard
    names = [name for name, _ in heard]
    assert names in (["queued", "running", final], ["running", final])


async def test_waiting_ends_with_the_run_or_the_time(upstream: Upstream, serve: StartCalls) -> None:
    """`?wait=` answers as soon as the run has ended, and as it is when the time is over."""
    go = asyncio.Event()

    async def held(wire: Wire) -> None:
        await go.wait()
        await DONE(wire)

    upstream.default = held
    calls = await serve(workflows={"studio": {"timeout": "30s", "max_timeout": "30s"}})
    where = f"/runs/{(await calls.accept()).json['id']}"
    await until(lambda: upstream.log)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert "running" == (await calls.get(where + "?wait=1")).json["status"]
    assert loop.time() - began >= 0.9
    waiting = asyncio.ensure_future(calls.get(where + "?wait=30"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    go.set()
    async with asyncio.timeout(10):
        assert "succeeded" == (await waiting).json["status"]


async def test_listing(upstream: Upstream, serve: StartCalls) -> None:
    """Newest first, page by page, each run once, filtered; every client its own."""
    upstream.default = DONE
    upstream.always("POST", LAYER_RUN, reply(500, {}))
    calls = await serve()
    studio = [await calls.accept() for _ in range(5)]
    layer = [await calls.accept(LAYER) for _ in range(2)]
    for accepted in studio + layer:
        await calls.ended(accepted)
    everything = ids(studio + layer)
    assert (everything, None) == await calls.page()
    pages, cursor = [], ""
    while True:
        page, following = await calls.page("limit=3" + cursor)
        pages.append(page)
        if following is None:
            break
        cursor = f"&cursor={following}"
    assert [everything[:3], everything[3:6], everything[6:]] == pages
    assert ids(studio) == (await calls.page("workflow=studio"))[0]
    assert ids(layer) == (await calls.page("status=unknown"))[0]
    assert [] == (await calls.page("status=unknown&workflow=studio"))[0]
    assert ([], None) == await calls.page(client="two")


async def test_a_run_that_nobody_keeps_is_not_listed(upstream: Upstream, serve: StartCalls, run: RunWorkflow) -> None:
    """A client that waits without a key has its answer; nothing of it stays."""
    upstream.default = DONE
    calls = await serve()
    answered = await run(calls.gateway, STUDIO)
    assert 404 == (await calls.get(f"/runs/{answered.json['id']}")).status
    kept = await run(calls.gateway, STUDIO, Idempotency_Key="k")
    assert ([kept.json["id"]], None) == await calls.page()


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=", "limit=-1", "limit=%C2%B2", "limit=1e1", "limit=99999",
        "status=done", "status=", "cursor=x", "cursor=", "cursor=bmFuOng=", "cursor=aW5mOng=", "cursor=%FF", "cursor=é",
    ],
)  # fmt: skip
async def test_bad_queries(serve: StartCalls, query: str) -> None:
    """422 with what is wrong, never a guess and never a 500."""
    answered = await (await serve()).get("/runs?" + query)
    assert (422, "invalid_request") == answered.summary[:2]
    errors = answered.json["errors"]
    assert isinstance(errors, list)
    assert "?" + query.partition("=")[0] == dict(errors[0])["pointer"]  # type: ignore[arg-type]  # an object


@pytest.mark.parametrize("wait", ["x", "-1", "1.5", "", "%C2%B2", "99999"])
async def test_bad_waits(upstream: Upstream, serve: StartCalls, wait: str) -> None:
    """The same, for one run."""
    upstream.default = DONE
    calls = await serve()
    run_id = (await calls.accept()).json["id"]
    assert (422, "invalid_request") == (await calls.get(f"/runs/{run_id}?wait={wait}")).summary[:2]


async def test_another_clients_run_is_like_none(upstream: Upstream, serve: StartCalls) -> None:
    """R78: not a byte tells them apart, but for the request's own id."""
    upstream.default = DONE
    calls = await serve()
    accepted = await calls.accept()
    foreign = await calls.get(f"/runs/{accepted.json['id']}", client="two")
    unknown = [await calls.get(f"/runs/{name}", client="two") for name in ("run_" + "0" * 32, "x", "%00", "é", "")]
    for other in unknown:
        assert 404 == other.status
        assert {**foreign.json, "request_id": ""} == {**other.json, "request_id": ""}
    assert 200 == (await calls.get(f"/runs/{accepted.json['id']}")).status


async def test_methods(upstream: Upstream, serve: StartCalls) -> None:
    """HEAD is GET without the body; the others are told what there is."""
    upstream.default = DONE
    calls = await serve()
    run_id = (await calls.accept()).json["id"]
    for target in ("/runs", f"/runs/{run_id}"):
        head = await calls.get(target, method="HEAD")
        assert (200, b"") == (head.status, head.body)
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            refused = await calls.get(target, method=method)
            assert (405, "GET, HEAD") == (refused.status, refused.headers["Allow"])


async def test_the_providers_limit_holds_in_the_background(upstream: Upstream, serve: StartCalls) -> None:
    """However many are accepted, one at a time reaches it; all come to their end."""
    most = now = 0

    async def counting(wire: Wire) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        await DONE(wire)

    upstream.default = counting
    calls = await serve(
        providers={"prompt_studio": {"limits": {"concurrency": 1}}},
        workflows={"studio": {"timeout": "60s", "max_timeout": "60s"}},
    )
    accepted = [await calls.accept() for _ in range(20)]
    assert {"succeeded"} == {(await calls.ended(each))["status"] for each in accepted}
    assert (1, 20) == (most, len(upstream.log))


async def test_a_deadline_that_passes_in_the_queue_ends_a_run(upstream: Upstream, serve: StartCalls) -> None:
    """It was not run, and says so; the provider never hears of it."""
    upstream.default = faults.hang
    calls = await serve(providers={"prompt_studio": {"limits": {"concurrency": 1}}})
    first = await calls.accept()
    await until(lambda: upstream.log)
    second = await calls.ended(await calls.accept({**STUDIO, "timeout": 1.5}))
    error = second["error"]
    assert isinstance(error, dict)
    assert ("not_run", "deadline_exceeded", 0) == (second["status"], error["code"], second["attempts"])
    assert "unknown" == (await calls.ended(first))["status"]
    assert 1 == len(upstream.log)


async def test_the_queue_is_bounded(upstream: Upstream, serve: StartCalls, run: RunWorkflow) -> None:
    """One more is a 503 that says when to come back; another client has a queue of its own."""
    upstream.default = faults.hang
    calls = await serve(server={"max_queued": 3})
    asked = [run(calls.gateway, STUDIO, Prefer="respond-async") for _ in range(10)]
    answers = await asyncio.gather(*asked)
    refused = [answered for answered in answers if answered.status != 202]
    assert [(503, "overloaded", "not_run")] * 7 == [answered.summary for answered in refused]
    assert all(int(answered.headers["Retry-After"]) > 0 for answered in refused)
    assert 202 == (await run(calls.gateway, STUDIO, client="two", Prefer="respond-async")).status
    for answered in answers:
        if answered.status == 202:
            await calls.ended(answered)
    await calls.accept()


def on_file(tmp_path: Path) -> dict[str, JsonValue]:
    """A store that outlives its process, and runs that may take their time."""
    slow: JsonValue = {"timeout": "30s", "max_timeout": "30s"}
    return {"store": {"url": f"sqlite:///{tmp_path}/runs.db"}, "workflows": {"studio": slow, "layer": slow}}


async def test_a_gateway_that_stops_loses_no_run(upstream: Upstream, serve: StartCalls, tmp_path: Path) -> None:
    """R98: what is being sent is finished, what is followed is followed by the next, what waits is started by it."""
    upstream.always("POST", STUDIO_RUN, faults.after(1.0, DONE))
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_running())
    limits: JsonValue = {"prompt_studio": {"limits": {"concurrency": 1}}}
    calls = await serve(**on_file(tmp_path), providers=limits)
    sending, followed = await calls.accept(), await calls.accept(LAYER)
    await until(lambda: upstream.requests("POST", STUDIO_RUN) and upstream.requests("GET"))
    queued = await calls.accept()
    assert 0 == await calls.gateway.stop()
    assert 1 == len(upstream.requests("POST", STUDIO_RUN))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    calls = await serve(**on_file(tmp_path), providers=limits)
    assert ["succeeded"] * 3 == [(await calls.ended(each))["status"] for each in (sending, followed, queued)]
    assert (2, 1) == (len(upstream.requests("POST", STUDIO_RUN)), len(upstream.requests("POST", LAYER_RUN)))


async def test_a_second_signal_ends_it_at_once(upstream: Upstream, serve: StartCalls, tmp_path: Path) -> None:
    """R98: a start that hangs is not waited for; the next process says that its outcome is unknown."""
    upstream.default = faults.hang
    calls = await serve(**on_file(tmp_path))
    accepted = await calls.accept()
    await until(lambda: upstream.log)
    stopping = asyncio.ensure_future(calls.gateway.stop())
    await until(lambda: calls.gateway.logs("draining"))
    await asyncio.sleep(0.5)
    assert not stopping.done()
    os.kill(calls.gateway.pid, signal.SIGTERM)
    async with asyncio.timeout(5):
        assert 0 == await stopping
    calls = await serve(**on_file(tmp_path))
    assert "unknown" == (await calls.ended(accepted))["status"]
    assert 1 == len(upstream.log)
