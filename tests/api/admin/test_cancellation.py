"""`POST /api/runs/{id}/cancel`: an operator cancels a run of any client, in one process and through workers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.supervisor.test_workers_on_redis import WORKERS
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.clock import ManualClock
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.process import metric_sum, parse_metrics
from tests.support.runs_port import runs_port
from tests.support.waiting import WAIT_TIMEOUT, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from prometheus_client.samples import Sample

    from tests.conftest import StartGateway
    from tests.support.client import ReceivedResponse
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

OPERATOR, NAMELESS, VIEWER = (new_key(SystemClock()) for _ in range(3))
CONFIG: dict[str, Any] = {
    "server": {
        "ops_keys": [
            {"hash": hash_key(OPERATOR), "name": "omar"},
            {"hash": hash_key(NAMELESS)},
            {"hash": hash_key(VIEWER), "role": "viewer", "name": "vera"},
        ]
    },
    "providers": {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "20s"}}},
}


class Port:
    """Operations port of a gateway with one slot at Prompt Studio, whose runs end once `released` is set."""

    def __init__(self, running: GatewayProcess, session: aiohttp.ClientSession, upstream: FakeUpstream) -> None:
        self.running = running
        self.session = session
        self.upstream = upstream
        self.released = asyncio.Event()
        upstream.always("POST", STUDIO_RUN, self._run)

    async def _run(self, connection: UpstreamConnection) -> None:
        await self.released.wait()
        await prompt_studio_reply("because")(connection)

    @property
    def starts(self) -> int:
        """Number of start requests."""
        return len(self.upstream.requests("POST", STUDIO_RUN))

    async def post(self, **headers: str) -> ReceivedResponse:
        """POST /run as the client `one`."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post_run(self.session, self.running.url, PROMPT_STUDIO_BODY, {**auth_headers("one"), **fields})

    async def submit(self) -> str:
        """Start a run of client `one` in the background; returns its id."""
        answered = await self.post(Prefer="respond-async")
        assert 202 == answered.status
        return str(answered.json["id"])

    async def occupy(self) -> str:
        """Start a run that occupies the slot."""
        run_id = await self.submit()
        await wait_until(lambda: self.starts == 1)
        return run_id

    async def cancel(self, run_id: str, key: str = OPERATOR, **headers: str) -> tuple[int, dict[str, Any]]:
        """Cancel a run; returns status and document."""
        url = f"{self.running.ops_url}/api/runs/{run_id}/cancel"
        fields = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
        async with self.session.post(url, headers=fields) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> dict[str, Any]:
        """GET a path of the port."""
        fields = {"Authorization": f"Bearer {VIEWER}"}
        async with self.session.get(self.running.ops_url + path, headers=fields) as answer:
            document: dict[str, Any] = await answer.json()
            return document

    async def metrics(self) -> list[Sample]:
        """Return the samples of a scrape."""
        fields = {"Authorization": f"Bearer {VIEWER}"}
        async with self.session.get(self.running.ops_url + "/metrics", headers=fields) as answer:
            return parse_metrics(await answer.text())

    async def for_client(self, path: str) -> dict[str, Any]:
        """GET a path of the public port as the client `one`."""
        async with self.session.get(self.running.url + path, headers=auth_headers("one")) as answer:
            document: dict[str, Any] = await answer.json()
            return document


