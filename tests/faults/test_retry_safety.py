"""Retry safety: a start that may have reached the provider is never repeated.

The gateway is a process, and what it sent is what the fake upstream counted.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY
from tests.support.configuration import gateway_config
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
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port, unresponsive_port
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.faults import ResponseScript

    DeadEnd = Callable[[], AbstractContextManager[str]]

pytestmark = pytest.mark.shared_gateway

DONE = prompt_studio_reply({"completion": "because"})
PATIENT: JsonValue = {"studio": {"timeout": "60s", "max_timeout": "60s"}}


@pytest.mark.own_gateway
async def test_a_start_that_was_never_sent_is_tried_again_and_sent_once(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R01: refused, refused, then 200: the client gets 200, the upstream one request, `attempts` is 3.

    The back-off's jitter decides whether the third attempt comes after the upstream is up again (about 19 times in 20).
    If not, the run must be a clean `not_run`, and we ask a new gateway.
    """
    upstream.always("POST", STUDIO_RUN, DONE)
    for _ in range(10):
        running = await gateway(retries={"attempts": 3, "backoff": "600ms", "backoff_max": "5s"})
        await upstream.stop()
        client_task = asyncio.create_task(run(running, PROMPT_STUDIO_BODY))
        while metric_sum(await running.metrics(), "runward_upstream_calls_total") < 2:
            await asyncio.sleep(0.01)
        await upstream.start()
        answered = await client_task
        assert 3 == answered.json["attempts"]
        if answered.status == 200:
            assert 1 == len(upstream.received)
            return
        assert (502, "upstream_unreachable", "not_run") == answered.summary
        assert [] == upstream.received
    pytest.fail("ten times out of ten the third attempt came at once: that is no back-off")


@pytest.mark.parametrize("dead", [closed_port, unresponsive_port])
async def test_an_upstream_that_is_not_there_is_tried_three_times(
    gateway: StartGateway, run: PostRun, dead: DeadEnd
) -> None:
    """R02: 502, outcome not_run, at most three connects, refused or timed out."""
    with dead() as url:
        running = await gateway(gateway_config(url, url))
        answered = await run(running, PROMPT_STUDIO_BODY)
    assert (502, "upstream_unreachable", "not_run") == answered.summary
    assert (3, True) == (answered.json["attempts"], answered.json["retryable"])
    assert 3 == metric_sum(await running.metrics(), "runward_upstream_calls_total", result="unreachable")


@pytest.mark.parametrize("body", [PROMPT_STUDIO_BODY, PROMPTLAYER_BODY], ids=["studio", "layer"])
@pytest.mark.parametrize("fault", [faults.rst_after_request, faults.fin_after_request])
async def test_a_start_whose_answer_was_lost_is_not_repeated(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, body: Mapping[str, JsonValue], fault: ResponseScript
) -> None:
    """R03, R04: RST or FIN after the request, before headers: 502, outcome unknown, exactly one request."""
    upstream.default = fault
    answered = await run(await gateway(), body)
    assert (502, "upstream_disconnected", "unknown") == answered.summary
    assert (1, False) == (answered.json["attempts"], answered.json["retryable"])
    assert 1 == len(upstream.received)


