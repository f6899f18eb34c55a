"""`runward run`: the request, its output, and the messages for runs that did not succeed."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.cli.errors import sanitize_for_terminal
from tests.cli.stub_gateway import SUCCEEDED_RUN
from tests.support.configuration import CLIENT_KEYS
from tests.support.fake_upstream.upstream import closed_port

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.cli.conftest import CommandResult, RunCommand
    from tests.cli.stub_gateway import StubGateway

KEY = CLIENT_KEYS["one"]


def run_workflow(runward: RunCommand, stub: StubGateway, *words: str, stdin: str = "") -> CommandResult:
    return runward("run", "triage", "--url", stub.url, *words, stdin=stdin, RUNWARD_KEY=KEY)


def test_the_output_alone_goes_to_standard_output(runward: RunCommand, stub: StubGateway) -> None:
    result = run_workflow(runward, stub)
    assert (0, {"category": "billing"}) == (result.code, json.loads(result.out))
    assert "succeeded in 1.2 s, at promptlayer, attempts: 1, run: run_00000000000000000000000000000001\n" == result.err


def test_a_text_is_printed_as_it_is(runward: RunCommand, stub: StubGateway) -> None:
    stub.response = (200, {**SUCCEEDED_RUN, "output": "Grüße,\n\tan alle"})
    assert "Grüße,\n\tan alle\n" == run_workflow(runward, stub).out


@pytest.mark.parametrize("output", ["Grüße \U0001f600", {"text": "Grüße \U0001f600"}, ["\ud83d"]])
def test_a_result_is_not_lost_to_the_encoding_of_standard_output(
    runward: RunCommand, stub: StubGateway, monkeypatch: pytest.MonkeyPatch, output: str | dict[str, JsonValue]
) -> None:
    """What the encoding lacks is escaped as in JSON: in texts, in JSON, and in the whole document."""
    stub.response = (200, {**SUCCEEDED_RUN, "output": output})
    for options in ((), ("--json",)):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
        assert 0 == runward("run", "triage", "--url", stub.url, *options, RUNWARD_KEY=KEY).code
        shown = written.getvalue().decode("ascii")
        if options:
            assert output == json.loads(shown)["output"]
        else:
            assert output == json.loads(f'"{shown[:-1]}"' if isinstance(output, str) else shown)


def test_the_arguments_are_sent(runward: RunCommand, stub: StubGateway) -> None:
    """Texts and JSON from the arguments; absent arguments are not sent."""
    words = ("--input", '{"a": 1, "b": 1}', "-i", "b=2", "-i", "c:=[3, null]", "-i", "d=x=y", "--timeout", "2.5")
    run_workflow(runward, stub, *words, "--label", "production", "--all-outputs")
    run_workflow(runward, stub, "--version", "3")
    full, short = stub.requests
    assert ("/run", f"Bearer {KEY}") == (full.path, full.authorization)
    assert {
        "workflow": "triage",
        "input": {"a": 1, "b": "2", "c": [3, None], "d": "x=y"},
        "label": "production",
        "timeout": 2.5,
        "return_all_outputs": True,
    } == full.body
    assert {"workflow": "triage", "input": {}, "version": 3, "return_all_outputs": False} == short.body


def test_the_input_comes_from_a_file_or_from_standard_input(
    runward: RunCommand, stub: StubGateway, tmp_path: Path
) -> None:
    (tmp_path / "input.json").write_text('{"from": "file"}')
    run_workflow(runward, stub, "--input", f"@{tmp_path / 'input.json'}")
    run_workflow(runward, stub, "--input", "@-", stdin='{"from": "stdin"}')
    assert [{"from": "file"}, {"from": "stdin"}] == [a.body["input"] for a in stub.requests if isinstance(a.body, dict)]


def test_every_nodes_output_is_shown_on_demand(runward: RunCommand, stub: StubGateway) -> None:
    node: JsonValue = {"status": "succeeded", "value": 1, "error": None, "is_output": True}
    stub.response = (200, {**SUCCEEDED_RUN, "outputs": {"Reply": node}})
    assert {"output": SUCCEEDED_RUN["output"], "outputs": {"Reply": node}} == json.loads(
        run_workflow(runward, stub, "--all-outputs").out
    )


def test_the_whole_answer_is_printed_on_demand(runward: RunCommand, stub: StubGateway) -> None:
    """Also for a problem, so that scripts always read one document."""
    assert SUCCEEDED_RUN == json.loads(run_workflow(runward, stub, "--json").out)
    problem: JsonValue = {"code": "run_failed", "detail": "No.", "request_id": "r1", "outcome": "failed"}
    stub.response = (502, problem)
    result = run_workflow(runward, stub, "--json")
    assert (1, problem) == (result.code, json.loads(result.out))


def test_a_problem_is_one_line_and_exit_code_1(runward: RunCommand, stub: StubGateway) -> None:
    problem: dict[str, JsonValue] = {
        "code": "upstream_throttled",
        "detail": "The provider's own\nlimit is reached.",
        "outcome": "not_run",
        "run_id": "run_1",
        "request_id": "req_1",
        "retryable": True,
    }
    stub.response = (503, problem)
    result = run_workflow(runward, stub)
    line = (
        "runward: upstream_throttled: The provider's own limit is reached. "
        "(outcome: not_run, run_id: run_1, request_id: req_1, may be retried)\n"
    )
    assert (1, "", line) == (result.code, result.out, result.err)


def test_the_errors_of_a_request_are_shown(runward: RunCommand, stub: StubGateway) -> None:
    errors: JsonValue = [{"pointer": "/label", "detail": "pinned"}, {"pointer": "/input", "detail": "too odd"}]
    stub.response = (422, {"code": "invalid_request", "detail": "2 things.", "request_id": "r", "errors": errors})
    assert "runward: invalid_request: 2 things. /label: pinned; /input: too odd (request_id: r)\n" == (
        run_workflow(runward, stub).err
    )


@pytest.mark.parametrize("answer", [(200, b"<html>"), (301, b""), (200, b"[]"), (500, {"message": "hm"})])
def test_another_server_is_not_taken_for_a_gateway(
    runward: RunCommand, stub: StubGateway, answer: tuple[int, JsonValue | bytes]
) -> None:
    stub.response = answer
    result = run_workflow(runward, stub)
    assert (1, "", 1) == (result.code, result.out, result.err.count("\n"))
    assert "--url" in result.err


def test_a_lost_connection_leaves_the_outcome_unknown(runward: RunCommand, stub: StubGateway) -> None:
    """The request was sent: the outcome is unknown, and it is not repeated."""
    stub.response = None
    result = run_workflow(runward, stub)
    assert (1, 1) == (result.code, len(stub.requests))
    assert "outcome: unknown" in result.err


def test_a_refused_connection_means_that_nothing_was_run(runward: RunCommand) -> None:
    with closed_port() as url:
        result = runward("run", "triage", "--url", url, RUNWARD_KEY=KEY)
    assert (2, "", 1) == (result.code, result.out, result.err.count("\n"))
    assert "nothing was run" in result.err


def test_the_key_comes_from_a_file_rather_than_the_environment(
    runward: RunCommand, stub: StubGateway, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(CLIENT_KEYS["two"] + "\n")
    assert 0 == run_workflow(runward, stub, "--key-file", str(tmp_path / "key")).code
    assert f"Bearer {CLIENT_KEYS['two']}" == stub.requests[0].authorization


def test_a_key_among_the_arguments_is_refused(runward: RunCommand, stub: StubGateway) -> None:
    """R79: other users can read a command line; the error does not repeat the key."""
    result = run_workflow(runward, stub, "--key", KEY)
    assert (2, []) == (result.code, stub.requests)
    assert "RUNWARD_KEY" in result.err
    assert KEY not in result.err


def test_a_mistyped_key_is_noticed_before_it_is_sent(runward: RunCommand, stub: StubGateway) -> None:
    mistyped = KEY[:10] + ("a" if KEY[10] != "a" else "b") + KEY[11:]
    result = runward("run", "triage", "--url", stub.url, RUNWARD_KEY=mistyped)
    assert "typo" in result.err.splitlines()[0]
    assert mistyped not in result.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--input", "[1]"), "must be a JSON object"),
        (("--input", '{"a": 1, "a": 2}'), "--input: not acceptable: an object has a duplicate key"),
        (("--input", "@no-such-file"), "no-such-file cannot be read"),
        (("-i", "x"), "name=text"),
        (("-i", "=x"), "name=text"),
        (("-i", "x:={"), "-i x:=: not valid JSON"),
        (("--timeout", "soon"), "--timeout"),
        (("--url", "ftp://gateway"), "--url must be a URL"),
        (("--url", "http://[::1"), "--url is not a URL"),
        (("--key-file", "no-such-file"), "no-such-file cannot be read"),
    ],
)
def test_an_invalid_request_is_not_sent(
    runward: RunCommand, stub: StubGateway, words: tuple[str, ...], complaint: str
) -> None:
    result = run_workflow(runward, stub, *words)
    assert (2, "", 1, []) == (result.code, result.out, result.err.count("\n"), stub.requests)
    assert complaint in result.err


def test_without_a_key_nothing_is_sent(runward: RunCommand, stub: StubGateway) -> None:
    result = runward("run", "triage", "--url", stub.url)
    assert (2, []) == (result.code, stub.requests)
    assert "RUNWARD_KEY" in result.err


def test_a_key_over_plain_http_is_a_warning(runward: RunCommand) -> None:
    result = runward("run", "triage", "--url", "http://gateway.invalid", RUNWARD_KEY=KEY)
    assert "sent unencrypted" in result.err.splitlines()[0]


def test_an_output_cannot_control_the_terminal(
    runward: RunCommand, stub: StubGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Model output is untrusted; a file gets it unchanged, a terminal gets it escaped."""
    hostile = "a\x1b[2Jb\rc\u202e\nd\te"
    stub.response = (200, {**SUCCEEDED_RUN, "output": hostile})
    assert hostile + "\n" == run_workflow(runward, stub).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "a?[2Jb?c?\nd\te\n" == run_workflow(runward, stub).out


def test_printable_text_is_unchanged() -> None:
    assert "Grüße 🎉\n\tx" == sanitize_for_terminal("Grüße 🎉\n\tx")
