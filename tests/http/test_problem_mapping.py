"""Problem documents of typed errors."""

from __future__ import annotations

import inspect

import pytest

from gateway import errors
from gateway.errors import (
    AcceptanceUnknown,
    CircuitOpen,
    GatewayError,
    InternalError,
    ProviderError,
    RateLimited,
    RunError,
    RunFailed,
    RunSummary,
    StoreError,
    WorkflowNotFound,
)
from gateway.http.problem_mapping import problem_from_error
from gateway.problems import PROBLEMS
from gateway.runs.resilience.retry import RETRY_RULES

ERROR_CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, GatewayError)]


def ended(error: RunError) -> RunError:
    """Return the error with the ending of its run."""
    error.run = RunSummary("run_1", "layer", 2, "787")
    return error


RUN_MEMBERS = {"run_id": "run_1", "provider": "layer", "attempts": 2, "provider_run_id": "787"}


@pytest.mark.parametrize(
    ("error", "members"),
    [
        (WorkflowNotFound(), {}),
        (StoreError(), {"outcome": "not_run"}),
        (AcceptanceUnknown("d", run_id="run_1", same_key_is_safe=False), {"outcome": "unknown", "run_id": "run_1"}),
        (AcceptanceUnknown("d", run_id="run_1", same_key_is_safe=True), {"outcome": "unknown", "retryable": True}),
        (ended(ProviderError("upstream_error", ending="unknown")), {"outcome": "unknown", **RUN_MEMBERS}),
        (ended(RunFailed(outputs={})), {"outcome": "failed", **RUN_MEMBERS}),
        (ended(RunFailed(shows_outputs=True)), {"outcome": "failed", "outputs": None, **RUN_MEMBERS}),
    ],
)
def test_a_document_has_the_known_members_of_the_run(error: GatewayError, members: dict[str, object]) -> None:
    assert members == problem_from_error(error).extra


@pytest.mark.parametrize("error_class", ERROR_CLASSES, ids=lambda error_class: error_class.__name__)
def test_every_error_class_has_a_row_in_the_table(error_class: type[GatewayError]) -> None:
    assert error_class.code in PROBLEMS


def test_every_row_of_the_retry_table_has_a_row_in_the_table() -> None:
    assert set() == {rule.code for rule in RETRY_RULES.values()} - set(PROBLEMS)


def test_detail_retry_after_and_headers_are_kept() -> None:
    problem = problem_from_error(RateLimited("Used up: rate.", retry_after=2.5, headers=(("RateLimit", "r"),)))
    assert ("rate_limited", "Used up: rate.", 2.5, (("RateLimit", "r"),)) == (
        problem.code, problem.detail, problem.retry_after, problem.headers
    )  # fmt: skip


def test_the_cause_is_kept_for_the_log() -> None:
    cause = RuntimeError("ours")
    error = InternalError()
    error.__cause__ = cause
    assert cause is problem_from_error(error).__cause__


def test_the_text_of_an_error_is_its_code_and_detail() -> None:
    assert ("circuit_open", "circuit_open: wait") == (str(CircuitOpen()), str(CircuitOpen("wait")))
