"""`runward run`: what is sent, what is printed, and what is said of a run that did not succeed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from gateway.cli.failure import visible
from tests.cli.stub import RUN
from tests.configuration import KEYS
from tests.faults.upstream import closed_port

if TYPE_CHECKING:
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.cli.conftest import Runward, Said
    from tests.cli.stub import StubGateway

KEY = KEYS["one"]


def ask(runward: Runward, stub: StubGateway, *words: str, stdin: str = "") -> Said:
    return runward("run", "triage", "--url", stub.url, *words, stdin=stdin, RUNWARD_KEY=KEY)


def test_the_output_alone_goes_to_standard_output(runward: Runward, stub: StubGateway) -> None:
    said = ask(runward, stub)
    assert (0, {"category": "billing"}) == (said.code, json.loads(said.out))
    assert "succeeded in 1.2 s, at promptlayer, attempts: 1, run: run_00000000000000000000000000000001\n" == said.err


def test_a_text_is_printed_as_it_is(runward: Runward, stub: StubGateway) -> None:
    stub.answer = (200, {**RUN, "output": "Grüße,\n\tan alle"})
    assert "Grüße,\n\tan alle\n" == ask(runward, stub).out


def test_what_is_sent_is_what_was_typed(runward: Runward, stub: StubGateway) -> None:
    """Texts and JSON from the arguments; what was not typed is not sent."""
    words = ("--input", '{"a": 1, "b": 1}', "-i", "b=2", "-i", "c:=[3, null]", "-i", "d=x=y", "--timeout", "2.5")
    ask(runward, stub, *words, "--label", "production", "--all-outputs")
    ask(runward, stub, "--version", "3")
    full, short = stub.asked
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
    runward: Runward, stub: StubGateway, tmp_path: Path
) -> None:
    (tmp_path / "input.json").write_text('{"from": "file"}')
    ask(runward, stub, "--input", f"@{tmp_path / 'input.json'}")
    ask(runward, stub, "--input", "@-", stdin='{"from": "stdin"}')
    assert [{"from": "file"}, {"from": "stdin"}] == [a.body["input"] for a in stub.asked if isinstance(a.body, dict)]


def test_every_nodes_output_is_shown_on_demand(runward: Runward, stub: StubGateway) -> None:
    node: JsonValue = {"status": "succeeded", "value": 1, "error": None, "is_output": True}
    stub.answer = (200, {**RUN, "outputs": {"Reply": node}})
    assert {"output": RUN["output"], "outputs": {"Reply": node}} == json.loads(ask(runward, stub, "--all-outputs").out)


def test_the_whole_answer_is_printed_on_demand(runward: Runward, stub: StubGateway) -> None:
    """A problem too: scripts read one document, whatever happened."""
    assert RUN == json.loads(ask(runward, stub, "--json").out)
    problem: JsonValue = {"code": "run_failed", "detail": "No.", "request_id": "r1", "outcome": "failed"}
    stub.answer = (502, problem)
    said = ask(runward, stub, "--json")
    assert (1, problem) == (said.code, json.loads(said.out))


def test_a_problem_is_one_line_and_exit_code_1(runward: Runward, stub: StubGateway) -> None:
    problem: dict[str, JsonValue] = {
        "code": "upstream_throttled",
        "detail": "The provider's own\nlimit is reached.",
        "outcome": "not_run",
        "run_id": "run_1",
        "request_id": "req_1",
        "retryable": True,
    }
    stub.answer = (503, problem)
    said = ask(runward, stub)
    line = (
        "runward: upstream_throttled: The provider's own limit is reached. "
        "(outcome: not_run, run_id: run_1, request_id: req_1, may be sent again)\n"
    )
    assert (1, "", line) == (said.code, said.out, said.err)


def test_what_is_wrong_with_a_request_is_pointed_at(runward: Runward, stub: StubGateway) -> None:
    errors: JsonValue = [{"pointer": "/label", "detail": "pinned"}, {"pointer": "/input", "detail": "too odd"}]
    stub.answer = (422, {"code": "invalid_request", "detail": "2 things.", "request_id": "r", "errors": errors})
    assert "runward: invalid_request: 2 things. /label: pinned; /input: too odd (request_id: r)\n" == (
        ask(runward, stub).err
    )


@pytest.mark.parametrize("answer", [(200, b"<html>"), (301, b""), (200, b"[]"), (500, {"message": "hm"})])
def test_a_stranger_is_not_taken_for_a_gateway(
    runward: Runward, stub: StubGateway, answer: tuple[int, JsonValue | bytes]
) -> None:
    stub.answer = answer
    said = ask(runward, stub)
    assert (1, "", 1) == (said.code, said.out, said.err.count("\n"))
    assert "--url" in said.err


def test_a_lost_connection_leaves_the_outcome_unknown(runward: Runward, stub: StubGateway) -> None:
    """The request was sent: nobody can say that nothing was run, and it is not sent again."""
    stub.answer = None
    said = ask(runward, stub)
    assert (1, 1) == (said.code, len(stub.asked))
    assert "outcome: unknown" in said.err


def test_a_refused_connection_means_that_nothing_was_run(runward: Runward) -> None:
    with closed_port() as url:
        said = runward("run", "triage", "--url", url, RUNWARD_KEY=KEY)
    assert (2, "", 1) == (said.code, said.out, said.err.count("\n"))
    assert "nothing was run" in said.err


def test_the_key_comes_from_a_file_rather_than_the_environment(
    runward: Runward, stub: StubGateway, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(KEYS["two"] + "\n")
    assert 0 == ask(runward, stub, "--key-file", str(tmp_path / "key")).code
    assert f"Bearer {KEYS['two']}" == stub.asked[0].authorization


def test_a_key_among_the_arguments_is_refused(runward: Runward, stub: StubGateway) -> None:
    """R79: others on the machine can read a command line; the complaint does not repeat the key."""
    said = ask(runward, stub, "--key", KEY)
    assert (2, []) == (said.code, stub.asked)
    assert "RUNWARD_KEY" in said.err
    assert KEY not in said.err


def test_a_mistyped_key_is_noticed_before_it_is_sent(runward: Runward, stub: StubGateway) -> None:
    mistyped = KEY[:10] + ("a" if KEY[10] != "a" else "b") + KEY[11:]
    said = runward("run", "triage", "--url", stub.url, RUNWARD_KEY=mistyped)
    assert "typo" in said.err.splitlines()[0]
    assert mistyped not in said.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--input", "[1]"), "must be a JSON object"),
        (("--input", '{"a": 1, "a": 2}'), "--input: a key stands twice"),
        (("--input", "@no-such-file"), "no-such-file can not be read"),
        (("-i", "x"), "name=text"),
        (("-i", "=x"), "name=text"),
        (("-i", "x:={"), "-i x:=: not valid JSON"),
        (("--timeout", "soon"), "--timeout"),
        (("--url", "ftp://gateway"), "--url must be a URL"),
        (("--url", "http://[::1"), "--url is not a URL"),
        (("--key-file", "no-such-file"), "no-such-file can not be read"),
    ],
)
def test_what_can_not_be_asked_for_is_not_sent(
    runward: Runward, stub: StubGateway, words: tuple[str, ...], complaint: str
) -> None:
    said = ask(runward, stub, *words)
    assert (2, "", 1, []) == (said.code, said.out, said.err.count("\n"), stub.asked)
    assert complaint in said.err


def test_without_a_key_nothing_is_sent(runward: Runward, stub: StubGateway) -> None:
    said = runward("run", "triage", "--url", stub.url)
    assert (2, []) == (said.code, stub.asked)
    assert "RUNWARD_KEY" in said.err


def test_a_key_in_the_clear_is_warned_about(runward: Runward) -> None:
    said = runward("run", "triage", "--url", "http://gateway.invalid", RUNWARD_KEY=KEY)
    assert "in the clear" in said.err.splitlines()[0]


def test_an_output_can_not_steer_the_terminal(
    runward: Runward, stub: StubGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a model wrote is anybody's text; a file gets it unchanged, a terminal does not."""
    hostile = "a\x1b[2Jb\rc\u202e\nd\te"
    stub.answer = (200, {**RUN, "output": hostile})
    assert hostile + "\n" == ask(runward, stub).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "a?[2Jb?c?\nd\te\n" == ask(runward, stub).out


def test_visible_text_stays_as_it_is() -> None:
    assert "Grüße 🎉\n\tx" == visible("Grüße 🎉\n\tx")
