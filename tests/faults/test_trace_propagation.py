"""Trace propagation by `traceparent` (R94)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.test_data_isolation import script_both_providers
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY

if TYPE_CHECKING:
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import ReceivedRequest
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def header(request: ReceivedRequest, name: str) -> list[str]:
    return [value for header, value in request.headers if header.lower() == name]


async def test_every_call_of_a_run_carries_its_trace(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R94: a valid traceparent is sent with starts and polls, baggage and tracestate are not; the log has it."""
    await script_both_providers(upstream)
    running = await gateway()
    for body in (PROMPT_STUDIO_BODY, PROMPTLAYER_BODY):
        assert 200 == (await run(running, body, traceparent=VALID, baggage="user=1", tracestate="a=b")).status
    assert 3 == len(upstream.received)
    for request in upstream.received:
        assert ([VALID], [], []) == tuple(header(request, name) for name in ("traceparent", "baggage", "tracestate"))
    async with asyncio.timeout(5):
        while len(running.logs("request")) < 2:  # they are written after the answers
            await asyncio.sleep(0.02)
    assert [VALID[3:35]] * 2 == [line["trace_id"] for line in running.logs("request")]


async def test_an_invalid_trace_is_replaced(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R94: the propagated value is valid, and not that of the client."""
    await script_both_providers(upstream)
    running = await gateway()
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, traceparent="00-zz")).status
    (sent,) = header(upstream.received[0], "traceparent")
    assert (55, "00-") == (len(sent), sent[:3])
    assert "zz" not in sent
