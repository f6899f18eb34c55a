"""`POST /runs/{id}/cancel`: a queued run never reaches the provider; a started one keeps its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.process import metric_sum
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import ReceivedResponse
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

ONE_AT_A_TIME: dict[str, JsonValue] = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


class HeldStudio:
    """Fake Prompt Studio whose runs end on demand."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._released = asyncio.Event()
        upstream.always("POST", STUDIO_RUN, self._run)

    @property
    def starts(self) -> int:
        """Number of start requests."""
        return len(self._upstream.requests("POST", STUDIO_RUN))

    def end_runs(self) -> None:
        """Let every run end, and those that follow."""
        self._released.set()

    async def _run(self, connection: UpstreamConnection) -> None:
        await self._released.wait()
        await prompt_studio_reply("because")(connection)


@pytest.fixture
def studio(upstream: FakeUpstream) -> Iterator[HeldStudio]:
    """Prompt Studio, which holds its runs until the test has ended."""
    held = HeldStudio(upstream)
    yield held
    held.end_runs()


@pytest.fixture
async def gateways(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path, studio: HeldStudio
) -> RestartableGateway:
    """Gateways on one store file with one slot at Prompt Studio, which a run occupies."""
    started = RestartableGateway(gateway, session, tmp_path / "runward.db", providers=ONE_AT_A_TIME)
    await started.start()
    await started.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: studio.starts == 1)
    return started


def refusal(answered: ReceivedResponse) -> tuple[int, JsonValue, JsonValue]:
    """Return the status of a problem, its code and the status of its run."""
    return answered.status, answered.json["code"], answered.json.get("run_status")


async def test_a_queued_run_is_cancelled(
    receiver: FakeUpstream, gateways: RestartableGateway, studio: HeldStudio
) -> None:
    """200 with the run, each time; its callback is delivered, and the provider never receives it."""
    run_id = await gateways.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    waiting = asyncio.create_task(gateways.wait_for_end(run_id))
    first = await gateways.cancel(run_id)
    shown = {name: first.json[name] for name in ("id", "status", "attempts", "error")}
    error: JsonValue = {"code": "cancelled", "detail": None}
    assert (200, {"id": run_id, "status": "not_run", "attempts": 0, "error": error}) == (first.status, shown)
    assert "delivered" == dict(await gateways.wait_for_callback(run_id))["state"]  # type: ignore[arg-type]
    assert ["not_run"] == [delivered_run(each)["status"] for each in deliveries(receiver)]
    again = await gateways.cancel(run_id)
    assert (200, await gateways.get_run(run_id)) == (again.status, again.json)
    assert "not_run" == (await waiting)["status"]
    studio.end_runs()
    assert "succeeded" == (await gateways.wait_for_end(await gateways.submit_async(PROMPT_STUDIO_BODY)))["status"]
    assert 2 == studio.starts
    counted = {"client": "one", "workflow": "studio", "outcome": "not_run"}
    assert 1 == metric_sum(await gateways.current.metrics(), "runward_runs_total", **counted)


async def test_a_waiting_client_is_told_that_its_run_was_cancelled(
    gateways: RestartableGateway, studio: HeldStudio
) -> None:
    """409 at once, and again for the same key."""
    asking = asyncio.create_task(gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="one"))
    async with asyncio.timeout(20):
        while not (queued := await gateways.list_runs("status=queued")):
            await asyncio.sleep(0.02)
    run_id = str(queued[0]["id"])
    assert 200 == (await gateways.cancel(run_id)).status
    answered = await asking
    assert (409, "cancelled", "not_run") == answered.summary
    assert (run_id, False, 0) == tuple(answered.json[name] for name in ("run_id", "retryable", "attempts"))
    again = await gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="one")
    assert ((409, "cancelled", "not_run"), "true") == (again.summary, again.headers["Idempotent-Replayed"])
    studio.end_runs()
    assert 200 == (await gateways.post(PROMPT_STUDIO_BODY, Idempotency_Key="two")).status
    assert 2 == studio.starts


