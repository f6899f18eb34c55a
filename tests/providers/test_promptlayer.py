"""PromptLayer adapter, against the provider's documentation and recorded responses."""

from __future__ import annotations

from typing import cast

import pytest

from gateway.json import strict_json
from providers.contract import (
    UNREADABLE,
    Call,
    Cause,
    JsonValue,
    NodeOutput,
    Outcome,
    Pause,
    ProviderFault,
    RawError,
    Reply,
    Run,
    Step,
    Unreadable,
)
from providers.promptlayer import PromptLayer
from providers.testing import calls, drive

# Verbatim: "Run Workflow" (201 and 202), the SDK's recording, the results page.
STARTED = b"""{"success": true, "message": "Workflow execution started", "warning": null,
  "workflow_version_execution_id": 98765}"""
ACCEPTED = b"""{"success": true, "message": "Workflow execution accepted", "warning": null,
  "workflow_version_execution_id": 98765}"""
RECORDED = (
    b'{"success":true,"message":"Workflow execution created successfully","warning":null,'
    b'"workflow_version_execution_id":787}'
)
RESULTS = b"""{"Node 1":{"status":"SUCCESS","value":"First","error_message":null,"raw_error_message":null,
  "is_output_node":false},
 "Node 2":{"status":"FAILED","value":null,"error_message":"Code execution failed: Traceback...",
  "raw_error_message":{"raw":"Code execution failed: Traceback..."},"is_output_node":true}}"""

TRACEBACK = "Code execution failed: Traceback..."


def reply(status: int, body: bytes | JsonValue) -> Reply:
    return Reply(status, strict_json.read(body) if isinstance(body, bytes) else body)


def node(status: str, value: JsonValue = None, *, output: bool | None = True, error: str | None = None) -> JsonValue:
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": output,
    }


def run(*replies: Reply, order: Run | None = None) -> tuple[list[object], Outcome | None]:
    steps, outcome = drive(PromptLayer().steps(order or Run("triage")), replies)
    return list(steps), outcome


def fault(*replies: Reply) -> ProviderFault:
    steps, _ = run(*replies)
    assert isinstance(steps[-1], ProviderFault)
    return steps[-1]


def test_start_sends_every_field_of_the_page() -> None:
    """The documented names; of fields that exclude each other only the set one."""
    order = Run(
        "support",
        input={"user_message": "I need help with billing"},
        metadata={"environment": "production"},
        label="production",
        return_all_outputs=True,
        notify_url="https://example.com/promptlayer/workflow-callback",
    )
    steps, _ = run(order=order)
    assert [
        Call(
            "POST",
            "/workflows/support/run",
            "start",
            safe=False,
            json={
                "input_variables": {"user_message": "I need help with billing"},
                "metadata": {"environment": "production"},
                "return_all_outputs": True,
                "workflow_label_name": "production",
                "callback_url": "https://example.com/promptlayer/workflow-callback",
            },
        )
    ] == steps


@pytest.mark.parametrize(
    ("hint_url", "started", "hinted"),
    [
        ("https://us.example.com/hints/x", reply(202, ACCEPTED), True),
        ("https://us.example.com/hints/x", reply(201, STARTED), False),
        (None, reply(202, ACCEPTED), False),
    ],
)
def test_a_202_with_a_callback_url_promises_a_notification(
    hint_url: str | None,
    started: Reply,
    hinted: bool,  # noqa: FBT001 - a value
) -> None:
    """201 is the response to a start without a callback: no notification follows."""
    steps, _ = drive(PromptLayer().steps(Run("w", notify_url=hint_url)), [started, reply(202, None)])
    assert [hinted, False] == [step.will_notify for step in steps if isinstance(step, Pause)]


