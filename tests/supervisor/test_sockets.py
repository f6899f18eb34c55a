"""The public port is opened once, for every address of its host, or not at all."""

from __future__ import annotations

import socket

import pytest

from gateway.supervisor.sockets import open_listening_sockets, socket_address


def test_connections_wait_until_a_worker_accepts() -> None:
    """Connections wait while a worker is replaced."""
    with (
        open_listening_sockets("127.0.0.1", 0) as [opened],
        socket.create_connection(socket_address(opened), timeout=5),
    ):
        pass


def test_a_name_may_have_several_addresses() -> None:
    """A socket for each address."""
    with open_listening_sockets("localhost", 0) as opened:
        names = {socket_address(each)[0] for each in opened}
    assert names & {"127.0.0.1", "::1"}
    assert len(names) == len(opened)


def test_a_taken_port_is_named() -> None:
    with (
        open_listening_sockets("127.0.0.1", 0) as [opened],
        pytest.raises(OSError, match=rf"127\.0\.0\.1:{socket_address(opened)[1]}: Address already in use"),
        open_listening_sockets("127.0.0.1", socket_address(opened)[1]),
    ):
        pass


def test_the_port_is_free_again_afterwards() -> None:
    with open_listening_sockets("127.0.0.1", 0) as [opened]:
        port = socket_address(opened)[1]
    with open_listening_sockets("127.0.0.1", port) as [again]:
        assert port == socket_address(again)[1]
