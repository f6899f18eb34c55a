"""`runward runs list` and `runward runs show`, against a real operations port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from gateway.api.admin.openapi.runs import GROUP
from gateway.cli.operations.run_conditions import CONDITIONS, LIST_CONDITIONS, Api, Status, WaitCause
from gateway.runs.timeline import encode_event
from tests.support.clock import ManualClock
from tests.support.fake_upstream.upstream import closed_port
from tests.support.runs_port import OWNER, RunsPort, run_id, runs_port

if TYPE_CHECKING:
    from tests.cli.conftest import CommandResult, RunCommand


@pytest.fixture
async def port() -> AsyncIterator[RunsPort]:
    async with runs_port(ManualClock()) as running:
        yield running


async def typed(runward: RunCommand, port: RunsPort, *words: str) -> CommandResult:
    """Run a command while the port serves it."""
    return await asyncio.to_thread(runward, "runs", *words, RUNWARD_OPS_URL=port.url)


async def listed(runward: RunCommand, port: RunsPort, *words: str) -> list[int]:
    """Return the numbers of the runs that a list has."""
    result = await typed(runward, port, "list", "--json", *words)
    assert (0, "") == (result.code, result.err)
    return [int(json.loads(line)["id"].removeprefix("run_"), 16) for line in result.out.splitlines()]


async def test_the_list_is_a_table(runward: RunCommand, port: RunsPort) -> None:
    await port.start(1, ago=60, client="search\x1b[2J")
    await port.act(1, state="queued", waiting_for="limit", retrying=True)
    error = {"error": {"code": "run_failed", "detail": "No."}, "duration_ms": 1500}
    await port.record(2, ago=30, status="failed", attempts=2, details=error)
    result = await typed(runward, port, "list")
    assert (0, "") == (result.code, result.err)
    head, *rows = (line.split() for line in result.out.splitlines())
    columns = "CREATED ID STATUS CODE CLIENT WORKFLOW PROVIDER SECONDS ATTEMPTS ACTIVITY"
    assert columns.split() == head
    assert ["2026-11-21T11:59:30.000Z", run_id(2), "failed", "run_failed"] == rows[0][:4]
    assert ["checkout", "triage", "studio", "1.500", "2", "-"] == rows[0][4:]
    assert [run_id(1), "queued", "-", "search?[2J", "triage", "studio", "-", "0"] == rows[1][1:9]
    assert "queued, waits for limit, retrying" == " ".join(rows[1][9:])


async def test_an_empty_list_is_a_head_only(runward: RunCommand, port: RunsPort) -> None:
    result = await typed(runward, port, "list")
    assert (0, "CREATED", 1) == (result.code, result.out.split()[0], len(result.out.splitlines()))
    assert [] == await listed(runward, port)


async def test_each_condition_is_an_option(runward: RunCommand, port: RunsPort) -> None:
    labels = {"metadata": {"ticket": "4711", "a=b": "c"}}
    await port.start(1, ago=60, client="search", key="key-1", workflow="other")
    await port.act(1, state="queued", waiting_for="backoff", retrying=True)
    await port.record(2, ago=30, tags=("a", "b"), provider="layer", provider_run_id="42", details=labels)
    await port.record(
        3, ago=5, status="unknown", tags=("a",), details={"api": "promptlayer", "error": {"code": "internal"}}
    )
    await port.store.judge(run_id(3), b"{}")
    for words, expected in (
        (("--client", "search"), [1]),
        (("--workflow", "other"), [1]),
        (("--provider", "layer"), [2]),
        (("--api", "promptlayer"), [3]),
        (("--status", "unknown"), [3]),
        (("--code", "internal"), [3]),
        (("--tag", "a"), [3, 2]),
        (("--tag", "a", "--tag", "b"), [2]),
        (("--meta", "ticket=4711"), [2]),
        (("--provider-run-id", "42"), [2]),
        (("--min-duration", "10"), [2]),
        (("--max-duration", "10.5"), [3]),
        (("--waiting-for", "backoff"), [1]),
        (("--retrying",), [1]),
        (("--kept",), [1]),
        (("--not-kept",), [3, 2]),
        (("--judged",), [3]),
        (("--not-judged",), [2, 1]),
        (("--client", "search", "--idempotency-key", "key-1"), [1]),
        (("--id", run_id(2)), [2]),
        (("--created-after", "2026-11-21T11:59:30Z"), [3, 2]),
        (("--created-before", "2026-11-21T11:59:30Z"), [1]),
    ):
        assert expected == await listed(runward, port, *words), words


def test_options_and_parameters_are_the_same() -> None:
    """But for another name of the status, the page, and metadata, whose names are open."""
    parameters = {str(each["name"]): each["schema"] for each in GROUP.operations[0].parameters}
    assert {*LIST_CONDITIONS, "outcome", "limit", "cursor", "metadata"} - {"meta"} == parameters.keys()
    assert CONDITIONS.keys() <= LIST_CONDITIONS.keys()
    for name, choices in (("api", Api), ("status", Status), ("waiting_for", WaitCause)):
        schema = parameters[name]
        assert isinstance(schema, dict)
        assert [each.value for each in choices] == schema["enum"]


async def test_a_list_ends_at_its_limit_and_with_all_at_its_end(runward: RunCommand, port: RunsPort) -> None:
    for number in range(1, 251):
        await port.record(number, ago=1000 - number)
    for words, count in (((), 50), (("--limit", "120"), 120), (("--limit", "250"), 250), (("--all",), 250)):
        result = await typed(runward, port, "list", "--json", *words)
        assert (0, count) == (result.code, len({*result.out.splitlines()}))
        assert (count < 250) == ("there are more: raise --limit, or give --all\n" == result.err)
    result = await typed(runward, port, "list", "--all")
    assert 251 == len(result.out.splitlines())


async def test_show_prints_facts_and_a_timeline(runward: RunCommand, port: RunsPort) -> None:
    at = ManualClock().now().timestamp() - 10
    events = (
        encode_event(at, "waited", "limit", 1.5)
        + encode_event(at + 1.5, "called", "start", None, "unreachable", "no", 0.2, None, None)
        + encode_event(at + 2, "called", "start", 200, None, "yes", 0.25, True, None)
        + encode_event(at + 4, "called", "poll", 200, None, "yes", 0.5, True, 3)
        + encode_event(at + 5, "fell_back", "other", "layer")
        + encode_event(at + 6, "adopted", OWNER)
        + encode_event(at + 7, "deadline_passed")
        + encode_event(at + 8.25, "ended", "failed", "run_failed")
        + encode_event(at + 9, "callback_attempted", 1, "503\x1b", 0.1)
    )
    labels = {"metadata": {"ticket": "4711"}, "label": "prod"}
    await port.start(1, ago=10, tags=("a", "b"), callback_url="https://hooks.example.com/x", details=labels)
    error = {"code": "run_failed", "detail": "No\x1b."}
    await port.end(1, "failed", events, error=error, tags=["a", "b"], waits={"limit": 1.5})
    result = await typed(runward, port, "show", run_id(1))
    assert (0, "") == (result.code, result.err)
    facts, _, timeline = result.out.partition("\n\n")
    shown = dict(line.split(maxsplit=1) for line in facts.splitlines())
    assert (run_id(1), "failed", "run_failed: No?.") == (shown["id"], shown["status"], shown["error"])
    assert ("a b", "true", "limit 1.5 s") == (shown["tags"], shown["kept"], shown["waits"])
    assert "pending" == shown["callback"]
    assert {"warning", "activity", "judgement"}.isdisjoint(shown)
    assert [
        "timeline: seconds since the creation",
        "     +0.000  waited              for limit, 1.5 s",
        "     +1.500  called              start: unreachable in 0.2 s, sent: no",
        "     +2.000  called              start: 200 in 0.25 s, on a reused connection",
        "     +4.000  called              poll: 200 in 0.5 s, 3 times, on a reused connection",
        "     +5.000  fell_back           workflow=other provider=layer",
        f"     +6.000  adopted             owner={OWNER}",
        "     +7.000  deadline_passed",
        "     +8.250  ended               failed, run_failed",
        "     +9.000  callback_attempted  attempt 1: 503? in 0.1 s",
    ] == timeline.splitlines()
    document = json.loads((await typed(runward, port, "show", run_id(1), "--json")).out)
    assert ("checkout", 9) == (document["client"], len(document["timeline"]))


async def test_show_without_a_timeline_says_so(runward: RunCommand, port: RunsPort) -> None:
    """An unfinished run may have events that are not in the store yet."""
    await port.start(1)
    await port.act(1, state="following", polls=2, next_poll_at=1_795_000_000.0)
    result = await typed(runward, port, "show", run_id(1))
    assert "no event is recorded yet" == result.out.splitlines()[-1]
    assert "following, polls 2" in result.out
    await port.end(1, "succeeded", b"")
    assert "no timeline is recorded" == (await typed(runward, port, "show", run_id(1))).out.splitlines()[-1]


async def test_what_is_wrong_has_its_exit_code(runward: RunCommand, port: RunsPort) -> None:
    """1: there is no such run. 2: a condition has no meaning."""
    missing = await typed(runward, port, "show", "run_\x1b1")
    assert (1, "", "runward: no run run_?1 is recorded\n") == (missing.code, missing.out, missing.err)
    for command in ("list", "tail"):
        refused = await typed(runward, port, command, "--code", "nonsense")
        assert (2, "") == (refused.code, refused.out)
        assert "invalid_request" in refused.err
        assert "?code" in refused.err
    for words in (
        ("list", "--meta", "ticket"),
        ("list", "--status", "odd"),
        ("list", "--min-duration", "-1"),
        ("show",),
    ):
        refused = await typed(runward, port, *words)
        assert (2, "") == (refused.code, refused.out)


def test_an_unreachable_gateway_is_exit_code_2(runward: RunCommand) -> None:
    with closed_port() as url:
        for words in (("list",), ("show", "run_1"), ("tail",)):
            result = runward("runs", *words, RUNWARD_OPS_URL=url)
            assert (2, "") == (result.code, result.out)
            assert "cannot be reached" in result.err
