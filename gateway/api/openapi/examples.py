"""Examples of the OpenAPI document: a run of each provider, and every problem document as it is rendered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from gateway.json import strict_json
from gateway.problems import PROBLEMS, FieldError, Problem
from gateway.runs.resilience.retry import RETRY_RULES
from providers.contract import JsonValue

Examples = dict[str, dict[str, object]]
"""Example Objects by name."""

_REQUEST_ID = "req_5f0c1be2a97d4436b1e80c2d"
_RUN_ID = "run_3d2c6b1f0e9a48b7a5c4d3e2f1a0b9c8"

# Outcome and number of attempts of problems with a run.
_RUN_OUTCOMES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {rule.code: (rule.ending, 1) for rule in RETRY_RULES.values()}
    | {
        "budget_exhausted": ("not_run", 0),
        "rate_limited": ("not_run", 0),
        "overloaded": ("not_run", 0),
        "circuit_open": ("not_run", 0),
        "cancelled": ("not_run", 0),
        "expired": ("not_run", 0),
        "provider_suspended": ("not_run", 0),
        "deadline_exceeded": ("unknown", 1),
    }
)
_RUN_STATUSES: Mapping[str, str] = MappingProxyType(
    {
        "run_ended": "succeeded",
        "run_unfinished": "running",
        "outcome_unknown": "unknown",
        "input_not_kept": "failed",
    }
)
"""Status of the run that a request is about, by code."""

_FIELD_ERRORS = MappingProxyType({"invalid_request": (FieldError("/timeout", "Input should be greater than 0"),)})


def request_examples() -> Examples:
    """Bodies of `POST /run`, one for each provider."""
    return {
        "promptlayer": {
            "summary": "A workflow of PromptLayer",
            "value": {
                "workflow": "support-triage",
                "input": {"question": "Where is my parcel?"},
                "metadata": {"ticket": "4711"},
                "tags": ["team:checkout"],
                "label": "production",
                "return_all_outputs": True,
                "timeout": 60,
            },
        },
        "prompt_studio": {
            "summary": "A workflow of Prompt Studio",
            "value": {"workflow": "triage-studio", "input": {"question": "Where is my parcel?"}},
        },
    }


def run_examples() -> Examples:
    """Responses to the requests of `request_examples`."""
    node: JsonValue = {"status": "succeeded", "value": "shipping", "error": None, "is_output": True}
    return {
        "promptlayer": {
            "summary": "A run at PromptLayer, with its nodes",
            "value": _run_document("support-triage", "promptlayer", "shipping")
            | {"outputs": {"Classify": node}, "provider_run_id": "98765"}
            | {"metadata": {"ticket": "4711"}, "tags": ["team:checkout"]},
        },
        "prompt_studio": {
            "summary": "A run at Prompt Studio",
            "value": _run_document("triage-studio", "prompt_studio", {"topic": "shipping"}),
        },
    }


def _run_document(workflow: str, provider: str, output: JsonValue) -> dict[str, JsonValue]:
    return {
        "id": _RUN_ID,
        "status": "succeeded",
        "workflow": workflow,
        "provider": provider,
        "output": output,
        "warning": None,
        "attempts": 1,
        "provider_run_id": None,
        "metadata": {},
        "created_at": "2026-11-21T12:00:00.000Z",
        "finished_at": "2026-11-21T12:00:01.234Z",
        "duration_ms": 1234,
    }


def problem_examples(codes: Iterable[str]) -> Examples:
    """Problem documents of these error codes."""
    return {code: {"summary": PROBLEMS[code].title, "value": _problem_document(code)} for code in codes}


def _problem_document(code: str) -> JsonValue:
    extra: dict[str, object] = {}
    if code in _RUN_OUTCOMES:
        outcome, attempts = _RUN_OUTCOMES[code]
        extra = {"run_id": _RUN_ID, "provider": "promptlayer", "attempts": attempts, "outcome": outcome}
    elif code in _RUN_STATUSES:
        extra = {"run_id": _RUN_ID, "run_status": _RUN_STATUSES[code]}
    problem = Problem(code, errors=_FIELD_ERRORS.get(code, ()), extra=extra)
    return strict_json.read(problem.document(_REQUEST_ID))
