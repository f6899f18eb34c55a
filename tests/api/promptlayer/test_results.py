"""How a run ended, as PromptLayer's clients read it: whatever became of it, its nodes tell."""

from __future__ import annotations

import json

import pytest

from gateway.api.promptlayer.results import FORMS, Form, every_node, final_output, going_on, main_output, payload
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.record import Order, RunRecord
from gateway.runs.retry import Ending
from providers.contract import JsonValue, NodeOutput
from tests.manual_clock import ManualClock

ORDER = Order("one", "w", 60, return_all_outputs=True, number=787)


def document(
    ending: Ending,
    problem: Problem | None = None,
    *,
    output: JsonValue = None,
    outputs: dict[str, NodeOutput] | None = None,
) -> bytes:
    """A run that ended, as the store keeps it."""
    clock = ManualClock()
    run = RunRecord.open(ORDER, "promptlayer", clock)
    run.output, run.outputs, run.attempts = output, outputs, 1
    run.close(ending, clock)
    return answers.ended(run, problem)


def shown(status: str, value: JsonValue = None, error: str | None = None, *, is_output: bool = True) -> JsonValue:
    """A node, with the five members by which the SDKs know one."""
    return {
        "status": status, "value": value, "error_message": error, "raw_error_message": error,
        "is_output_node": is_output,
    }  # fmt: skip


NODES = {
    "Classify": NodeOutput("succeeded", {"topic": "billing"}),
    "Skipped": NodeOutput("skipped", None, is_output=True),
    "Answer": NodeOutput("succeeded", [1, 2**60, "é"], is_output=True),
}


def test_every_node_of_a_run_that_succeeded() -> None:
    assert {
        "Classify": shown("SUCCESS", {"topic": "billing"}, is_output=False),
        "Skipped": shown("SKIPPED"),
        "Answer": shown("SUCCESS", [1, 2**60, "é"]),
    } == final_output(document("succeeded", output=[1, 2**60, "é"], outputs=NODES), every_node)


@pytest.mark.parametrize("value", ["AAA", 0, False, None, "", [], {}, {"status": "FAILED"}, 2**70])
def test_the_bare_value_of_a_run_that_succeeded(value: JsonValue) -> None:
    """Any JSON, exactly as the workflow made it; what is false in Python too."""
    assert value == final_output(document("succeeded", output=value, outputs=NODES), main_output)
    assert value == final_output(document("succeeded", output=value), main_output)


@pytest.mark.parametrize("outputs", [None, {}])
def test_a_provider_without_nodes_shows_one(outputs: dict[str, NodeOutput] | None) -> None:
    """Prompt Studio's runs: so that the SDKs find an output node."""
    ended = document("succeeded", output={"completion": "x"}, outputs=outputs)
    assert {"Output": shown("SUCCESS", {"completion": "x"})} == final_output(ended, every_node)


@pytest.mark.parametrize("form", [every_node, main_output])
def test_a_failed_run_shows_its_nodes_in_both_forms(form: Form) -> None:
    """Both SDKs know a failure by them alone."""
    nodes = {"Draft": NodeOutput("succeeded", "d"), "Answer": NodeOutput("failed", None, "no", is_output=True)}
    ended = document("failed", Problem("run_failed"), outputs=nodes)
    expected = {"Draft": shown("SUCCESS", "d", is_output=False), "Answer": shown("FAILED", error="no")}
    assert expected == final_output(ended, form)


def test_a_failed_run_without_output_nodes_gets_one_that_says_why() -> None:
    """Else the first form could not be told from a run that made something."""
    nodes = {"Draft": NodeOutput("failed", None, "no")}
    ended = document("failed", Problem("run_failed", "It broke."), outputs=nodes)
    assert {
        "Draft": shown("FAILED", error="no", is_output=False),
        "Output": shown("FAILED", error="It broke."),
    } == final_output(ended, main_output)


@pytest.mark.parametrize(
    ("ending", "problem", "says"),
    [
        ("failed", Problem("run_failed"), "The run failed at the provider."),
        ("not_run", Problem("circuit_open", "Left alone."), "Left alone. Nothing was run."),
        ("not_run", Problem("upstream_unreachable"), "The provider can not be reached. Nothing was run."),
        ("unknown", Problem("upstream_timeout", "No answer."), "No answer. Whether the workflow ran is not known."),
    ],
)
@pytest.mark.parametrize("form", [every_node, main_output])
def test_a_run_that_did_not_succeed_says_no_more_than_is_known(
    ending: Ending, problem: Problem, says: str, form: Form
) -> None:
    ended = document(ending, problem)
    assert {"Output": shown("FAILED", error=says)} == final_output(ended, form)


def test_the_forms_by_what_the_query_says() -> None:
    assert {True: every_node, False: main_output} == dict(FORMS)


@pytest.mark.parametrize(("status", "expected"), [("queued", "QUEUED"), ("running", "RUNNING")])
def test_a_run_that_goes_on_has_a_node_that_does(status: str, expected: str) -> None:
    assert {"Output": shown(expected)} == going_on(status)


@pytest.mark.parametrize(("all_outputs", "value"), [(True, {"Output": shown("SUCCESS", "x")}), (False, "x")])
def test_a_callback_has_the_form_that_was_asked_for(value: JsonValue, *, all_outputs: bool) -> None:
    order = Order("one", "w", 60, number=2**52, all_outputs=all_outputs)
    body = payload(order, document("succeeded", output="x"), ManualClock().now())
    assert {"workflow_version_execution_id": 2**52, "final_output": value} == json.loads(body)
