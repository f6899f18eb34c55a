"""Large responses of a provider: read when the byte budget has room, and in any case before the deadline."""

from __future__ import annotations

import asyncio

import pytest

from gateway.byte_budget import LARGE, ByteBudget, Hold, current_hold
from gateway.outbound.provider.http1_connection import HttpResponse, ProviderConnection
from tests.outbound.provider.test_http1_connection import FakeTransport
from tests.support.fake_upstream.responses import FakeResponse, chunked, reply
from tests.support.waiting import wait_until

SIZE = 4 * LARGE
RESPONSE = reply(200, {"result": "x" * SIZE})
BODY = len(RESPONSE.body)


class PausableTransport(FakeTransport):
    """Transport that delivers no data while reading is paused."""

    paused = False

    def pause_reading(self) -> None:
        """Stop reading."""
        self.paused = True

    def resume_reading(self) -> None:
        """Read on."""
        self.paused = False


async def read_in_pieces(hold: Hold | None, response: FakeResponse, seconds: float = 60.0) -> tuple[HttpResponse, bool]:
    """Make an exchange whose response comes in pieces; returns it, and whether reading was paused."""
    connection = ProviderConnection(2 * SIZE, lambda _: None)
    transport = PausableTransport(connection)
    connection.connection_made(transport)
    current_hold.set(hold)
    task = connection.exchange(b"request", seconds)
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the request is written
    data, paused = response.encode(), False
    for start in range(0, len(data), LARGE):
        paused |= transport.paused
        await wait_until(lambda: not transport.paused)
        connection.data_received(data[start : start + LARGE])
    return await task, paused


@pytest.mark.parametrize("response", [RESPONSE, chunked(RESPONSE, 50_000)], ids=["length", "chunked"])
async def test_a_response_that_fits_is_read_at_once_and_counted(response: FakeResponse) -> None:
    budget = ByteBudget(10 * SIZE)
    with Hold(budget) as hold:
        read, paused = await read_in_pieces(hold, response)
        assert (BODY, False) == (len(read.body), paused)
        assert BODY == budget.held
    assert 0 == budget.held


@pytest.mark.parametrize("response", [RESPONSE, chunked(RESPONSE, 50_000)], ids=["length", "chunked"])
async def test_a_response_is_read_once_there_is_room(response: FakeResponse) -> None:
    budget = ByteBudget(10 * SIZE)
    other, hold = Hold(budget), Hold(budget)
    other.add(10 * SIZE)
    task = asyncio.create_task(read_in_pieces(hold, response))
    await wait_until(lambda: len(budget.claims) == 1)
    assert not task.done()
    other.release()
    read, paused = await task
    assert (RESPONSE.body, True) == (bytes(read.body), paused)
    assert (BODY, 0) == (budget.held, len(budget.claims))


async def test_a_paid_answer_is_read_before_its_deadline_even_without_room() -> None:
    budget = ByteBudget(SIZE)
    other, hold = Hold(budget), Hold(budget)
    other.add(SIZE)
    read, paused = await read_in_pieces(hold, RESPONSE, seconds=0.4)
    assert (RESPONSE.body, True) == (bytes(read.body), paused)
    assert SIZE + BODY == budget.held
    other.release()
    hold.release()
    assert (0, 0) == (budget.held, len(budget.claims))


async def test_without_a_hold_nothing_is_counted() -> None:
    read, paused = await read_in_pieces(None, RESPONSE)
    assert (BODY, False) == (len(read.body), paused)
