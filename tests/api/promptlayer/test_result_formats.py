"""Results of a run in PromptLayer's format, for every ending."""

from __future__ import annotations

import json
from typing import cast

import pytest

from gateway.api.promptlayer.result_formats import (
    RESULT_FORMATS,
    ResultFormat,
    all_nodes,
    callback_payload,
    client_context,
    final_output,
    main_output,
    pending_results,
)
from gateway.errors import CircuitOpen, Ending, ProviderError, RunError, RunFailed
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.records import Phase, StoredRun
from providers.contract import JsonValue, NodeOutput, RawError
from tests.runs.views import finished_document, stored_run_view
from tests.support.clock import ManualClock

SPEC = RunSpec(
    "one", "w", 60, return_all_outputs=True, api="promptlayer", client_context=client_context(787, all_outputs=False)
)


def ended_document(
    ending: Ending,
    problem: RunError | None = None,
    *,
    output: JsonValue = None,
    outputs: dict[str, NodeOutput] | None = None,
    raw_errors: dict[str, RawError] | None = None,
) -> bytes:
    """Return a stored run that has ended."""
    clock = ManualClock()
    run = RunRecord.create(SPEC, "promptlayer", clock)
    run.output, run.outputs, run.raw_errors, run.attempts = output, outputs, raw_errors, 1
    run.finish(ending, clock)
    return finished_document(run, problem)


def node_result(status: str, value: JsonValue = None, error: str | None = None, *, is_output: bool = True) -> JsonValue:
    """Return a node with the five members that the SDKs require."""
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
        "Classify": node_result("SUCCESS", {"topic": "billing"}, is_output=False),
        "Skipped": node_result("SKIPPED"),
        "Answer": node_result("SUCCESS", [1, 2**60, "é"]),
    } == final_output(ended_document("succeeded", output=[1, 2**60, "é"], outputs=NODES), all_nodes)


@pytest.mark.parametrize("value", ["AAA", 0, False, None, "", [], {}, {"status": "FAILED"}, 2**70])
def test_the_bare_value_of_a_run_that_succeeded(value: JsonValue) -> None:
    """Any JSON value, exactly as the workflow returned it; falsy values too."""
    assert value == final_output(ended_document("succeeded", output=value, outputs=NODES), main_output)
    assert value == final_output(ended_document("succeeded", output=value), main_output)


@pytest.mark.parametrize("outputs", [None, {}])
def test_a_provider_without_nodes_shows_one(outputs: dict[str, NodeOutput] | None) -> None:
    """Runs of Prompt Studio get one output node, which the SDKs require."""
    ended = ended_document("succeeded", output={"completion": "x"}, outputs=outputs)
    assert {"Output": node_result("SUCCESS", {"completion": "x"})} == final_output(ended, all_nodes)


@pytest.mark.parametrize("form", [all_nodes, main_output])
def test_a_failed_run_shows_its_nodes_in_both_forms(form: ResultFormat) -> None:
    """Both SDKs detect a failure by its nodes only."""
    nodes = {"Draft": NodeOutput("succeeded", "d"), "Answer": NodeOutput("failed", None, "no", is_output=True)}
    ended = ended_document("failed", RunFailed(), outputs=nodes)
    expected = {"Draft": node_result("SUCCESS", "d", is_output=False), "Answer": node_result("FAILED", error="no")}
    assert expected == final_output(ended, form)


@pytest.mark.parametrize("form", [all_nodes, main_output])
def test_errors_of_nodes_are_as_the_provider_sent_them(form: ResultFormat) -> None:
    nodes = {"Answer": NodeOutput("failed", None, "no", is_output=True)}
    raw = RawError("no\nTraceback: " + "x" * 300, {"raw": [1]})
    [shown] = cast(
        "dict[str, dict[str, JsonValue]]",
        final_output(ended_document("failed", RunFailed(), outputs=nodes, raw_errors={"Answer": raw}), form),
    ).values()
    assert (raw.message, raw.details) == (shown["error_message"], shown["raw_error_message"])


def test_runwards_own_document_has_cleaned_errors_alone() -> None:
    nodes = {"Answer": NodeOutput("failed", None, "no", is_output=True)}
    plain = ended_document("failed", RunFailed(), outputs=nodes)
    stored = ended_document("failed", RunFailed(), outputs=nodes, raw_errors={"Answer": RawError("no\nTraceback", 1)})
    assert stored != plain
    run = StoredRun("run_1", "one", "w", "promptlayer", b"{}", 0, 0, "a", 0, Phase.DONE, "failed", document=stored)
    assert json.loads(plain) | {"id": None} == json.loads(stored_run_view(run)) | {"id": None}


def test_a_failed_run_without_output_nodes_gets_one_that_says_why() -> None:
    """Otherwise the first format could not be distinguished from a successful run."""
    nodes = {"Draft": NodeOutput("failed", None, "no")}
    ended = ended_document("failed", RunFailed("It broke."), outputs=nodes)
    assert {
        "Draft": node_result("FAILED", error="no", is_output=False),
        "Output": node_result("FAILED", error="It broke."),
    } == final_output(ended, main_output)


@pytest.mark.parametrize(
    ("ending", "problem", "says"),
    [
        ("failed", RunFailed(), "The run failed at the provider."),
        ("not_run", CircuitOpen("Left alone."), "Left alone. Nothing was run."),
        (
            "not_run",
            ProviderError("upstream_unreachable", ending="not_run"),
            "The provider cannot be reached. Nothing was run.",
        ),
        (
            "unknown",
            ProviderError("upstream_timeout", "No answer.", ending="unknown"),
            "No answer. Whether the workflow ran is not known.",
        ),
    ],
)
@pytest.mark.parametrize("form", [all_nodes, main_output])
def test_a_run_that_did_not_succeed_says_no_more_than_is_known(
    ending: Ending, problem: RunError, says: str, form: ResultFormat
) -> None:
    ended = ended_document(ending, problem)
    assert {"Output": node_result("FAILED", error=says)} == final_output(ended, form)


def test_the_forms_by_what_the_query_says() -> None:
    assert {True: all_nodes, False: main_output} == dict(RESULT_FORMATS)


@pytest.mark.parametrize(("status", "expected"), [("queued", "QUEUED"), ("running", "RUNNING")])
def test_a_run_that_goes_on_has_a_node_that_does(status: str, expected: str) -> None:
    assert {"Output": node_result(expected)} == pending_results(status)


@pytest.mark.parametrize(("all_outputs", "value"), [(True, {"Output": node_result("SUCCESS", "x")}), (False, "x")])
def test_a_callback_has_the_form_that_was_asked_for(value: JsonValue, *, all_outputs: bool) -> None:
    order = RunSpec("one", "w", 60, client_context=client_context(2**52, all_outputs=all_outputs))
    body = callback_payload(order, ended_document("succeeded", output="x"), ManualClock().now())
    assert {"workflow_version_execution_id": 2**52, "final_output": value} == json.loads(body)
