"""Listening sockets of the supervisor, which all workers inherit (prefork)."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from gateway.app.listeners import LISTEN_BACKLOG, is_dual_stack, open_dual_stack_socket


@contextmanager
def open_listening_sockets(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Listen on every address of `host`, at `::` for IPv4 as well.

    Connections wait in the backlog for a worker. Raises OSError.
    """
    sockets: list[socket.socket] = []
    try:
        if is_dual_stack(host):
            sockets.append(open_dual_stack_socket(port))
            yield sockets
            return
        for family, sockaddr in _resolve_addresses(host, port):
            sockets.append(socket.socket(family))
            _bind_and_listen(sockets[-1], sockaddr)
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def socket_address(sock: socket.socket) -> tuple[str, int]:
    """Return the host and port of a socket."""
    host, port, *_ = sock.getsockname()
    return host, port


def _resolve_addresses(host: str, port: int) -> Iterable[tuple[socket.AddressFamily, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found)


def _bind_and_listen(sock: socket.socket, sockaddr: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:  # 0.0.0.0 may belong to another process
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind(sockaddr)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"{sockaddr[0]}:{sockaddr[1]}: {error.strerror}") from None
