"""`start_before` in the body of `POST /run`: what was not started in time is not started, and says so."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream

DONE = prompt_studio_reply("because")
ONE_AT_A_TIME: dict[str, JsonValue] = {"prompt_studio": {"limits": {"concurrency": 1, "max_wait": "20s"}}}


def time_text(seconds: float) -> str:
    """Return the time in so many seconds, in UTC."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def restartable(gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path) -> RestartableGateway:
    """Gateways on one store file, not started."""
    return RestartableGateway(gateway, session, tmp_path / "runward.db", providers=ONE_AT_A_TIME)


async def test_a_run_behind_a_full_limit_expires(
    upstream: FakeUpstream, receiver: FakeUpstream, restartable: RestartableGateway
) -> None:
    """A waiting client reads 504, `expired`; an accepted run says so by GET and callback. One start, of the other."""
    upstream.always("POST", STUDIO_RUN, faults.delayed(4.0, DONE))
    await restartable.start()
    holder = await restartable.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: upstream.requests("POST"))
    body = {**PROMPT_STUDIO_BODY, "start_before": time_text(1.0), "callback_url": receiver.url + CALLBACK_PATH}
    accepted = await restartable.submit_async(body)
    keyed, plain = await asyncio.gather(
        restartable.post({**PROMPT_STUDIO_BODY, "start_before": 0.5}, Idempotency_Key="one"),
        restartable.post({**PROMPT_STUDIO_BODY, "start_before": 0.5}),
    )
    assert [(504, "expired", "not_run")] * 2 == [keyed.summary, plain.summary]
    ended = await restartable.wait_for_end(accepted)
    assert ("not_run", {"code": "expired", "detail": None}) == (ended["status"], ended["error"])
    assert "running" == (await restartable.get_run(holder))["status"]
    assert {"state": "delivered"} == await restartable.wait_for_callback(accepted)
    assert ["not_run"] == [delivered_run(each)["status"] for each in deliveries(receiver)]
    assert "succeeded" == (await restartable.wait_for_end(holder))["status"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_run_that_is_adopted_too_late_expires(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """SIGKILL while it waits: the next gateway does not start it."""
    upstream.always("POST", STUDIO_RUN, faults.hang)
    await restartable.start()
    await restartable.submit_async(PROMPT_STUDIO_BODY)
    await wait_until(lambda: upstream.requests("POST"))
    late = await restartable.submit_async({**PROMPT_STUDIO_BODY, "start_before": 0.5})
    assert -9 == await restartable.current.kill()
    await asyncio.sleep(0.6)
    upstream.always("POST", STUDIO_RUN, DONE)
    await restartable.start()
    assert {"code": "expired", "detail": None} == (await restartable.wait_for_end(late))["error"]
    assert 1 == len(upstream.requests("POST"))


async def test_a_key_is_replayed_after_the_time(upstream: FakeUpstream, restartable: RestartableGateway) -> None:
    """The same body gets the same answer; as a new run it would be refused."""
    upstream.always("POST", STUDIO_RUN, DONE)
    await restartable.start()
    body = {**PROMPT_STUDIO_BODY, "start_before": time_text(2.0)}
    first = await restartable.post(body, Idempotency_Key="one")
    assert 200 == first.status
    await asyncio.sleep(2.1)
    again = await restartable.post(body, Idempotency_Key="one")
    assert (200, first.body, "true") == (again.status, again.body, again.headers["Idempotent-Replayed"])
    refused = [await restartable.post(body, Idempotency_Key="two"), await restartable.post(body)]
    assert [(422, "invalid_request")] * 2 == [each.summary[:2] for each in refused]
    assert [[{"pointer": "/start_before", "detail": "has passed"}]] * 2 == [each.json["errors"] for each in refused]
    assert 1 == len(upstream.requests("POST"))


@pytest.mark.shared_gateway
@pytest.mark.parametrize(
    "start_before",
    [
        0,
        -1,
        604_801,
        True,
        "30s",
        "30",
        "",
        [],
        {},
        "2026-11-21T12:00:00",
        "2026-11-21",
        "2026-13-21T12:00:00Z",
        "2026-11-21T12:00:00+99:00",
        "2001-11-21T12:00:00Z",
        "9999-11-21T12:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59",
        "2026-11-21T12:00:00Z" + " " * 10_000,
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, start_before: JsonValue
) -> None:
    """One error, at its place, without the value; and nothing is sent."""
    answered = await run(await gateway(), {**PROMPT_STUDIO_BODY, "start_before": start_before})
    assert (422, "invalid_request") == answered.summary[:2]
    errors = answered.json["errors"]
    assert isinstance(errors, list)
    assert ["/start_before"] == [error["pointer"] for error in errors if isinstance(error, dict)]
    assert 0 == len(upstream.received)


@pytest.mark.shared_gateway
@pytest.mark.parametrize("start_before", [None, 30, 0.5, 604_800, "UTC", "lower case", "offset"])
async def test_a_run_that_starts_in_time_is_not_affected(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, start_before: JsonValue
) -> None:
    upstream.default = DONE
    text = time_text(3600)
    times: dict[JsonValue, JsonValue] = {"UTC": text, "lower case": text.lower(), "offset": text[:-1] + "+00:00"}
    body = {**PROMPT_STUDIO_BODY, "start_before": times.get(start_before, start_before)}
    answered = await run(await gateway(), body)
    assert 200 == answered.status, answered.body