@pytest.fixture(params=["one process", "two workers"])
async def port(
    request: pytest.FixtureRequest,
    gateway: StartGateway,
    upstream: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> AsyncIterator[Port]:
    if request.param == "two workers":
        running = await gateway(env=WORKERS, store={"url": request.getfixturevalue("valkey").url}, **CONFIG)
    else:
        running = await gateway(store={"url": f"sqlite:///{tmp_path}/runward.db"}, **CONFIG)
    opened = Port(running, session, upstream)
    yield opened
    opened.released.set()


async def test_a_queued_run_ends_and_is_never_started(port: Port) -> None:
    """At whichever worker it waits. Its client reads that an operator cancelled it, and not which one."""
    holder = await port.occupy()
    runs = [await port.submit() for _ in range(3)]
    for _ in range(2):
        answers = [await port.cancel(run_id) for run_id in runs]
        assert [(200, run_id, "not_run", "cancelled") for run_id in runs] == [
            (status, document["id"], document["status"], document["cancel"]["state"]) for status, document in answers
        ]
    error = {"code": "cancelled", "detail": "An operator cancelled the run."}
    for run_id in runs:
        shown = await port.for_client(f"/runs/{run_id}")
        assert ("not_run", error, 0) == (shown["status"], shown["error"], shown["attempts"])
        *_, requested, ended = (await port.get(f"/api/runs/{run_id}"))["timeline"]
        assert ("cancel_requested", "operator", "omar") == (requested["event"], requested["by"], requested["actor"])
        assert ("ended", "not_run", "cancelled") == (ended["event"], ended["status"], ended["code"])
        *_, requested, ended = (await port.for_client(f"/runs/{run_id}/timeline"))["events"]
        assert ("operator", False) == (requested["by"], "actor" in requested)
    port.released.set()
    assert "succeeded" == (await port.for_client(f"/runs/{holder}?wait=20"))["status"]
    assert "succeeded" == (await port.for_client(f"/runs/{await port.submit()}?wait=20"))["status"]
    assert 2 == port.starts
    assert 3 == metric_sum(await port.metrics(), "runward_runs_total", outcome="not_run")


async def test_a_client_that_waits_is_told(port: Port) -> None:
    """409, with the text that its key keeps."""
    await port.occupy()
    asking = asyncio.create_task(port.post(Idempotency_Key="waits"))
    async with asyncio.timeout(WAIT_TIMEOUT):
        while not (queued := (await port.get("/api/runs?status=queued"))["runs"]):
            await asyncio.sleep(0.02)
    assert 200 == (await port.cancel(queued[0]["id"]))[0]
    answered = await asking
    assert (409, "cancelled", "not_run") == answered.summary
    again = await port.post(Idempotency_Key="waits")
    assert ["An operator cancelled the run."] * 2 == [each.json["detail"] for each in (answered, again)]


async def test_a_run_that_the_provider_cannot_stop_keeps_its_end(port: Port) -> None:
    """202, each time, then 409; its timeline has the cancellation once, without a name, since the key has none."""
    run_id = await port.occupy()
    for _ in range(2):
        status, document = await port.cancel(run_id, NAMELESS)
        assert (202, "running", "too_late") == (status, document["status"], document["cancel"]["state"])
    await asyncio.sleep(0.2)  # until the worker that the run belongs to was notified
    port.released.set()
    assert "succeeded" == (await port.for_client(f"/runs/{run_id}?wait=20"))["status"]
    events = (await port.get(f"/api/runs/{run_id}"))["timeline"]
    assert [("operator", None)] == [
        (each["by"], each.get("actor")) for each in events if each["event"] == "cancel_requested"
    ]
    status, document = await port.cancel(run_id)
    assert (409, "run_ended", "succeeded") == (status, document["code"], document["run_status"])


async def test_a_supervisor_without_a_worker_cancels_nothing() -> None:
    """503, which may be repeated, and is recorded as a failure."""
    async with runs_port(ManualClock(), supervised=True) as port, aiohttp.ClientSession() as session:
        run_id = await port.start(1)
        headers = {"Content-Type": "application/json"}
        async with session.post(f"{port.url}/api/runs/{run_id}/cancel", headers=headers) as answer:
            assert (503, "overloaded") == (answer.status, (await answer.json())["code"])
        async with session.get(f"{port.url}/api/audit") as answer:
            ended, begun = (await answer.json())["records"]
        assert [("begun", ""), ("failed", "overloaded")] == [(each["result"], each["code"]) for each in (begun, ended)]
        assert "queued" == (await port.store.get_overview(run_id)).status  # type: ignore[union-attr]


async def test_it_is_recorded_and_logged_with_the_operator(port: Port) -> None:
    """A refusal too; a viewer cancels nothing."""
    await port.occupy()
    run_id = await port.submit()
    assert (403, "forbidden") == ((refused := await port.cancel(run_id, VIEWER))[0], refused[1]["code"])
    assert (404, "not_found") == ((missing := await port.cancel("run_none"))[0], missing[1]["code"])
    assert 404 == (await port.cancel("a%20b"))[0]
    assert 415 == (await port.cancel(run_id, **{"Content-Type": "text/plain"}))[0]
    assert "queued" == (await port.get(f"/api/runs/{run_id}"))["status"]
    assert 200 == (await port.cancel(run_id))[0]
    records = (await port.get("/api/audit?action=runs.cancel&order=oldest"))["records"]
    names = ("actor", "target", "result", "code", "details")
    assert [
        ("vera", run_id, "refused", "forbidden", {}),
        ("omar", "run_none", "refused", "not_found", {}),
        ("omar", "a b", "refused", "not_found", {}),
        ("omar", run_id, "refused", "unsupported_media_type", {}),
        ("omar", run_id, "succeeded", "", {"state": "cancelled"}),
    ] == [tuple(each[name] for name in names) for each in records if each["result"] != "begun"]
    await wait_until(lambda: bool(port.running.logs("operator_cancel_requested")))
    [line] = port.running.logs("operator_cancel_requested")
    assert (run_id, "one", "studio", "cancelled", "omar") == tuple(
        line[name] for name in ("run_id", "client", "workflow", "state", "actor")
    )
    port.released.set()