def test_a_version_goes_as_a_number() -> None:
    """`workflow_version_number`, without a label."""
    (call,) = calls(drive(PromptLayer().steps(Run("w", version=3)), [])[0])
    assert {
        "input_variables": {},
        "metadata": {},
        "return_all_outputs": False,
        "workflow_version_number": 3,
    } == call.json


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("team/flow a?b", "/workflows/team%2Fflow%20a%3Fb/run"),
        ("../x", "/workflows/..%2Fx/run"),
        ("%2e%2e%2f", "/workflows/%252e%252e%252f/run"),
        ("a#b\r\nc\0", "/workflows/a%23b%0D%0Ac%00/run"),
        ("résumé", "/workflows/r%C3%A9sum%C3%A9/run"),
        ("42", "/workflows/42/run"),
    ],
)
def test_a_name_is_exactly_one_segment(name: str, path: str) -> None:
    """R61: any name is one encoded segment; integer ids are unchanged."""
    (call,) = calls(drive(PromptLayer().steps(Run(name)), [])[0])
    assert path == call.path


@pytest.mark.parametrize("started", [reply(201, STARTED), reply(202, ACCEPTED), reply(201, RECORDED)])
def test_a_start_is_followed_by_polls_with_all_outputs(started: Reply) -> None:
    """201 and 202 both start a run; polls have return_all_outputs=true, the only form that shows failure."""
    steps, _ = run(started)
    assert isinstance(started.body, dict)
    execution = str(started.body["workflow_version_execution_id"])
    path = f"/workflow-version-execution-results?workflow_version_execution_id={execution}&return_all_outputs=true"
    assert [Pause(execution), Call("GET", path, "poll", safe=True)] == steps[1:]


def test_it_polls_until_the_run_is_done() -> None:
    """202, 204, and a 200 with running nodes mean that the run continues."""
    running = [
        Reply(202, {"a": node("RUNNING")}),
        Reply(204),
        Reply(202, {}),
        Reply(200, {"a": node("QUEUED"), "b": node("SUCCESS", 1)}),
    ]
    steps, outcome = run(reply(201, STARTED), *running, Reply(200, {"a": node("SUCCESS", "done")}))
    assert 5 == sum(isinstance(step, Pause) for step in steps)
    assert outcome is not None
    assert ("done", "98765") == (outcome.output, outcome.provider_run_id)


@pytest.mark.parametrize(
    ("body", "nodes"),
    [
        (
            {"a": node("SUCCESS", "private"), "b": node("FAILED", error="private"), "c": node("RUNNING")},
            {"a": "succeeded", "b": "failed", "c": "running"},
        ),
        (
            {"a": node("FAILURE"), "b": node("SKIPPED"), "c": node("QUEUED")},
            {"a": "failed", "b": "skipped", "c": "queued"},
        ),
        ({"a": {"status": "RUNNING"}, "b": {"status": "PAUSED"}}, {"a": "running"}),
        ({"a": {"status": ["RUNNING"]}, "b": {"status": {}}, "c": None, "d": "RUNNING", "e": [1]}, {}),
        ({"x" * 200: {"status": "RUNNING"}, "x" * 201: {"status": "RUNNING"}}, {"x" * 200: "running"}),
        ({f"n{i}": {"status": "QUEUED"} for i in range(300)}, {f"n{i}": "queued" for i in range(200)}),
        ({}, {}),
        (None, {}),
        ("RUNNING", {}),
        ([{"a": node("RUNNING")}], {}),
        (UNREADABLE, {}),
    ],
)
def test_a_pause_has_the_statuses_of_the_nodes_and_nothing_else(
    body: JsonValue | Unreadable, nodes: dict[str, str]
) -> None:
    """A 202 has the body of a 200; one that cannot be read does not disturb the run."""
    steps, outcome = run(reply(201, STARTED), Reply(202, body), Reply(200, {"a": node("SUCCESS", "done")}))
    assert [{}, nodes] == [step.nodes for step in steps if isinstance(step, Pause)]
    assert outcome is not None
    assert outcome.succeeded


