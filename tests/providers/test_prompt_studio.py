"""Prompt Studio adapter, against the provider's documentation."""

from __future__ import annotations

import pytest

from gateway.json import strict_json
from providers.contract import (
    UNREADABLE,
    Adapter,
    Call,
    Cause,
    JsonValue,
    KeyHeader,
    Outcome,
    ProviderFault,
    Reply,
    Run,
)
from providers.prompt_studio import PromptStudio
from providers.testing import drive

# Verbatim: "Run a workflow", the request's --data and the response.
REQUEST = b'{ "input": {"prompt": "what is the fastest car in the world?"} }'
RESPONSE = b"""{
  "result": {
    "completion": "The current record holder for the fastest car in the world is the Bugatti Chiron Super Sport 300+, which reached a top speed of 304.77 mph (490.48 km/h) in 2019."
  }
}"""  # noqa: E501 - verbatim


def result(answer: Reply, dialect: str | None = None) -> Outcome | ProviderFault | None:
    steps, outcome = drive(PromptStudio(dialect).steps(Run("dep_1")), [answer])
    return outcome if outcome is not None else next(s for s in steps if isinstance(s, ProviderFault))


def test_the_pages_example() -> None:
    """POST /v1/workflows/:deployment_id/run with {input}, key in API_KEY; `result` is the output."""
    adapter = PromptStudio()
    steps, outcome = drive(
        adapter.steps(Run("dep_2cP7", input={"prompt": "what is the fastest car in the world?"})),
        [Reply(200, strict_json.read(RESPONSE))],
    )
    call = Call("POST", "/v1/workflows/dep_2cP7/run", "start", safe=False, json=strict_json.read(REQUEST))
    assert [call] == steps
    assert KeyHeader("API_KEY") == adapter.key_header
    answer = strict_json.read(RESPONSE)
    assert isinstance(answer, dict)
    assert Outcome(succeeded=True, output=answer["result"]) == outcome


def test_the_newer_dialect() -> None:
    """Later documentation: another path, and the key as a bearer token."""
    adapter = PromptStudio("instructions")
    steps, _ = drive(adapter.steps(Run("a/b", input={"x": 1})), [])
    assert [Call("POST", "/api/v1/instructions/a%2Fb/run", "start", safe=False, json={"input": {"x": 1}})] == steps
    assert KeyHeader("Authorization", "Bearer ") == adapter.key_header


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ({"result": 1, "completion": 2}, 1),
        ({"completion": {"answer": "x"}}, {"answer": "x"}),
        ({"result": None}, None),
        ({"other": 3}, {"other": 3}),
        ([1], [1]),
    ],
)
def test_the_newer_dialects_output(body: JsonValue, output: JsonValue) -> None:
    """`result`, then `completion`, then the whole body."""
    assert Outcome(succeeded=True, output=output) == result(Reply(200, body), "instructions")


@pytest.mark.parametrize("body", [UNREADABLE, [], {}, None, "result", {"completion": 1}])
def test_an_answer_without_a_result_is_refused(body: JsonValue) -> None:
    """R17: `result` is required by the documentation."""
    refused = result(Reply(200, body))
    assert isinstance(refused, ProviderFault)
    assert Cause.INVALID_REPLY is refused.cause


@pytest.mark.parametrize("body", [{}, UNREADABLE, "boom"])
@pytest.mark.parametrize(("status", "cause"), [(404, Cause.NOT_FOUND), (500, Cause.RUN_FAILED)])
def test_the_pages_errors(status: int, cause: Cause, body: JsonValue) -> None:
    """404 and 500 have no body worth reading; a 500 means that the workflow ran and failed."""
    refused = result(Reply(status, body))
    assert isinstance(refused, ProviderFault)
    assert cause is refused.cause


def test_other_statuses_have_their_usual_meaning() -> None:
    """The documentation does not mention 401, 429 and 503."""
    causes = []
    for status in (401, 429, 503, 400):
        refused = result(Reply(status))
        assert isinstance(refused, ProviderFault)
        causes.append(refused.cause)
    assert [Cause.CREDENTIALS, Cause.THROTTLED, Cause.GATEWAY_ERROR, Cause.REJECTED] == causes


def test_a_run_cannot_be_polled() -> None:
    """There is no results endpoint."""
    adapter: Adapter = PromptStudio()
    assert adapter.follow("x") is None


def test_an_unknown_dialect_is_refused() -> None:
    """The error names those that exist."""
    with pytest.raises(ValueError, match="workflows, instructions"):
        PromptStudio("newest")
