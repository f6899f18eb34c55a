"""The workers of a port take connections in turn."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.supervisor.accepting import server
from gateway.supervisor.accepting.turns import MAX_LEAD, AcceptCounts, AcceptTurns
from tests.app.tls_harness import TestAuthority
from tests.support.waiting import wait_until


@pytest.fixture
def counts() -> Iterator[AcceptCounts]:
    """Counts of three workers of which none accepts."""
    with AcceptCounts.create(3) as created:
        yield created


def accept_while_allowed(turns: AcceptTurns, limit: int = 100) -> int:
    """Accept as many connections as the worker may; returns their number."""
    for accepted in range(limit):
        if turns.slower_workers():
            return accepted
        turns.count_accepted()
    return limit


def joined(counts: AcceptCounts, *workers: int) -> list[AcceptTurns]:
    """Return the turns of workers that take part, each with a mapping of its own as in another process."""
    turns = [AcceptTurns(AcceptCounts.attach(counts.descriptor), worker) for worker in workers]
    for each in turns:
        each.join()
    return turns


def test_a_lone_worker_accepts_everything(counts: AcceptCounts) -> None:
    [one] = joined(counts, 1)
    assert 100 == accept_while_allowed(one)


def test_a_worker_waits_for_the_others(counts: AcceptCounts) -> None:
    """It may be ahead by `MAX_LEAD`, and goes on once the slowest has accepted."""
    one, two, three = joined(counts, 0, 1, 2)
    assert (4, 4) == (MAX_LEAD, accept_while_allowed(one))
    assert {1: 0, 2: 0} == one.slower_workers()
    two.count_accepted()
    assert {2: 0} == one.slower_workers()
    three.count_accepted()
    assert 1 == accept_while_allowed(one)


@pytest.mark.parametrize("lead", [-MAX_LEAD, 0, MAX_LEAD])
def test_no_order_of_accepts_divides_fifty_worse_than_sixty_to_forty(counts: AcceptCounts, lead: int) -> None:
    """Whichever of two is ahead before, and however one of them is preferred."""
    one, two = joined(counts, 0, 1)
    first, second = (one, two) if lead >= 0 else (two, one)
    accept_while_allowed(first, abs(lead))
    taken = dict.fromkeys((0, 1), 0)
    for _ in range(50):
        preferred = second if not second.slower_workers() else first
        assert not preferred.slower_workers()
        preferred.count_accepted()
        taken[preferred.worker] += 1
    assert max(taken.values()) <= 29


def test_a_new_worker_has_neither_lead_nor_arrears(counts: AcceptCounts) -> None:
    """Else the replacement of a worker would take every connection, or none."""
    [one] = joined(counts, 0)
    accept_while_allowed(one, 70)
    [two] = joined(counts, 1)
    assert [70, 70, -1] == list(counts.values)
    assert (MAX_LEAD, 2 * MAX_LEAD) == (accept_while_allowed(one), accept_while_allowed(two))


def test_a_worker_that_has_left_is_not_waited_for(counts: AcceptCounts) -> None:
    """It left by itself, or its supervisor found that it has ended."""
    one, two, _ = joined(counts, 0, 1, 2)
    two.leave()
    counts.remove(2)
    assert 100 == accept_while_allowed(one)


def test_an_ignored_worker_is_waited_for_again_once_it_accepts(counts: AcceptCounts) -> None:
    """Its arrears are bounded: it does not take all that follow either."""
    one, two = joined(counts, 0, 1)
    accept_while_allowed(one)
    one.ignore(one.slower_workers())
    assert 100 == accept_while_allowed(one)
    two.count_accepted()
    assert [104, 100, -1] == list(counts.values)
    assert {1: 100} == one.slower_workers()
    assert 2 * MAX_LEAD == accept_while_allowed(two)


class Accepted(asyncio.Protocol):
    """Counts the connections of one server."""

    def __init__(self, transports: list[asyncio.BaseTransport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transports.append(transport)


class Worker:
    """A server as of one worker, and the connections that it accepted."""

    def __init__(
        self, listening: socket.socket, counts: AcceptCounts, index: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self.accepted: list[asyncio.BaseTransport] = []
        self.turns = AcceptTurns(AcceptCounts.attach(counts.descriptor), index)
        inherited = socket.socket(fileno=os.dup(listening.fileno()))
        self.server = server.TurnTakingServer(inherited, self.turns, lambda: Accepted(self.accepted), tls)

    def close(self) -> None:
        """Close the server and its connections."""
        self.server.close()
        for transport in self.accepted:
            transport.close()


@asynccontextmanager
async def workers(
    counts: AcceptCounts, *indexes: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[tuple[str, int], list[Worker]]]:
    """Serve one port with several workers; yields its address and the workers."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        started = [Worker(listening, counts, index, tls) for index in indexes]
        try:
            yield listening.getsockname()[:2], started
        finally:
            for worker in started:
                worker.close()