def test_a_200_whose_nodes_have_not_ended_shows_their_statuses() -> None:
    """Also one whose nodes have ended without an output node: it counts as the end once it stays the same."""
    unfinished = Reply(200, {"a": node("SUCCESS", 1), "b": node("QUEUED")})
    settled = Reply(200, {"a": node("SUCCESS", 1, output=False), "x" * 201: node("SKIPPED", output=False)})
    steps, _ = run(reply(201, STARTED), unfinished, settled)
    shown = [step.nodes for step in steps if isinstance(step, Pause)]
    assert [{}, {"a": "succeeded", "b": "queued"}, {"a": "succeeded"}] == shown


def test_a_failed_run_is_a_200() -> None:
    """The documented example: without a successful output node the run failed; the stack trace is dropped."""
    _, outcome = run(reply(201, STARTED), reply(200, RESULTS))
    assert (
        Outcome(
            succeeded=False,
            outputs={
                "Node 1": NodeOutput("succeeded", "First"),
                "Node 2": NodeOutput("failed", None, "Code execution failed", is_output=True),
            },
            error="node 'Node 2': Code execution failed",
            provider_run_id="98765",
            raw_errors={"Node 2": RawError(TRACEBACK, {"raw": TRACEBACK})},
        )
        == outcome
    )


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("x" * 70_000, "x" * 65_536),
        ("é" * 40_000, "é" * 32_768),
        ("a\n\x1b[31m b", "a\n\x1b[31m b"),
        ({"raw": "short"}, {"raw": "short"}),
        ({"raw": "x" * 70_000}, ('{"raw": "' + "x" * 70_000)[:65_536]),
        (None, None),
        (7, 7),
    ],
)
def test_the_error_of_a_node_is_kept_as_it_was_sent_and_bounded(sent: JsonValue, kept: JsonValue) -> None:
    failed: JsonValue = {"status": "FAILED", "error_message": "no key", "raw_error_message": sent}
    _, outcome = run(reply(201, STARTED), *[Reply(200, {"a": failed})] * 5)
    assert outcome is not None
    assert {"a": RawError("no key", kept)} == outcome.raw_errors


@pytest.mark.parametrize("status", ["FAILED", "FAILURE"])
def test_both_failure_statuses_are_failures(status: str) -> None:
    """The documentation has both FAILED and FAILURE."""
    _, outcome = run(reply(201, STARTED), Reply(200, {"a": node(status, error="no key\x1b[31m\nfor it")}))
    assert outcome is not None
    assert (False, "node 'a': no key [31m for it") == (outcome.succeeded, outcome.error)


def test_the_first_output_node_that_succeeded_is_the_output() -> None:
    """In the order of the response; failed, skipped and other nodes are ignored."""
    nodes: dict[str, JsonValue] = {
        "inner": node("SUCCESS", "not me", output=False),
        "unsure": node("SUCCESS", "nor me", output=None),
        "skipped": node("SKIPPED"),
        "failed": node("FAILED", error="x"),
        "first": node("SUCCESS", False),
    }
    _, outcome = run(reply(201, STARTED), Reply(200, nodes))
    assert outcome is not None
    assert (True, False) == (outcome.succeeded, outcome.output)
    assert list(nodes) == list(outcome.outputs or {})


@pytest.mark.parametrize("value", ["AAA", 7, False, None, 0.1, [1], {}, {"a": {"b": []}}])
def test_an_output_is_any_json_value(value: JsonValue) -> None:
    """An empty object is an output like any other."""
    _, outcome = run(reply(201, STARTED), Reply(200, {"a": node("SUCCESS", value)}))
    assert outcome is not None
    assert (True, value) == (outcome.succeeded, outcome.output)


@pytest.mark.parametrize(
    "early", [{}, {"inner": node("SUCCESS", 1, output=False)}, {"inner": node("FAILED", error="x", output=False)}]
)
def test_results_without_an_output_node_are_polled_again(early: JsonValue) -> None:
    """PromptLayer answers 200 before its nodes are complete; the next poll has the result."""
    steps, outcome = run(
        reply(201, STARTED), Reply(200, early), Reply(200, early), Reply(200, {"a": node("SUCCESS", 1)})
    )
    assert outcome is not None
    assert (True, 1) == (outcome.succeeded, outcome.output)
    assert 4 == len(calls(cast("list[Step]", steps)))