async def test_a_started_run_keeps_its_end(gateways: RestartableGateway, studio: HeldStudio) -> None:
    """202 while it runs, each time; then 409."""
    (running,) = await gateways.list_runs("status=running")
    run_id = str(running["id"])
    for answered in (await gateways.cancel(run_id), await gateways.cancel(run_id)):
        cancel = answered.json["cancel"]
        assert isinstance(cancel, dict)
        assert (202, f"/runs/{run_id}", "running", "too_late") == (
            answered.status,
            answered.headers["Location"],
            answered.json["status"],
            cancel["state"],
        )
    studio.end_runs()
    assert "succeeded" == (await gateways.wait_for_end(run_id))["status"]
    assert (409, "run_ended", "succeeded") == refusal(await gateways.cancel(run_id))
    assert "succeeded" == (await gateways.get_run(run_id))["status"]


async def test_only_its_client_cancels_a_run(gateways: RestartableGateway) -> None:
    """For others it does not exist, as for GET."""
    run_id = await gateways.submit_async(PROMPT_STUDIO_BODY)
    answers = [await gateways.cancel(run_id, client="two"), await gateways.cancel("run_" + "0" * 32)]
    answers += [await gateways.cancel(name) for name in ("x", "%00", "a/b")]
    assert [(404, "not_found")] * len(answers) == [refusal(each)[:2] for each in answers]
    assert "queued" == (await gateways.get_run(run_id))["status"]


async def test_a_cancelled_run_is_not_started_after_a_crash(gateways: RestartableGateway, studio: HeldStudio) -> None:
    """SIGKILL right after the 200; the next gateway starts the other queued run only."""
    kept, cancelled = [await gateways.submit_async(PROMPT_STUDIO_BODY) for _ in range(2)]
    assert 200 == (await gateways.cancel(cancelled)).status
    await gateways.kill_and_restart()
    studio.end_runs()
    assert "succeeded" == (await gateways.wait_for_end(kept))["status"]
    ended = await gateways.get_run(cancelled)
    assert ("not_run", "cancelled", 2) == (ended["status"], dict(ended["error"])["code"], studio.starts)  # type: ignore[arg-type]


async def test_a_cancellation_races_with_the_start(upstream: FakeUpstream, gateways: RestartableGateway) -> None:
    """Each run is either cancelled or started; what the client reads is what the provider has received."""
    upstream.always("POST", STUDIO_RUN, faults.delayed(0.01, prompt_studio_reply("because")))
    first, *_ = await gateways.list_runs("status=running")
    run_ids = [await gateways.submit_async(PROMPT_STUDIO_BODY) for _ in range(30)]
    await gateways.current.kill()  # the run that occupies the slot ends as unknown
    before = len(upstream.requests("POST", STUDIO_RUN))
    await gateways.start()

    async def cancel(number: int, run_id: str) -> int:
        await asyncio.sleep(number * 0.01)
        return (await gateways.cancel(run_id)).status

    statuses = await asyncio.gather(*(cancel(number, run_id) for number, run_id in enumerate(reversed(run_ids))))
    ends = [(await gateways.wait_for_end(run_id))["status"] for run_id in reversed(run_ids)]
    assert "unknown" == (await gateways.wait_for_end(str(first["id"])))["status"]
    assert {200: "not_run"} == {status: end for status, end in zip(statuses, ends, strict=True) if end == "not_run"}
    assert set(ends) <= {"not_run", "succeeded"}
    assert ends.count("succeeded") == len(upstream.requests("POST", STUDIO_RUN)) - before


async def test_a_store_that_fails_is_503(gateways: RestartableGateway, tmp_path: Path) -> None:
    """Nothing is claimed."""
    run_id = await gateways.submit_async(PROMPT_STUDIO_BODY)
    (tmp_path / "runward.db").rename(tmp_path / "elsewhere.db")
    answered = await gateways.cancel(run_id)
    assert (503, "store_unavailable") == refusal(answered)[:2]
