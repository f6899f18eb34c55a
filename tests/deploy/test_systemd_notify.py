"""Notification protocol of systemd (sd_notify), on a real datagram socket."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.app.systemd_notify import Notifier
from tests.support.clock import ManualClock

_PATIENCE = 20.0


@contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    """Listen at the value of NOTIFY_SOCKET; a value that begins with @ is an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(_PATIENCE)
        manager.bind("\0" + name[1:] if name.startswith("@") else name)
        yield manager


@pytest.fixture(params=["path", pytest.param("abstract", marks=pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has abstract sockets"))])  # fmt: skip
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Value of NOTIFY_SOCKET: a path or an abstract name."""
    return str(tmp_path / "notify") if request.param == "path" else f"@runward-{secrets.token_hex(8)}"


def notifier(name: str, **more: str) -> Notifier:
    return Notifier.from_environment({"NOTIFY_SOCKET": name, **more}, 4711)


def heard(manager: socket.socket) -> list[str]:
    """Return the lines of the next datagram."""
    return manager.recv(4096).decode().split("\n")


def test_each_state_is_a_datagram(name: str) -> None:
    with listening(name) as manager:
        told = notifier(name)
        told.ready("listening on\nhttp://127.0.0.1:8080")
        told.stopping("draining")
        told.alive()
        assert ["READY=1", "STATUS=listening on http://127.0.0.1:8080"] == heard(manager)
        assert ["STOPPING=1", "STATUS=draining"] == heard(manager)
        assert ["WATCHDOG=1"] == heard(manager)


def test_a_reload_carries_the_monotonic_time_in_microseconds(name: str) -> None:
    with listening(name) as manager:
        notifier(name).reloading()
        state, moment = heard(manager)
    assert "RELOADING=1" == state
    assert re.fullmatch(r"MONOTONIC_USEC=\d+", moment)


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "@"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_that_is_supported_nothing_is_sent(environ: dict[str, str]) -> None:
    told = Notifier.from_environment({**environ, "WATCHDOG_USEC": "1000000"}, 4711)
    assert Notifier() == told
    told.ready()


def test_a_manager_that_is_gone_or_does_not_read_its_watchdog_is_no_error(tmp_path: Path) -> None:
    name = str(tmp_path / "notify")
    notifier(name).ready()
    with listening(name):
        for _ in range(10_000):  # more than its queue takes
            notifier(name).alive()


def test_a_state_waits_for_room_in_the_queue(name: str) -> None:
    """Watchdog messages may fill the socket buffer; READY=1 must not be lost."""
    with listening(name) as manager:
        for _ in range(1000):
            notifier(name).alive()
        reader = threading.Timer(0.1, manager.recv, [4096])
        reader.start()
        notifier(name).ready()
        reader.join()
        manager.setblocking(False)
        told = list(iter(lambda: heard(manager)[0], "READY=1"))
    assert {"WATCHDOG=1"} == set(told)


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "4711"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "4712"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_it_names(more: dict[str, str], seconds: float | None) -> None:
    assert seconds == notifier("/run/notify", **more).watchdog


async def test_the_watchdog_is_notified_twice_in_its_period(name: str) -> None:
    clock = ManualClock()
    with listening(name) as manager:
        keeping = asyncio.create_task(notifier(name, WATCHDOG_USEC="30000000").keep_alive(clock))
        for _ in range(10):  # this clock does not wait
            await asyncio.sleep(0)
        assert [["WATCHDOG=1"]] * 4 == [heard(manager) for _ in range(4)]
        keeping.cancel()
    assert {15.0} == set(clock.slept)
    await notifier(name).keep_alive(clock)  # no watchdog: it ends
