"""Egress proxy: tunnels by CONNECT (RFC 9110, 9.3.6), through which the gateway reaches the destination.

The proxy learns the destination's host and port. Requests, keys and bodies are sent through the tunnel only, also for
destinations of plain http.
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pydantic import SecretStr

from gateway import happy_eyeballs

_MAX_HEAD_BYTES = 16_384
_status_line = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]").match


class ProxyRefused(OSError):
    """The proxy opened no tunnel; nothing was sent to the destination. The text holds no secret."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Address of an HTTP proxy. `credentials`: user and password, separated by a colon."""

    host: str
    port: int
    credentials: SecretStr | None = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, url: str | None, credentials: SecretStr | None) -> Proxy | None:
        """Return the proxy of a checked URL; None without one."""
        if url is None:
            return None
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or 80, credentials)

    async def open_tunnel(self, host: str, port: int) -> socket.socket:
        """Return a connected, non-blocking socket to the destination. Raises OSError; ProxyRefused if it is refused."""
        connected = await happy_eyeballs.connect_host(self.host, self.port)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(connected, self._encode_connect(host, port))
            _check_response(await _read_head(connected))
        except BaseException:
            connected.close()
            raise
        return connected

    def _encode_connect(self, host: str, port: int) -> bytes:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.credentials is not None:
            encoded = b64encode(self.credentials.get_secret_value().encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {encoded}")
        return "\r\n".join([*lines, "", ""]).encode()


async def _read_head(connected: socket.socket) -> bytes:
    """Read the head of the response, and what follows it, which `_check_response` refuses. Raises ProxyRefused."""
    loop = asyncio.get_running_loop()
    head = b""
    while b"\r\n\r\n" not in head:
        piece = await loop.sock_recv(connected, 4096)
        if not piece:
            raise ProxyRefused("the proxy closed the connection")
        head += piece
        if len(head) > _MAX_HEAD_BYTES:
            raise ProxyRefused("the head of the proxy's response is too large")
    return head


def _check_response(head: bytes) -> None:
    match = _status_line(head)
    if match is None:
        raise ProxyRefused("the proxy's response is not HTTP/1.1")
    if not match[1].startswith(b"2"):
        raise ProxyRefused(f"the proxy refused the connection (status {match[1].decode()})")
    if not head.endswith(b"\r\n\r\n"):
        raise ProxyRefused("the proxy's response has a body")