def test_results_that_stay_without_an_output_node_are_a_failed_run() -> None:
    """As in the official SDKs, a run without an output node has failed."""
    _, outcome = run(reply(201, STARTED), *[Reply(200, {})] * 4)
    assert None is outcome
    _, outcome = run(reply(201, STARTED), *[Reply(200, {})] * 5)
    assert outcome is not None
    assert (False, "no output node succeeded") == (outcome.succeeded, outcome.error)


def test_results_that_change_are_not_the_end() -> None:
    changing = [Reply(200, {f"n{number}": node("SUCCESS", 1, output=False)}) for number in range(9)]
    assert None is run(reply(201, STARTED), *changing)[1]


@pytest.mark.parametrize("status", ["FAILED", "FAILURE", "SKIPPED"])
def test_a_node_that_did_not_succeed_needs_no_value(status: str) -> None:
    nodes: JsonValue = {"a": {"status": status, "error_message": "boom", "is_output_node": True}}
    _, outcome = run(reply(201, STARTED), Reply(200, nodes))
    assert outcome is not None
    assert not outcome.succeeded
    assert [None] == [node.value for node in (outcome.outputs or {}).values()]


TWO_OUTPUTS: JsonValue = {"first": node("SUCCESS", 1), "second": node("SUCCESS", 2)}


@pytest.mark.parametrize("value", [2, {"first": 1, "second": 2}, None, "text"])
def test_of_several_outputs_promptlayer_says_which_is_the_runs(value: JsonValue) -> None:
    """The order of nodes is not the order of completion: the other form of the results decides."""
    steps, outcome = run(reply(201, STARTED), Reply(200, TWO_OUTPUTS), Reply(200, value))
    assert outcome is not None
    assert (True, value, None) == (outcome.succeeded, outcome.output, outcome.warning)
    assert {"first", "second"} == set(outcome.outputs or {})
    last = calls(cast("list[Step]", steps))[-1]
    assert last.path.endswith("&return_all_outputs=false")
    assert (True, True) == (last.safe, last.optional)


@pytest.mark.parametrize("answer", [Reply(0), Reply(500), Reply(404, {}), Reply(202), Reply(200)])
def test_without_an_answer_the_first_output_is_kept_with_a_warning(answer: Reply) -> None:
    """The output was paid for."""
    _, outcome = run(reply(201, STARTED), Reply(200, TWO_OUTPUTS), answer)
    assert outcome is not None
    assert (True, 1) == (outcome.succeeded, outcome.output)
    assert "several output nodes succeeded" in (outcome.warning or "")


def test_a_warning_is_carried_through() -> None:
    """The warning of the start is in the outcome."""
    started: JsonValue = {
        "success": True,
        "message": "",
        "warning": "Unused input: x",
        "workflow_version_execution_id": 1,
    }
    _, outcome = run(Reply(201, started), Reply(200, {"a": node("SUCCESS", 1)}))
    assert outcome is not None
    assert "Unused input: x" == outcome.warning


@pytest.mark.parametrize(
    "body",
    [
        UNREADABLE,
        [],
        {},
        None,
        "x",
        {"success": False, "workflow_version_execution_id": 1},
        {"success": "true", "workflow_version_execution_id": 1},
        {"workflow_version_execution_id": 1},
        {"success": True},
        {"success": True, "workflow_version_execution_id": "98765"},
        {"success": True, "workflow_version_execution_id": True},
        {"success": True, "workflow_version_execution_id": 1.0},
        {"success": True, "workflow_version_execution_id": -1},
        {"success": True, "workflow_version_execution_id": 2**63},
    ],
)
def test_a_start_of_another_shape_is_refused(body: JsonValue) -> None:
    """R17: a response without the id of the started run is invalid."""
    assert Cause.INVALID_REPLY is fault(Reply(201, body)).cause