@asynccontextmanager
async def burst(address: tuple[str, int], count: int) -> AsyncIterator[None]:
    """Open connections at once, from outside of the event loop."""
    opened = await asyncio.to_thread(lambda: [socket.create_connection(address, timeout=30) for _ in range(count)])
    try:
        yield
    finally:
        for each in opened:
            each.close()


async def test_two_servers_divide_a_burst(counts: AcceptCounts) -> None:
    async with workers(counts, 0, 1) as (address, (one, two)), burst(address, 50):
        await wait_until(lambda: len(one.accepted) + len(two.accepted) == 50)
        assert max(len(one.accepted), len(two.accepted)) <= 29


async def test_a_worker_that_does_not_accept_is_not_waited_for_long(counts: AcceptCounts) -> None:
    """A stopped process: every connection goes to the other."""
    joined(counts, 2)
    async with workers(counts, 0) as (address, [one]), burst(address, 50):
        await wait_until(lambda: len(one.accepted) == 50)
    async with workers(counts, 0) as (address, [one]), burst(address, 5):
        await wait_until(lambda: len(one.accepted) == 5)


async def test_a_closed_server_leaves_its_connections_and_its_turns(counts: AcceptCounts) -> None:
    async with workers(counts, 0, 1) as (address, (one, two)), burst(address, 20):
        await wait_until(lambda: len(one.accepted) + len(two.accepted) == 20)
        kept = len(one.accepted)
        one.server.close()
        one.server.close()
        assert () == one.server.sockets
        async with burst(address, 20):
            await wait_until(lambda: len(two.accepted) == 40 - kept)
        assert (kept, False) == (len(one.accepted), any(each.is_closing() for each in one.accepted))


async def test_a_server_that_waits_can_be_closed(counts: AcceptCounts) -> None:
    """Its connections in the backlog are for another."""
    [behind] = joined(counts, 1)
    async with workers(counts, 0) as (address, [one]), burst(address, MAX_LEAD + 3):
        await wait_until(lambda: len(one.accepted) == MAX_LEAD)
        one.server.close()
        await asyncio.sleep(0.15)
        assert MAX_LEAD == len(one.accepted)
    assert not behind.slower_workers()


async def test_nagles_algorithm_is_off(counts: AcceptCounts) -> None:
    async with workers(counts, 0) as (address, [one]), burst(address, 1):
        await wait_until(lambda: len(one.accepted) == 1)
        sock = one.accepted[0].get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_failed_tls_handshake_is_no_defect(counts: AcceptCounts, tmp_path: Path) -> None:
    """The connection is closed, nothing is reported, and the next client is served."""
    authority = TestAuthority.create(tmp_path)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(*authority.issue("server", "127.0.0.1"))
    client_context = ssl.create_default_context(cafile=str(authority.ca_file))
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with workers(counts, 0, tls=server_context) as (address, [one]):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert not one.accepted
        await reader.read()
        writer.close()
        _, writer = await asyncio.open_connection(*address, ssl=client_context)
        await wait_until(lambda: len(one.accepted) == 1)
        writer.close()
    assert [] == reported


async def test_a_lack_of_descriptors_is_reported_and_passes(
    counts: AcceptCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connections wait in the backlog; the event loop does not spin."""
    failures = [OSError(errno.EMFILE, "Too many open files")]
    monkeypatch.setattr(server, "_RETRY_DELAY", 0.05)
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))

    class Failing(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop()
            return super().accept()

    with Failing() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        [turns] = joined(counts, 0)
        accepted: list[asyncio.BaseTransport] = []
        serving = server.TurnTakingServer(listening, turns, lambda: Accepted(accepted))
        async with burst(listening.getsockname(), 3):
            await wait_until(lambda: len(accepted) == 3)
        serving.close()
    assert [errno.EMFILE] == [error.errno for error in reported if isinstance(error, OSError)]
