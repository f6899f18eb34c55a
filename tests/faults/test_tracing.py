"""A trace on the wire (R94)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.client import LAYER, STUDIO
from tests.faults.test_isolation import scripted

if TYPE_CHECKING:
    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Request

VALID = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def header(request: Request, name: str) -> list[str]:
    return [value for header, value in request.headers if header.lower() == name]


async def test_every_call_of_a_run_carries_its_trace(
    upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """R94: a valid traceparent goes upstream with starts and polls; baggage and tracestate do not; the log tells it."""
    await scripted(upstream)
    running = await gateway()
    for body in (STUDIO, LAYER):
        assert 200 == (await run(running, body, traceparent=VALID, baggage="user=1", tracestate="a=b")).status
    assert 3 == len(upstream.log)
    for request in upstream.log:
        assert ([VALID], [], []) == tuple(header(request, name) for name in ("traceparent", "baggage", "tracestate"))
    async with asyncio.timeout(5):
        while len(running.logs("request")) < 2:  # they are written after the answers
            await asyncio.sleep(0.02)
    assert [VALID[3:35]] * 2 == [line["trace_id"] for line in running.logs("request")]


async def test_an_invalid_trace_is_replaced(upstream: Upstream, gateway: StartGateway, run: RunWorkflow) -> None:
    """R94: what goes upstream is valid, and not what the client sent."""
    await scripted(upstream)
    running = await gateway()
    assert 200 == (await run(running, STUDIO, traceparent="00-zz")).status
    (sent,) = header(upstream.log[0], "traceparent")
    assert (55, "00-") == (len(sent), sent[:3])
    assert "zz" not in sent
