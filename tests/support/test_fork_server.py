"""Forked processes start and end like those of a new interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest

from tests.support.fork_server import ForkServer, can_fork
from tests.support.fork_server_main import StartRequest
from tests.support.process import ROOT, GatewayProcess, inherited_environment
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "tests.support.process_report"
StartReport: TypeAlias = Callable[[str, bool], GatewayProcess]

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not can_fork(inherited_environment()), reason="forked on Linux, and without coverage"),
]


@pytest.fixture
def start(tmp_path: Path) -> StartReport:
    """Start a process that reports on itself; the arguments are its own one, and True for a forked one."""

    def started(argument: str, fork: bool) -> GatewayProcess:  # noqa: FBT001 - the parameter of the test
        directory = tmp_path / f"fork-{fork}"
        directory.mkdir()
        return GatewayProcess(
            [sys.executable, "-m", MODULE, argument], directory, {"ONE_SECRET": "with spaces"}, fork=fork
        )

    return started


async def test_a_forked_process_observes_what_a_new_interpreter_does(start: StartReport) -> None:
    """Environment, files, signals, search path and the rest of the report are equal."""
    forked, executed = start("0", True), start("0", False)
    assert (0, 0) == (await forked.wait_until_exit(), await executed.wait_until_exit())
    expected = json.loads(executed.stdout.replace("fork-False", "fork-True"))
    assert {"PATH": os.environ["PATH"], "ONE_SECRET": "with spaces"}.items() <= expected["environment"].items()
    assert expected == json.loads(forked.stdout)
    assert executed.stderr == forked.stderr == "error text\n"


@pytest.mark.parametrize("fork", [True, False])
async def test_exit_codes_and_tracebacks_are_reported(start: StartReport, fork: bool) -> None:  # noqa: FBT001
    raised = start("raise", fork)
    assert 1 == await raised.wait_until_exit()
    assert raised.stderr.endswith("ValueError: raised\n")


@pytest.mark.parametrize("fork", [True, False])
async def test_an_exit_code_is_kept(start: StartReport, fork: bool) -> None:  # noqa: FBT001
    ended = start("7", fork)
    assert 7 == await ended.wait_until_exit()
    ended.terminate()  # has no effect
    assert (7, 7) == (ended.exit_code, await ended.stop())


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, -15), (signal.SIGINT, -2), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("fork", [True, False])
async def test_signals_end_the_process(
    start: StartReport, number: signal.Signals, expected: int, *, fork: bool
) -> None:
    waiting = start("wait", fork)
    await wait_until(lambda: waiting.stderr)
    assert waiting.exit_code is None
    os.kill(waiting.pid, number)
    assert expected == await waiting.wait_until_exit()


def test_a_closed_fork_server_leaves_no_process() -> None:
    server = ForkServer(ROOT, inherited_environment(), [])
    output_end, input_end = os.pipe()
    request = StartRequest(module=MODULE, arguments=["wait"], environment=inherited_environment())
    process = server.start(request, input_end, input_end)
    os.close(input_end)
    with os.fdopen(output_end) as output:
        assert output.readline().startswith("{")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        server.close()
        assert "error text\n" == output.read()  # the end: no process holds the other end of the pipe
    assert -signal.SIGKILL == process.poll()
