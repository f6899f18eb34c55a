"""Event of a response after it was written."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from gateway.app.listeners import Listener
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server


@pytest.mark.parametrize("size", [2, 1_000_000], ids=["small", "large"])
async def test_on_sent_is_called_once_the_response_was_written(session: aiohttp.ClientSession, size: int) -> None:
    """And not before, for every way of writing it."""
    written = asyncio.Event()
    early: list[bool] = []

    async def say(_request: Request) -> Response:
        said = make_response(200, size * b"x", "text/plain")
        said.on_sent = written.set
        early.append(written.is_set())
        return said

    listener = await Listener.open(Server([Route("GET", "/", say, "say")], (), header_timeout=5.0), "127.0.0.1", 0)
    try:
        async with asyncio.timeout(10), session.get(listener.url) as got:
            assert size == len(await got.read())
            await written.wait()
        assert [False] == early
    finally:
        await listener.runner.cleanup()
