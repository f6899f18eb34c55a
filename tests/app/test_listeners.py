"""Listening ports: `::` accepts IPv6 and IPv4."""

from __future__ import annotations

import asyncio
import errno
import socket
from ipaddress import ip_network

import pytest

from gateway.app.listeners import Listener
from gateway.http.forwarded import client_address
from gateway.http.request import Request, Route
from gateway.http.response import Response, make_response
from gateway.http.server import Server
from gateway.supervisor.sockets import open_listening_sockets, socket_address


async def answer_address(request: Request) -> Response:
    """Respond with the address of the client."""
    return make_response(200, client_address(request, (ip_network("192.0.2.0/24"),)).encode(), "text/plain")


async def get(host: str, port: int) -> bytes:
    """Body of the response."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(10):
        response = await reader.read()
    writer.close()
    return response.partition(b"\r\n\r\n")[2]


def build_server() -> Server:
    """A server with one route."""
    return Server([Route("GET", "/", answer_address, "address")], (), header_timeout=5.0)


@pytest.mark.parametrize("host", ["::", "0:0:0:0:0:0:0:0"])
async def test_the_unspecified_ipv6_address_accepts_ipv4(host: str) -> None:
    """A client of IPv4 counts with its IPv4 address, as in allow lists."""
    listener = await Listener.open(build_server(), host, 0)
    try:
        port = listener.addresses[0][1]
        assert [b"127.0.0.1", b"::1"] == [await get(address, port) for address in ("127.0.0.1", "::1")]
        assert f"http://[::]:{port}" == listener.url
    finally:
        await listener.close()


async def test_workers_share_a_port_of_ipv6_and_ipv4() -> None:
    """The supervisor opens the port for all workers."""
    with open_listening_sockets("::", 0) as [opened]:
        port = socket_address(opened)[1]
        listener = await Listener.from_sockets(build_server(), [opened.dup()])
        try:
            assert [b"127.0.0.1", b"::1"] == [await get(address, port) for address in ("127.0.0.1", "::1")]
        finally:
            await listener.close()


async def test_a_port_in_use_is_named() -> None:
    """Also where only IPv4 is in use."""
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"\[::\]:{port}: Address already in use"):
            await Listener.open(build_server(), "::", port)


async def test_a_machine_without_ipv6_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the address that works."""

    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr("gateway.app.listeners.socket.socket", refuse)
    with pytest.raises(OSError, match=r"this machine has no IPv6; 0\.0\.0\.0"):
        await Listener.open(build_server(), "::", 0)
