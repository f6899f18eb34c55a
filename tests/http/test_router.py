"""Router: one look-up from a path to its route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from gateway.app.listeners import Listener
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server


async def echo_route(request: Request) -> Response:
    return make_response(200, f"{request.route.name} {request.path_param}".encode(), "text/plain")


ROUTES = (
    Route("GET", "/runs", echo_route, "runs"),
    Route("GET", "/runs/{id}", echo_route, "one"),
    Route("GET", "/workflows/{path}", echo_route, "workflow"),
    Route("POST", "/workflows/{path}/run", echo_route, "start"),
    Route("POST", "//workflows/{path}/run", echo_route, "doubled"),
    Route("GET", "{path}/socket", echo_route, "socket"),
)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    listener = await Listener.open(Server(ROUTES, (), header_timeout=5.0), "127.0.0.1", 0)
    yield listener.url
    await listener.runner.cleanup()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/runs", "runs "),
        ("GET", "/runs/a%2Fb", "one a%2Fb"),
        ("GET", "/workflows/a", "workflow a"),
        ("GET", "/workflows/team/a%20b", "workflow team/a%20b"),
        ("GET", "/workflows/a/run", "workflow a/run"),
        ("POST", "/workflows/a/run", "start a"),
        ("POST", "/workflows/team/a/run/run", "start team/a/run"),
        ("POST", "//workflows/a/run", "doubled a"),
        ("GET", "/any/prefix/socket", "socket /any/prefix"),
    ],
)
async def test_a_path_finds_its_route(url: str, method: str, path: str, expected: str) -> None:
    """By the whole path, its last segment, or a prefix and a suffix."""
    assert expected == await _request_text(url, method, path)


async def _request_text(url: str, method: str, path: str) -> str:
    host, port = url.removeprefix("http://").split(":")
    request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode())
    answer = await reader.read()
    writer.close()
    return answer.partition(b"\r\n\r\n")[2].decode()


async def test_the_fallback_route_serves_unknown_paths(session: aiohttp.ClientSession) -> None:
    """For every method; a path with a route keeps its 405."""
    server = Server(ROUTES, (), header_timeout=5.0, fallback=Route("*", "*", echo_route, "otherwise"))
    listener = await Listener.open(server, "127.0.0.1", 0)
    try:
        for method, path, expected in (
            ("GET", "/none", "otherwise"),
            ("PUT", "/none/x", "otherwise"),
            ("GET", "/runs", "runs"),
        ):
            async with session.request(method, listener.url + path) as answer:
                assert expected == (await answer.text()).split()[0]
    finally:
        await listener.runner.cleanup()
