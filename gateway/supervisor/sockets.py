"""The public port, opened once for all workers, and held for as long as one may be started."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from gateway.app.listeners import LISTEN_BACKLOG


@contextmanager
def open_listening_sockets(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Listen on every address of `host`; OSError where one can not be had. Connections wait until a worker comes."""
    sockets: list[socket.socket] = []
    try:
        for family, sockaddr in _resolve_addresses(host, port):
            sockets.append(socket.socket(family))
            _bind_and_listen(sockets[-1], sockaddr)
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def socket_address(sock: socket.socket) -> tuple[str, int]:
    """Its host and port."""
    host, port, *_ = sock.getsockname()
    return host, port


def _resolve_addresses(host: str, port: int) -> Iterable[tuple[socket.AddressFamily, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found)


def _bind_and_listen(sock: socket.socket, sockaddr: tuple[object, ...]) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:  # 0.0.0.0 may be another's
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        sock.bind(sockaddr)
        sock.listen(LISTEN_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"{sockaddr[0]}:{sockaddr[1]}: {error.strerror}") from None