async def test_a_start_that_was_written_but_not_read_is_not_repeated(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R04: an RST on accept arrives after the request was written."""
    upstream.on_accept([faults.rst_on_accept()] * 5)
    answered = await run(await gateway(), PROMPT_STUDIO_BODY)
    assert (502, "upstream_disconnected", "unknown") == answered.summary
    assert 1 == len(upstream.connections)


async def http_date(connection: UpstreamConnection) -> None:
    """Return a 429 with a Retry-After date two seconds from now, truncated to seconds."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    await reply(429, {}, [("Retry-After", date)])(connection)


@pytest.mark.own_gateway
@pytest.mark.parametrize("throttled", [reply(429, {}, [("Retry-After", "1")]), http_date], ids=["1", "date"])
async def test_retry_after_is_honoured(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, throttled: ResponseScript
) -> None:
    """R09: 429 with Retry-After in either form, then 200: the second request waits that long, not a 50 ms backoff."""
    upstream.script("POST", STUDIO_RUN, [throttled, DONE])
    answered = await run(await gateway(workflows=PATIENT), PROMPT_STUDIO_BODY)
    assert (200, 2) == (answered.status, answered.json["attempts"])
    [gap] = upstream.request_gaps()
    assert gap >= 1.0


async def test_a_retry_after_beyond_the_deadline_is_returned_at_once(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R10: 503 with Retry-After before the deadline, and one request."""
    upstream.default = reply(429, {}, [("Retry-After", "90")])
    answered = await run(await gateway(workflows=PATIENT), PROMPT_STUDIO_BODY)
    assert (503, "upstream_throttled", "not_run") == answered.summary
    assert int(answered.headers["Retry-After"]) >= 60
    assert answered.elapsed < 20
    assert 1 == len(upstream.received)


@pytest.mark.own_gateway
@pytest.mark.parametrize(
    "hints",
    [[""], ["-1"], ["1e9"], ["1000000000"], ["soon"], ["40", "50"], ["Fri, 21 Nov 2025 12:00:00 GMT"]],
    ids=["empty", "negative", "1e9", "30 years", "word", "two lines", "past"],
)
async def test_an_invalid_retry_after_is_ignored(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, hints: list[str]
) -> None:
    """R11: the gateway's own backoff applies; the given times would lie beyond the deadline of 30 s."""
    upstream.script("POST", STUDIO_RUN, [reply(429, {}, [("Retry-After", hint) for hint in hints]), DONE])
    answered = await run(
        await gateway(workflows={"studio": {"timeout": "30s", "max_timeout": "30s"}}), PROMPT_STUDIO_BODY
    )
    assert (200, 2) == (answered.status, answered.json["attempts"])


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_on_start_is_not_repeated(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, status: int
) -> None:
    """R12: exactly one request; only Prompt Studio's 500 means that the run failed."""
    upstream.default = reply(status, {})
    running = await gateway()
    studio, layer = await run(running, PROMPT_STUDIO_BODY), await run(running, PROMPTLAYER_BODY)
    certain = ("run_failed", "failed") if status == 500 else ("upstream_error", "unknown")
    assert (502, *certain) == studio.summary
    assert (502, "upstream_error", "unknown") == layer.summary
    assert 2 == len(upstream.received)


@pytest.mark.own_gateway
async def test_an_upstream_that_names_a_time_is_asked_once_more(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """503 with Retry-After means that nothing ran: one retry, then Retry-After is passed on to the client."""
    upstream.default = reply(503, {}, [("Retry-After", "0")])
    answered = await run(await gateway(), PROMPT_STUDIO_BODY)
    assert (503, "upstream_unavailable", "not_run") == answered.summary
    assert (2, 2) == (answered.json["attempts"], len(upstream.received))


@pytest.mark.own_gateway
async def test_polls_are_retried_until_there_is_a_result(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R13: polls with RST, 500 and no response, then a result: one start, more than three polls, 200."""
    upstream.script("POST", LAYER_RUN, [promptlayer_started(787)])
    bad: list[ResponseScript] = [faults.rst_after_request, reply(500, {}), faults.hang]
    done = promptlayer_done({"Answer": node("because")})
    upstream.script("GET", LAYER_RESULTS, [*bad, promptlayer_running(), done])
    running = await gateway(workflows={"layer": {"timeout": "30s", "max_timeout": "30s"}})
    answered = await run(running, PROMPTLAYER_BODY)
    assert (200, "because") == (answered.status, answered.json["output"])
    assert (1, 5) == (len(upstream.requests("POST")), len(upstream.requests("GET")))
    assert "787" == answered.json["provider_run_id"]
