"""An answer in one piece tells when it was written."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from aiohttp import web

from gateway.api.server import Request, Route, Server
from gateway.api.wire import answer
from gateway.lifecycle import Listener


@pytest.mark.parametrize("size", [2, 1_000_000], ids=["small", "large"])
async def test_it_says_so_once_it_was_written(session: aiohttp.ClientSession, size: int) -> None:
    """And not before; whichever way it goes out."""
    written = asyncio.Event()
    early: list[bool] = []

    async def say(_request: Request) -> web.Response:
        said = answer(200, size * b"x", "text/plain")
        said.then = written.set
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
