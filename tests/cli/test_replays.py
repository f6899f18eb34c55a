"""`runward runs replay`: nothing is started before the plan is shown and confirmed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.stub_port import PortRequest, stub_port

if TYPE_CHECKING:
    from tests.cli.conftest import RunCommand

RUN_ID = "run_" + "1" * 32
PLAN: dict[str, Any] = {"total": 3, "not_run": 1, "failed": 2, "succeeded": 0, "unknown": 0, "truncated": True}


class StubReplays:
    """Stub of an operations port with one job, which ends at the second look."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, Any]] = []
        self.total = 3
        self.refusals: dict[str, int] = {}
        self.left_out = {"outcome_unknown\x1b[2J": 4}
        self.end = "done"
        self.price: dict[str, object] = {"total": "0.08", "unpriced": 1}
        self.states = ["running", "running"]

    def answer(self, request: PortRequest) -> tuple[int, bytes]:
        body = json.loads(request.body) if request.body else None
        self.received.append((request.method, request.target, body))
        state = "planned" if body and "plan" not in body else self.states.pop() if self.states else self.end
        progress = {"started": 1, "already_started": 0, "refused": 0, "left": 2, "refusals": self.refusals}
        plan = {**PLAN, "total": self.total, "left_out": self.left_out, "price": self.price}
        document = {"id": "rpl_1", "state": state, "plan": plan, "progress": progress}
        return 200 if state == "planned" else 202, json.dumps(document).encode()


@pytest.fixture
def port() -> StubReplays:
    """The stub."""
    return StubReplays()


@pytest.fixture
def url(port: StubReplays) -> Iterator[str]:
    """Its URL."""
    with stub_port(port.answer) as url:
        yield url


def test_a_replay_is_planned_confirmed_and_followed(runward: RunCommand, port: StubReplays, url: str) -> None:
    conditions = ["--filter", "tag=a", "--filter", "tag=b", "--filter", "status=failed"]
    ended = runward("runs", "replay", *conditions, "--yes", "--json", "--ops-url", url)
    assert (0, "done") == (ended.code, json.loads(ended.out)["state"])
    assert "declared price of all: 0.08, and 1 without a price" in ended.err
    for line in ("1 not_run: had cost nothing", "2 failed: each is a new paid run", "4 left out: outcome_unknown"):
        assert line in ended.err
    assert "\x1b" not in ended.err
    assert "there may be more" in ended.err
    selection = {"filter": {"tag": ["a", "b"], "status": "failed"}, "include_unknown": False, "rate": 5.0}
    starts = [body for method, _, body in port.received if method == "POST"]
    assert [selection, {**selection, "dry_run": False, "plan": "rpl_1"}] == starts
    assert ("GET", "/api/replays/rpl_1", None) == port.received[-1]


def test_nothing_is_started_without_a_yes(runward: RunCommand, port: StubReplays, url: str) -> None:
    refused = runward("runs", "replay", RUN_ID, "--ops-url", url)
    assert (130, True) == (refused.code, "nothing was started; --yes starts without a question" in refused.err)
    assert [{"ids": [RUN_ID], "include_unknown": False, "rate": 5.0}] == [body for _, _, body in port.received]


def test_a_no_is_exit_code_1(runward: RunCommand, port: StubReplays, url: str) -> None:
    refused = runward("runs", "replay", RUN_ID, "--ops-url", url, stdin="n\n")
    assert (1, 1) == (refused.code, len(port.received))
    assert refused.err.endswith("runward: nothing was started\n")


def test_a_plan_of_nothing_is_no_error(runward: RunCommand, port: StubReplays, url: str) -> None:
    port.total, port.left_out = 0, {"already_replayed": 1}
    ended = runward("runs", "replay", RUN_ID, "--ops-url", url)
    assert (0, 1) == (ended.code, len(port.received))
    assert "nothing to replay" in ended.err


@pytest.mark.parametrize("total", [0, 3])
def test_a_named_run_that_cannot_be_replayed_is_exit_code_1(
    runward: RunCommand, port: StubReplays, url: str, total: int
) -> None:
    """The other runs are replayed. Of a filter, runs that are left out are no error."""
    port.total, port.left_out = total, {"not_found": 1, "already_replayed": 2}
    ended = runward("runs", "replay", RUN_ID, "--yes", "--ops-url", url)
    assert (1, "runward: not replayed: 1 not_found") == (ended.code, ended.err.splitlines()[-1])
    assert (total > 0) == ("done: 1 started" in ended.err)
    assert 0 == runward("runs", "replay", "--filter", "tag=a", "--yes", "--ops-url", url).code


@pytest.mark.parametrize(("end", "refusals"), [("aborted", {}), ("done", {"forbidden": 2})])
def test_refusals_and_aborts_are_exit_code_1(
    runward: RunCommand, port: StubReplays, url: str, end: str, refusals: dict[str, int]
) -> None:
    port.end, port.refusals = end, refusals
    ended = runward("runs", "replay", RUN_ID, "--yes", "--ops-url", url)
    assert 1 == ended.code
    assert ("2 forbidden" if refusals else "aborted") in ended.err


@pytest.mark.parametrize("arguments", [[], [RUN_ID, "--filter", "a=b"], ["--filter", "a"], [RUN_ID, "--rate", "99"]])
def test_arguments_without_a_meaning_are_exit_code_2(
    runward: RunCommand, port: StubReplays, url: str, arguments: list[str]
) -> None:
    assert 2 == runward("runs", "replay", *arguments, "--ops-url", url).code
    assert [] == port.received


def test_a_job_is_shown_and_aborted(runward: RunCommand, port: StubReplays, url: str) -> None:
    shown = runward("runs", "show-replay", "rpl_1", "--ops-url", url)
    port.states = []
    port.end = "aborted"
    aborted = runward("runs", "abort-replay", "rpl_1", "--ops-url", url)
    line = "1 started, 0 already started, 0 refused, 2 left\n"
    assert (f"running: {line}", f"aborted: {line}") == (shown.out, aborted.out)
    assert [("GET", "/api/replays/rpl_1"), ("POST", "/api/replays/rpl_1/abort")] == [e[:2] for e in port.received]
