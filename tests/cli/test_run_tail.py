"""`runward runs tail`: each run once when it is new and once when it has ended, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from gateway.cli.errors import CliError
from gateway.cli.operations.client import OpsClient, OpsProblem
from gateway.cli.operations.run_tail import RunTail, tail_runs
from gateway.clock import SystemClock
from gateway.store.contract import StoreUnavailable
from tests.support.clock import ManualClock
from tests.support.process import ROOT, inherited_environment
from tests.support.runs_port import RunsPort, run_id, runs_port
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from gateway.cli.operations.run_conditions import Conditions


class Following:
    """A tail of a port with a virtual clock."""

    def __init__(self, port: RunsPort, clock: ManualClock) -> None:
        self.port, self.clock = port, clock
        self.tail = RunTail(OpsClient(port.url, ""), {}, 600.0, clock.monotonic)

    async def begin(self, **query: Any) -> None:
        conditions: Conditions = query
        self.tail = RunTail(OpsClient(self.port.url, ""), conditions, 600.0, self.clock.monotonic)
        await asyncio.to_thread(self.tail.begin)

    async def poll(self) -> list[tuple[int, str]]:
        """Return numbers and changes after a second."""
        self.clock.advance(1.0)
        return [
            (int(str(run["id"]).removeprefix("run_"), 16), "new" if run["finished_at"] is None else str(run["status"]))
            for run in await asyncio.to_thread(self.tail.poll)
        ]


@pytest.fixture
async def following() -> AsyncIterator[Following]:
    clock = ManualClock()
    async with runs_port(clock) as port:
        yield Following(port, clock)


async def test_each_change_is_seen_once(following: Following) -> None:
    """New runs, ends, and runs that have a record at their end only; nothing of what was before."""
    port = following.port
    await port.start(1, ago=30)
    await port.record(2, ago=20)
    await following.begin()
    assert [] == await following.poll()
    await port.start(3)
    await port.record(4, ago=300)  # a long one that was not durable
    assert [(4, "succeeded"), (3, "new")] == sorted(await following.poll(), key=lambda each: -each[0])
    assert [] == await following.poll()
    await port.end(1, "failed")
    await port.end(3)
    assert {(1, "failed"), (3, "succeeded")} == {*await following.poll()}
    assert [] == await following.poll()


async def test_changes_are_in_the_order_of_their_times(following: Following) -> None:
    await following.begin()
    await following.port.start(1, ago=0.5)
    await following.port.record(2, ago=0.9, finished_at=following.clock.now().timestamp() - 0.3)
    await following.port.start(3, ago=0.1)
    assert [(1, "new"), (2, "succeeded"), (3, "new")] == await following.poll()


async def test_a_run_that_is_older_than_the_window_is_seen_at_its_end(following: Following) -> None:
    """Also if it was in progress at the start already."""
    port = following.port
    await port.start(1, ago=4000)
    await port.start(2, ago=10)
    await following.begin()
    following.clock.advance(3600.0)
    assert [] == await following.poll()
    await port.end(1)
    await port.end(2, "failed")
    assert {(1, "succeeded"), (2, "failed")} == {*await following.poll()}
    assert [] == await following.poll()


async def test_a_deleted_run_is_forgotten(following: Following) -> None:
    await following.port.start(1, ago=10)
    await following.begin()
    await following.port.store.discard_run(run_id(1), owner="owner-of-tests")
    assert ([], []) == (await following.poll(), await following.poll())


async def test_nothing_is_lost_while_the_store_is_away(following: Following, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor by an error between two pages; the times are those of the gateway."""
    port = following.port
    await following.begin()
    listing, calls = port.store.list_runs, 0

    async def fail(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2 == 0:
            raise StoreUnavailable("away")
        return await listing(*args)

    monkeypatch.setattr(port.store, "list_runs", fail)
    for number in range(1, 151):
        await port.start(number)
    for _ in range(3):
        with pytest.raises(OpsProblem, match="store_unavailable"):
            await following.poll()
        following.clock.advance(120.0)
        calls = 0
    monkeypatch.setattr(port.store, "list_runs", listing)
    assert [(number, "new") for number in range(1, 151)] == sorted(await following.poll())
    assert [] == await following.poll()


async def test_with_many_runs_the_window_is_read_now_and_then(following: Following) -> None:
    """A run that was not durable is seen within five seconds of its end then."""
    for number in range(1, 300):
        await following.port.record(number, ago=300)
    await following.begin()
    assert [] == await following.poll()
    await following.port.record(500, ago=200)
    await following.port.start(501)
    seen = [await following.poll() for _ in range(6)]
    assert ([(501, "new")], [(500, "succeeded")]) == (seen[0], [each for found in seen[1:] for each in found])


async def test_conditions_select_the_changes(following: Following) -> None:
    """The end of a run that was printed is printed, although it does not meet them any more."""
    port = following.port
    await following.begin(client="search", waiting_for="limit")
    await port.start(1, client="search")
    await port.start(2)
    assert [] == await following.poll()
    for number in (1, 2):
        await port.act(number, state="queued", waiting_for="limit")
    assert [(1, "new")] == await following.poll()
    await port.act(1, state="starting")
    assert [] == await following.poll()
    await port.end(1)
    assert [(1, "succeeded")] == await following.poll()


async def test_a_condition_on_the_end_prints_the_end_only(following: Following) -> None:
    port = following.port
    await following.begin(status="failed", code="run_failed", min_duration="1.000000", max_duration=None)
    for number in (1, 2, 3):
        await port.start(number)
    assert [] == await following.poll()
    await port.end(1, "failed", error={"code": "run_failed"}, duration_ms=1500)
    await port.end(2, "failed", error={"code": "run_failed"}, duration_ms=500)
    await port.end(3, duration_ms=1500)
    assert [(1, "failed")] == await following.poll()


class Ended(Exception):
    """Ends a tail."""


async def test_an_outage_is_one_message(following: Following, capsys: pytest.CaptureFixture[str]) -> None:
    """A problem that will not pass ends the command."""
    client, rounds = OpsClient(following.port.url, ""), 0

    def wait(_seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            client._url = "http://127.0.0.1:1"
        elif rounds == 4:
            client._url = following.port.url
            asyncio.run_coroutine_threadsafe(following.port.start(1), loop).result()
        elif rounds == 5:
            raise Ended

    loop = asyncio.get_running_loop()
    with pytest.raises(Ended):
        await asyncio.to_thread(tail_runs, client, {}, interval=1.0, window=600.0, as_json=False, wait=wait)
    written = capsys.readouterr()
    assert 1 == written.err.count("it is asked again")
    assert ["new", run_id(1), "queued", "checkout", "triage", "studio", "-", "-"] == written.out.split()[1:]
    refused = asyncio.to_thread(
        tail_runs, client, {"code": "nonsense"}, interval=1.0, window=600.0, as_json=False, wait=wait
    )
    with pytest.raises(CliError, match="invalid_request"):
        await refused


async def test_ctrl_c_ends_it() -> None:
    """Each line was written by then."""
    async with runs_port(SystemClock()) as port:
        command = [sys.executable, "-m", "gateway", "runs", "tail", "--json", "--interval", "0.1"]
        environment = {**inherited_environment(), "RUNWARD_OPS_URL": port.url}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        seen: list[Any] = []

        async def read() -> None:
            assert process.stdout is not None
            seen.append(json.loads(await process.stdout.readline()))

        async with asyncio.timeout(WAIT_TIMEOUT):
            reading, number = asyncio.ensure_future(read()), 0
            while not reading.done():  # until the command has begun
                number += 1
                await port.record(number)
                await asyncio.wait((reading,), timeout=0.1)
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
        assert (130, b"") == (process.returncode, err)
        assert "succeeded" == seen[0]["status"]
