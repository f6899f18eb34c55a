"""`runward callbacks replay`: requests to the operations port, and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from tests.cli.stub_port import PortRequest, stub_port
from tests.support.fake_upstream.upstream import closed_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import CommandResult, RunCommand

PAGE = 3


class StubOpsPort:
    """Stub of an operations port; `given_up` is the list of abandoned callbacks, `known` can be replayed."""

    def __init__(self) -> None:
        self.given_up: list[str] = []
        self.known: set[str] = set()
        self.replayed: list[str] = []
        self.requests: list[str] = []
        self.authorization: set[str | None] = set()
        self.override: tuple[int, bytes] | None = None

    def answer(self, method: str, target: str) -> tuple[int, bytes]:
        self.requests.append(f"{method} {target}")
        if self.override is not None:
            return self.override
        if method == "GET":
            after = parse_qs(urlsplit(target).query).get("after", [""])[0]
            runs = [run_id for run_id in self.given_up if run_id > after][:PAGE]
            return 200, json.dumps({"runs": runs, "next": runs[-1] if len(runs) == PAGE else None}).encode()
        run_id = target.rpartition("/")[2]
        if run_id not in self.known:
            return 404, b'{"code": "not_found", "detail": "No."}'
        self.replayed.append(run_id)
        return 202, json.dumps({"id": run_id, "callback": {"state": "pending"}}).encode()


@pytest.fixture
def port() -> StubOpsPort:
    return StubOpsPort()


@pytest.fixture
def url(port: StubOpsPort) -> Iterator[str]:
    def answer(request: PortRequest) -> tuple[int, bytes]:
        port.authorization.add(request.authorization)
        status, content = port.answer(request.method, request.target)
        if request.method == "POST" and request.content_type != "application/json":
            return 415, b'{"code": "unsupported_media_type", "detail": "JSON."}'
        return status, content

    with stub_port(answer) as serving:
        yield serving


def replay(runward: RunCommand, url: str, *words: str) -> CommandResult:
    return runward("callbacks", "replay", *words, RUNWARD_OPS_URL=url)


def test_each_run_that_is_named_is_due_again(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    port.known = {"run_a", "run_b"}
    result = replay(runward, url, "run_a", "run_b")
    assert (0, "run_a\nrun_b\n", "due now: 2\n") == (result.code, result.out, result.err)
    assert ["run_a", "run_b"] == port.replayed


def test_a_run_without_a_callback_is_named_and_stops_no_other(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    port.known = {"run_b"}
    result = replay(runward, url, "run_\x1b[2J", "run_b")
    assert (1, "run_b\n") == (result.code, result.out)
    assert "no callback to deliver: run_?[2J (" in result.err


def test_as_json_each_run_is_one_line(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    """One that has no callback too, with the error."""
    port.known = {"run_b"}
    result = replay(runward, url, "run_\x1b[2J", "run_b", "--json")
    assert (1, True) == (result.code, result.out.isascii())
    assert "\x1b" not in result.out
    assert [
        {"id": "run_\x1b[2J", "error": {"code": "not_found", "detail": "No."}},
        {"id": "run_b", "callback": {"state": "pending"}},
    ] == [json.loads(line) for line in result.out.splitlines()]


@pytest.mark.parametrize("words", [(), ("--state", "delivered")])
def test_a_list_has_the_ids_of_every_page(
    runward: RunCommand, port: StubOpsPort, url: str, words: tuple[str, ...]
) -> None:
    """For people, and for programs: one document on each line."""
    port.given_up = [f"run_{n}" for n in range(7)]
    state = words[-1] if words else "gave_up"
    listed = runward("callbacks", "list", *words, RUNWARD_OPS_URL=url)
    assert (0, port.given_up, "") == (listed.code, listed.out.split(), listed.err)
    assert [f"GET /callbacks?state={state}{after}" for after in ("", "&after=run_2", "&after=run_5")] == port.requests
    lines = runward("callbacks", "list", *words, "--json", RUNWARD_OPS_URL=url).out.splitlines()
    assert [{"id": run_id, "callback": {"state": state}} for run_id in port.given_up] == [
        json.loads(line) for line in lines
    ]
    limited = runward("callbacks", "list", *words, "--limit", "2", RUNWARD_OPS_URL=url)
    assert (port.given_up[:2], True) == (limited.out.split(), "there are more" in limited.err)


def test_a_list_that_does_not_end_is_no_endless_command(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    """Another server may respond at that address."""
    port.override = (200, b'{"runs": [], "next": "run_0"}')
    result = runward("callbacks", "list", RUNWARD_OPS_URL=url)
    assert (2, "", 2) == (result.code, result.out, len(port.requests))
    assert "does not end" in result.err


def test_a_state_that_no_callback_has_is_refused_without_a_request(
    runward: RunCommand, port: StubOpsPort, url: str
) -> None:
    result = runward("callbacks", "list", "--state", "gone", RUNWARD_OPS_URL=url)
    assert (2, []) == (result.code, port.requests)
    assert "'pending', 'delivered', 'gave_up'" in result.err


def test_all_that_were_given_up_are_due_again_page_by_page(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    port.given_up = [f"run_{n}" for n in range(7)]
    port.known = set(port.given_up)
    result = replay(runward, url, "--given-up")
    assert (0, port.given_up, 3) == (
        result.code,
        port.replayed,
        sum(asked.startswith("GET") for asked in port.requests),
    )


def test_the_limit_is_kept_and_the_rest_is_reported(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    port.given_up = [f"run_{n}" for n in range(7)]
    port.known = set(port.given_up)
    result = replay(runward, url, "--given-up", "--limit", "4")
    assert (0, port.given_up[:4]) == (result.code, port.replayed)
    assert "there are more" in result.err


def test_ids_are_sanitized_for_the_terminal(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    """Another server may respond at that address."""
    port.given_up, port.known = ["run_\x1b[2J"], {"run_%1B%5B2J"}
    assert "run_?[2J\n" == replay(runward, url, "--given-up").out


@pytest.mark.parametrize("words", [(), ("run_a", "--given-up")])
def test_run_ids_and_given_up_exclude_each_other(
    runward: RunCommand, port: StubOpsPort, url: str, words: tuple[str, ...]
) -> None:
    result = replay(runward, url, *words)
    assert (2, []) == (result.code, port.requests)
    assert "--given-up" in result.err


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ((404, b'{"code": "unknown_route", "detail": "No."}'), "check --ops-url"),
        ((405, b'{"code": "method_not_allowed", "detail": "No."}'), "check --ops-url"),
        ((200, b"<html>"), "check --ops-url"),
        (
            (503, b'{"code": "store_unavailable", "detail": "The store\\u001b cannot."}'),
            "store_unavailable: The store?",
        ),
    ],
)
def test_any_other_answer_is_one_line_and_exit_code_2(
    runward: RunCommand, port: StubOpsPort, url: str, answer: tuple[int, bytes], complaint: str
) -> None:
    port.override = answer
    result = replay(runward, url, "run_a")
    assert (2, "") == (result.code, result.out)
    [line] = result.err.splitlines()
    assert complaint in line


def test_an_unreachable_gateway_is_named(runward: RunCommand) -> None:
    with closed_port() as url:
        result = replay(runward, url, "run_a")
    assert 2 == result.code
    assert f"{url} cannot be reached" in result.err


def test_a_run_id_stays_one_path_segment(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    replay(runward, url, "../../metrics")
    assert ["POST /callbacks/replay/..%2F..%2Fmetrics"] == port.requests


@pytest.mark.parametrize("way", ["environment", "file"])
def test_a_key_of_the_operations_port_is_sent(
    runward: RunCommand, port: StubOpsPort, url: str, tmp_path: Path, way: str
) -> None:
    port.known = {"run_1"}
    key = new_key(SystemClock())
    (tmp_path / "key").write_text(key + "\n")
    words = ("--ops-key-file", str(tmp_path / "key")) if way == "file" else ()
    env = {"RUNWARD_OPS_KEY": key} if way == "environment" else {}
    result = runward("callbacks", "replay", "run_1", "--ops-url", url, *words, **env)
    assert 0 == result.code
    assert {f"Bearer {key}"} == port.authorization
    assert key not in result.out + result.err


def test_a_key_of_the_operations_port_is_refused_as_an_argument(runward: RunCommand, url: str) -> None:
    """Other users can read arguments."""
    result = runward("callbacks", "replay", "run_1", "--ops-url", url, "--ops-key", "rw_secret-key")
    assert 2 == result.code
    assert "RUNWARD_OPS_KEY" in result.err
    assert "rw_secret-key" not in result.err


TESTED = {
    "accepted": True,
    "status": 204,
    "fault": None,
    "duration_ms": 3.2,
    "sent_bytes": 9,
    "webhook_id": "msg_test_1",
}
REFUSED = {**TESTED, "accepted": False}


@pytest.mark.parametrize(
    "result",
    [
        (TESTED, 0, "status 204, 3.2 ms, msg_test_1"),
        ({**REFUSED, "status": 500}, 1, "status 500, 3.2 ms, msg_test_1"),
        (
            {**REFUSED, "status": None, "fault": "timeout"},
            1,
            "no status: timeout, 3.2 ms, msg_test_1",
        ),
    ],
)
def test_a_test_message_is_sent(
    runward: RunCommand, port: StubOpsPort, url: str, result: tuple[dict[str, object], int, str]
) -> None:
    document, code, line = result
    port.override = 200, json.dumps(document).encode()
    sent = runward("callbacks", "test", "https://example.com/hook", RUNWARD_OPS_URL=url)
    assert (code, line) == (sent.code, sent.out.strip())
    assert ["POST /api/callbacks/test"] == port.requests
    as_json = runward("callbacks", "test", "https://example.com/hook", "--json", RUNWARD_OPS_URL=url)
    assert (code, document) == (as_json.code, json.loads(as_json.out))


def test_a_url_that_is_not_allowed_is_refused(runward: RunCommand, port: StubOpsPort, url: str) -> None:
    port.override = 422, b'{"code": "callback_url_refused", "detail": "It must be https."}'
    refused = runward("callbacks", "test", "http://10.0.0.1/", RUNWARD_OPS_URL=url)
    assert (1, "") == (refused.code, refused.out)
    assert "It must be https" in refused.err


def test_abandoned_callbacks_are_counted_before_they_are_delivered(
    runward: RunCommand, port: StubOpsPort, url: str
) -> None:
    counted = {"count": 3, "hosts": [{"host": "a", "count": 2}, {"host": "b", "count": 1}], "more": True, "due": None}
    port.override = 200, json.dumps(counted).encode()
    words = ("callbacks", "recover", "--since", "2026-11-21T12:00:00Z")
    planned = runward(*words, RUNWARD_OPS_URL=url)
    assert (0, "2\ta\n1\tb\n") == (planned.code, planned.out)
    assert "given up: 3; add --go to deliver them; there are more: repeat the command" in planned.err
    port.override = 200, json.dumps({**counted, "due": 3, "more": False}).encode()
    assert "due now: 3" in runward(*words, "--host", "a", "--go", RUNWARD_OPS_URL=url).err
    assert ["POST /api/callbacks/recover"] * 2 == port.requests