@pytest.mark.parametrize(
    "body",
    [
        UNREADABLE,
        [],
        "bare",
        {"a": 1},
        {"a": {"value": 1}},
        {"a": {"status": "SUCCESS", "is_output_node": True}},
        {"a": node("DREAMING")},
        {"a": {"status": ["SUCCESS"], "value": 1}},
    ],
)
def test_results_of_another_shape_are_refused(body: JsonValue) -> None:
    """R17, for polls: the adapter rejects the reply and accepts another."""
    assert Cause.INVALID_REPLY is fault(reply(201, STARTED), Reply(200, body)).cause


def test_a_refused_answer_can_be_followed_by_a_good_one() -> None:
    """After a yielded fault, the adapter continues with the next reply to the same call."""
    steps = PromptLayer().steps(Run("w"))
    next(steps)
    steps.send(reply(201, STARTED))
    call = steps.send(Reply(0))
    assert isinstance(call, Call)
    assert isinstance(steps.send(Reply(500)), ProviderFault)
    with pytest.raises(StopIteration) as end:
        steps.send(Reply(200, {"a": node("SUCCESS", "ok")}))
    assert "ok" == end.value.value.output


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"success": False, "message": "Label not found"}, "Label not found"),
        ({"success": False, "error": "Label not found"}, "Label not found"),
        ({"detail": "Label not found"}, "Label not found"),
        (
            {"detail": [{"loc": ["body", "input_variables"], "msg": "field required", "type": "x"}, 3]},
            "body.input_variables: field required; not acceptable",
        ),
        ({"detail": []}, ""),
        ({"message": 7}, ""),
        ({}, ""),
        ("text", ""),
        (UNREADABLE, ""),
    ],
)
def test_every_shape_of_an_error_is_read(body: JsonValue, detail: str) -> None:
    """message, error, detail as a text or FastAPI's list, an empty object, HTML, nothing."""
    refused = fault(Reply(422, body))
    assert (Cause.REJECTED, detail) == (refused.cause, refused.detail)


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, Cause.REJECTED),
        (401, Cause.CREDENTIALS),
        (402, Cause.REJECTED),
        (403, Cause.CREDENTIALS),
        (404, Cause.NOT_FOUND),
        (408, Cause.GATEWAY_ERROR),
        (418, Cause.REJECTED),
        (422, Cause.REJECTED),
        (429, Cause.THROTTLED),
        (500, Cause.SERVER_ERROR),
        (501, Cause.SERVER_ERROR),
        (502, Cause.GATEWAY_ERROR),
        (503, Cause.GATEWAY_ERROR),
        (504, Cause.GATEWAY_ERROR),
        (204, Cause.INVALID_REPLY),
        (999, Cause.INVALID_REPLY),
    ],
)
def test_each_status_of_a_start_has_one_meaning(status: int, cause: Cause) -> None:
    """A 500 may have started the run: PromptLayer answers before it runs."""
    assert cause is fault(Reply(status)).cause


def test_a_503_with_retry_after_was_not_started() -> None:
    """A 503 with Retry-After comes from the provider itself, so nothing was started."""
    refused = fault(Reply(503, retry_after=2.0))
    assert (Cause.UNAVAILABLE, 2.0) == (refused.cause, refused.retry_after)


def test_a_known_execution_can_be_followed_without_a_start() -> None:
    """After a crash the adapter begins with a poll."""
    steps, outcome = drive(PromptLayer().follow("7"), [Reply(200, {"a": node("SUCCESS", 1)})])
    assert ["poll"] == [call.operation for call in calls(steps)]
    assert outcome is not None
    assert "7" == outcome.provider_run_id


def test_there_is_one_dialect() -> None:
    """Any other is a configuration error."""
    with pytest.raises(ValueError, match="no dialects"):
        PromptLayer("workflows")
