"""Problems in Prompt Studio's statuses: 200, 404 and 500."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from gateway.api.prompt_studio.responses import decode_stored_response, format_result, render_problem
from gateway.http.request import Request
from gateway.json import strict_json
from gateway.problems import PROBLEMS, Problem
from gateway.store.records import StoredResponse
from providers.contract import JsonValue


@pytest.mark.parametrize("code", PROBLEMS)
@pytest.mark.parametrize("outcome", ["failed", "unknown"])
def test_a_run_that_may_have_started_is_a_500_without_retry_after(code: str, outcome: str) -> None:
    """R03, R12: no generic client repeats a 500, and no response invites a second paid start."""
    answer = render_problem(Problem(code, extra={"outcome": outcome, "run_id": "run_1"}), Mock(Request))
    assert (500, b"{}", "run_1") == (answer.status, answer.body, answer.headers["Runward-Run-Id"])
    assert (code, outcome) == (answer.headers["Runward-Problem"], answer.headers["Runward-Outcome"])
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    ("code", "status", "wait"),
    [
        ("workflow_not_found", 404, None),
        ("unauthorized", 401, None),
        ("forbidden", 403, None),
        ("invalid_request", 422, None),
        ("rejected_by_provider", 422, None),
        ("rate_limited", 429, None),
        ("overloaded", 503, "1"),
        ("upstream_unreachable", 503, "1"),
        ("upstream_throttled", 503, "1"),
        ("upstream_credentials", 500, None),
        ("deadline_exceeded", 500, None),
        ("internal", 500, None),
    ],
)
def test_a_run_that_did_not_start_is_reported_as_retryable_or_not(code: str, status: int, wait: str | None) -> None:
    answer = render_problem(Problem(code, extra={"outcome": "not_run", "run_id": "run_1"}), Mock(Request))
    assert (status, b"{}", wait) == (answer.status, answer.body, answer.headers.get("Retry-After"))
    assert "Runward-Run-Id" not in answer.headers  # it was forgotten


def test_only_an_unknown_workflow_is_a_404() -> None:
    """Documentation: "404: the workflow was not found"."""
    found = {code for code in PROBLEMS if render_problem(Problem(code), Mock(Request)).status == 404}
    # The others are never raised here.
    assert found == {
        *("workflow_not_found", "not_found", "unknown_route", "provider_not_found", "replay_not_found"),
        "key_not_found",
    }


def test_retry_after_is_in_whole_seconds() -> None:
    assert "3" == render_problem(Problem("rate_limited", retry_after=2.1), Mock(Request)).headers["Retry-After"]


def test_a_refusal_before_a_run_claims_no_outcome() -> None:
    """The first run with a key in use may still be running."""
    answer = render_problem(Problem("idempotency_in_flight", retry_after=1), Mock(Request))
    assert (409, "1", False) == (answer.status, answer.headers["Retry-After"], "Runward-Outcome" in answer.headers)


@pytest.mark.parametrize("output", [None, "text", 1, True, [1], {"a": 1}, {}])
def test_prompt_studios_own_result_is_given_as_it_came(output: JsonValue) -> None:
    assert output == format_result(output, "prompt_studio")


@pytest.mark.parametrize("output", [None, "text", 1, True, [1]])
def test_another_providers_value_becomes_the_completion(output: JsonValue) -> None:
    """The documentation has `result: object`, and `completion` in its example."""
    assert {"completion": output} == format_result(output, "promptlayer")


def test_another_providers_object_is_the_result() -> None:
    assert {"answer": 1} == format_result({"answer": 1}, "promptlayer")


def test_a_stored_response_is_decoded() -> None:
    assert ("text", "layer") == decode_stored_response(
        StoredResponse(200, (), b'{"output":"text","provider":"layer","id":"run_1"}')
    )


def test_a_stored_problem_is_raised_again_with_the_outcome_of_the_run() -> None:
    document = Problem("run_failed", extra={"outcome": "failed", "run_id": "run_1", "attempts": 1}).document("req_1")
    with pytest.raises(Problem) as raised:
        decode_stored_response(StoredResponse(502, (), document))
    assert ("run_failed", "failed", "run_1") == (
        raised.value.code, raised.value.extra["outcome"], raised.value.extra["run_id"]
    )  # fmt: skip


def test_an_invalid_stored_response_is_an_internal_error() -> None:
    with pytest.raises(Problem) as raised:
        decode_stored_response(StoredResponse(200, (), strict_json.write([])))
    assert "internal" == raised.value.code
