"""The public port is opened once, for every address of its host, or not at all."""

from __future__ import annotations

import socket

import pytest

from gateway.supervisor.sockets import address, listening


def test_connections_wait_before_anybody_accepts() -> None:
    """While a worker is replaced nobody is refused."""
    with listening("127.0.0.1", 0) as [opened], socket.create_connection(address(opened), timeout=5):
        pass


def test_a_name_may_have_several_addresses() -> None:
    """Each of them is listened on."""
    with listening("localhost", 0) as opened:
        names = {address(each)[0] for each in opened}
    assert names & {"127.0.0.1", "::1"}
    assert len(names) == len(opened)


def test_a_taken_port_is_named() -> None:
    with (
        listening("127.0.0.1", 0) as [opened],
        pytest.raises(OSError, match=rf"127\.0\.0\.1:{address(opened)[1]}: Address already in use"),
        listening("127.0.0.1", address(opened)[1]),
    ):
        pass


def test_the_port_is_free_again_afterwards() -> None:
    with listening("127.0.0.1", 0) as [opened]:
        port = address(opened)[1]
    with listening("127.0.0.1", port) as [again]:
        assert port == address(again)[1]
