"""The public port, opened once for all workers, and held for as long as one may be started."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from gateway.lifecycle import BACKLOG


@contextmanager
def listening(host: str, port: int) -> Iterator[Sequence[socket.socket]]:
    """Listen on every address of `host`; OSError where one can not be had. Connections wait until a worker comes."""
    opened: list[socket.socket] = []
    try:
        for family, where in _addresses(host, port):
            opened.append(socket.socket(family))
            _listen(opened[-1], where)
        yield opened
    finally:
        for each in opened:
            each.close()


def address(opened: socket.socket) -> tuple[str, int]:
    """Its host and port."""
    host, port, *_ = opened.getsockname()
    return host, port


def _addresses(host: str, port: int) -> Iterable[tuple[socket.AddressFamily, tuple[object, ...]]]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return dict.fromkeys((family, where) for family, _, _, _, where in found)


def _listen(opened: socket.socket, where: tuple[object, ...]) -> None:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if opened.family == socket.AF_INET6:  # 0.0.0.0 may be another's
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        opened.bind(where)
        opened.listen(BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"{where[0]}:{where[1]}: {error.strerror}") from None
