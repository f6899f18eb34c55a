"""Table of problems, and contents of problem documents."""

from __future__ import annotations

import json

import pytest

from gateway.problems import PROBLEMS, FieldError, Problem, fault_of

# All codes, including the two of docs/adr/0004: malformed_request and client_closed_request.
STATUSES = {
    400: {"malformed_json", "malformed_request", "invalid_idempotency_key"},
    401: {"unauthorized"},
    402: {"budget_exhausted"},
    403: {"forbidden"},
    404: {
        "not_found",
        "unknown_route",
        "workflow_not_found",
        "provider_not_found",
        "replay_not_found",
        "key_not_found",
    },
    405: {"method_not_allowed"},
    408: {"request_timeout"},
    409: {
        *("idempotency_in_flight", "cancelled", "run_ended", "run_not_unknown"),
        *("key_ended", "rotation_in_progress", "too_many_keys"),
        *("run_unfinished", "outcome_unknown", "input_not_kept"),
    },
    413: {"payload_too_large"},
    415: {"unsupported_media_type"},
    422: {"invalid_request", "idempotency_mismatch", "callback_url_refused", "rejected_by_provider"},
    429: {"rate_limited", "too_many_failures"},
    431: {"header_too_large"},
    499: {"client_closed_request"},
    500: {"internal"},
    502: {
        "run_failed",
        "upstream_unreachable",
        "upstream_misconfigured",
        "upstream_credentials",
        "upstream_disconnected",
        "upstream_error",
        "upstream_invalid_response",
        "upstream_too_large",
    },
    503: {
        "overloaded",
        "draining",
        "circuit_open",
        "provider_suspended",
        "upstream_throttled",
        "upstream_unavailable",
        "issuer_unavailable",
        "store_unavailable",
    },
    504: {"upstream_timeout", "deadline_exceeded", "expired"},
}


def test_the_table_is_the_designs() -> None:
    """Every code with its status, complete."""
    found: dict[int, set[str]] = {}
    for code, kind in PROBLEMS.items():
        found.setdefault(kind.status, set()).add(code)
    assert found == STATUSES


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_is_a_document(code: str) -> None:
    """Members of RFC 9457 and extensions; status of the response, one title per code."""
    problem = Problem(code)
    document = json.loads(problem.document("req_1"))
    assert {
        "type": f"urn:runward:problem:{code}",
        "title": PROBLEMS[code].title,
        "status": problem.status,
        "code": code,
        "detail": PROBLEMS[code].title + ".",
        "request_id": "req_1",
        "retryable": PROBLEMS[code].retryable,
    } == document


def test_a_detail_replaces_the_title() -> None:
    document = json.loads(Problem("forbidden", "Not this one.").document(""))
    assert ("Forbidden", "Not this one.") == (document["title"], document["detail"])


def test_errors_are_pointers_without_values() -> None:
    """R69: `errors` is present only if not empty."""
    problem = Problem("invalid_request", errors=(FieldError("/label", "too long"), FieldError("", "empty")))
    listed = [{"pointer": "/label", "detail": "too long"}, {"pointer": "", "detail": "empty"}]
    assert listed == json.loads(problem.document(""))["errors"]
    assert "errors" not in json.loads(Problem("invalid_request").document(""))


@pytest.mark.parametrize(
    ("outcome", "retryable"), [(None, True), ("not_run", True), ("unknown", False), ("failed", False)]
)
def test_what_may_have_run_is_never_called_retryable(outcome: str | None, *, retryable: bool) -> None:
    """`retryable` means that the same request cannot cause a second run."""
    problem = Problem("upstream_throttled", extra={} if outcome is None else {"outcome": outcome})
    assert retryable is json.loads(problem.document(""))["retryable"]


@pytest.mark.parametrize("outcome", ["not_run", "unknown", "failed"])
def test_no_outcome_makes_a_problem_retryable(outcome: str) -> None:
    problem = Problem("upstream_misconfigured", extra={"outcome": outcome})
    assert json.loads(problem.document(""))["retryable"] is False


def test_the_members_of_a_run_stand_beside_the_others() -> None:
    members = {"run_id": "run_1", "provider": "p", "attempts": 2, "outcome": "not_run"}
    document = json.loads(Problem("overloaded", extra=members).document("req_1"))
    assert members == {name: document[name] for name in members}
    assert (503, "req_1") == (document["status"], document["request_id"])


def test_headers_and_hints_are_not_in_the_document() -> None:
    """They are header fields only, so that body and header cannot differ."""
    problem = Problem("rate_limited", retry_after=2.5, headers=(("RateLimit", "CANARY"),))
    document = problem.document("")
    assert b"CANARY" not in document
    assert b"2.5" not in document


def test_the_cause_of_a_problem_is_not_in_its_document() -> None:
    """It is logged, without its message."""
    with pytest.raises(Problem) as caught:
        raise Problem("internal") from RuntimeError("CANARY")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert b"CANARY" not in caught.value.document("")


def test_a_failed_run_counts_against_the_gateway_the_provider_or_neither() -> None:
    """The upstream codes that the gateway's own configuration causes are the gateway's."""
    configuration = {"upstream_credentials", "upstream_misconfigured"}
    gateway = {code for code in PROBLEMS if fault_of(code) == "gateway"}
    provider = {code for code in PROBLEMS if fault_of(code) == "provider"}
    assert {"internal", "overloaded", "draining", "issuer_unavailable", "store_unavailable"} | configuration == gateway
    upstream = {code for code in PROBLEMS if code.startswith("upstream_")}
    assert {"circuit_open", "deadline_exceeded"} | upstream - configuration == provider
    assert {"none"} == {fault_of(code) for code in PROBLEMS.keys() - gateway - provider}
    assert "none" == fault_of("run_failed")
