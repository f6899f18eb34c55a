"""The OpenAPI document is valid, complete, and consistent with the gateway's responses."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api.docs.document import openapi_document
from gateway.api.openapi import examples
from gateway.api.prompt_studio.responses import render_problem
from gateway.api.run_request import RunRequest, run_response
from gateway.http.body import parse_json_body
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.json import strict_json
from gateway.problems import PROBLEMS, FieldError, Problem
from gateway.runs.model import RunRecord, RunSpec
from providers.contract import JsonValue, NodeOutput
from tests.support.clock import ManualClock

CODES = [code for code in PROBLEMS if code != "client_closed_request"]
RUN = ("paths", "/run", "post")
PROBLEM_JSON = "application/problem+json"


@pytest.fixture(scope="module")
def spec() -> JsonValue:
    """Return the parsed OpenAPI document."""
    return strict_json.read(strict_json.write(openapi_document()))


def lookup(value: JsonValue, *steps: str) -> JsonValue:
    """The node of the document at `steps`."""
    for step in steps:
        assert isinstance(value, dict), steps
        value = value[step]
    return value


def keys(value: JsonValue) -> set[str]:
    assert isinstance(value, dict)
    return set(value)


def schema_errors(spec: JsonValue, instance: JsonValue, *steps: str) -> list[str]:
    """Validation errors of `instance` against the schema at `steps`."""
    assert isinstance(spec, dict)
    pointer = "#" + "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    validator = OAS31Validator({**spec, "$ref": pointer}, format_checker=oas31_format_checker)
    return [error.message for error in validator.iter_errors(instance)]


def response_path(status: int | str, content_type: str = PROBLEM_JSON) -> tuple[str, ...]:
    """Return the path of the content of one response of `POST /run`."""
    return (*RUN, "responses", str(status), "content", content_type)


def response_body(answer: Response) -> JsonValue:
    assert isinstance(answer.body, bytes)
    return strict_json.read(answer.body)


def test_it_is_valid_openapi(spec: JsonValue) -> None:
    assert isinstance(spec, dict)
    assert [] == list(OpenAPIV31SpecValidator(spec).iter_errors())


def test_every_status_of_the_table_is_an_answer_of_run_and_no_other(spec: JsonValue) -> None:
    expected = {"200", "202"} | {str(PROBLEMS[code].status) for code in CODES}
    assert expected == keys(lookup(spec, *RUN, "responses"))


@pytest.mark.parametrize("code", CODES)
def test_every_code_stands_at_its_status_with_its_meaning(spec: JsonValue, code: str) -> None:
    kind = PROBLEMS[code]
    answer = lookup(spec, *RUN, "responses", str(kind.status))
    all_of = lookup(spec, *response_path(kind.status), "schema", "allOf")
    assert isinstance(all_of, list)
    listed = lookup(all_of[1], "properties", "code", "enum")
    assert isinstance(listed, list)
    assert code in listed
    assert f"- `{code}`: {kind.title}" in str(lookup(answer, "description"))


@pytest.mark.parametrize("code", CODES)
def test_a_rendered_problem_matches_the_schema_of_its_status(spec: JsonValue, code: str) -> None:
    problem = Problem(
        code,
        errors=(FieldError("/input", "Field required"),),
        extra={"run_id": "run_" + 32 * "0", "provider": "x", "attempts": 0, "outcome": "unknown", "outputs": None},
    )
    document = strict_json.read(problem.document("req_1"))
    where = (*response_path(problem.status), "schema")
    assert [] == schema_errors(spec, document, *where)
    assert keys(document) <= keys(lookup(spec, "components", "schemas", "ProblemAnswer", "properties"))
    assert isinstance(document, dict)
    assert [] != schema_errors(spec, {**document, "code": "invented"}, *where)
    assert [] != schema_errors(spec, {**document, "outcome": None}, *where)


def test_the_problems_examples_fit_their_schemas(spec: JsonValue) -> None:
    for code, example in examples.problem_examples(CODES).items():
        status = PROBLEMS[code].status
        assert example == lookup(spec, *response_path(status), "examples", code)
        assert [] == schema_errors(
            spec, lookup(spec, *response_path(status), "examples", code, "value"), *response_path(status), "schema"
        )


@pytest.mark.parametrize("provider", ["promptlayer", "prompt_studio"])
def test_the_example_requests_are_accepted(spec: JsonValue, provider: str) -> None:
    """By the request model and by the schema."""
    request = lookup(spec, *RUN, "requestBody", "content", "application/json", "examples", provider, "value")
    assert parse_json_body(RunRequest, strict_json.write(request)).workflow == lookup(request, "workflow")
    assert [] == schema_errors(spec, request, "components", "schemas", "RunRequest")


@pytest.mark.parametrize("provider", ["promptlayer", "prompt_studio"])
def test_the_example_answers_fit_the_schema(spec: JsonValue, provider: str) -> None:
    where = response_path(200, "application/json")
    answer = lookup(spec, *where, "examples", provider, "value")
    assert [] == schema_errors(spec, answer, *where, "schema")
    assert provider == lookup(answer, "provider")


REQUESTS: list[JsonValue] = [
    {},
    {"workflow": ""},
    {"workflow": 1},
    {"workflow": "w", "unknown": 1},
    {"workflow": "w", "input": None},
    {"workflow": "w", "metadata": {"n": 1}},
    {"workflow": "w", "tags": []},
    {"workflow": "w", "tags": ["a", "team:b/c_d-e.F1"]},
    {"workflow": "w", "tags": ["a", "a"]},
    {"workflow": "w", "tags": ["a b"]},
    {"workflow": "w", "tags": [f"t{i}" for i in range(10)]},
    {"workflow": "w", "tags": [f"t{i}" for i in range(11)]},
    {"workflow": "w", "label": None},
    {"workflow": "w", "label": None, "version": 1},
    {"workflow": "w", "label": "l", "version": None},
    {"workflow": "w", "label": "l", "version": 1},
    {"workflow": "w", "version": 0},
    {"workflow": "w", "version": 2**31},
    {"workflow": "w", "version": 2**31 - 1},
    {"workflow": "w", "timeout": 0},
    {"workflow": "w", "timeout": 0.1},
    {"workflow": "w", "callback_url": 2049 * "x"},
]


@pytest.mark.parametrize("request_body", REQUESTS, ids=str)
def test_the_schema_and_the_model_agree(spec: JsonValue, request_body: JsonValue) -> None:
    try:
        parse_json_body(RunRequest, strict_json.write(request_body))
        accepted = True
    except Problem:
        accepted = False
    assert accepted == ([] == schema_errors(spec, request_body, "components", "schemas", "RunRequest"))


@pytest.mark.parametrize(
    "outputs", [None, {"A": NodeOutput("failed", None, "it broke"), "B": NodeOutput("succeeded", 1)}]
)
@pytest.mark.parametrize("return_all_outputs", [True, False])
def test_a_rendered_run_matches_the_schema(
    spec: JsonValue, outputs: dict[str, NodeOutput] | None, *, return_all_outputs: bool
) -> None:
    order = RunSpec("one", "w", 60, metadata={"a": "b"}, tags=("t",), return_all_outputs=return_all_outputs)
    clock = ManualClock(datetime(2026, 11, 21, 12, tzinfo=UTC))
    run = RunRecord.create(order, "promptlayer", clock)
    run.attempts, run.output, run.outputs = 1, [None], outputs
    run.finish("succeeded", clock)
    document = response_body(run_response(run))
    assert [] == schema_errors(spec, document, *response_path(200, "application/json"), "schema")
    assert keys(document) <= keys(lookup(spec, "components", "schemas", "RunAnswer", "properties"))
    assert isinstance(document, dict)
    assert [] != schema_errors(
        spec, {**document, "created_at": "yesterday"}, *response_path(200, "application/json"), "schema"
    )


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"X-Request-Id", "RateLimit", "RateLimit-Policy", "Runward-Cost", "Runward-Budget-Remaining"}),
        (402, {"X-Request-Id", "Retry-After", "Runward-Cost"}),
        (401, {"X-Request-Id", "WWW-Authenticate"}),
        (405, {"X-Request-Id", "Allow"}),
        (409, {"X-Request-Id", "Retry-After"}),
        (422, {"X-Request-Id"}),
        (429, {"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"}),
        (503, {"X-Request-Id", "Retry-After"}),
    ],
)
def test_an_answers_headers_are_named(spec: JsonValue, status: int, headers: set[str]) -> None:
    assert headers == keys(lookup(spec, *RUN, "responses", str(status), "headers"))


@pytest.mark.parametrize(
    ("path", "method", "security"),
    [
        ("/run", "post", [{"bearer": []}, {"key": []}]),
        ("/workflows/{workflow_name}/run", "post", [{"key": []}, {"bearer": []}]),
        ("/workflow-version-execution-results", "get", [{"key": []}, {"bearer": []}]),
        ("/openapi.json", "get", [{"bearer": []}, {"key": []}]),
        ("/v1/workflows/{deployment_id}/run", "post", [{"studio": []}, {"bearer": []}, {"key": []}]),
        ("/docs", "get", []),
        ("/healthz", "get", []),
        ("/readyz", "get", []),
    ],
)
def test_it_says_what_needs_a_key(spec: JsonValue, path: str, method: str, security: JsonValue) -> None:
    assert security == lookup(spec, "paths", path, method, "security")


def test_no_schema_is_burdened_with_pydantics_names(spec: JsonValue) -> None:
    """Generated titles such as "Return All Outputs" and null defaults are omitted."""
    text = strict_json.write(lookup(spec, "components", "schemas")).decode()
    assert [] == re.findall(r'"default":null', text)
    models = {
        "RunRequest",
        "ReplayRequest",
        "RunWorkflow",
        "RunAnswer",
        "NodeAnswer",
        "ProblemAnswer",
        "ProblemPointer",
    }
    kept = {"RunShown", "RunListed", "RunsPage", "RunError", "CallbackState", "RunNotCancelled", "CancelState"}
    kept |= {"UsageReport", "UsageGroup", "UsageSums", "RunCost"}
    kept |= {"RunActivity", "NodeActivity", "TimelineEvent", "RunTimeline"}
    assert models | kept == set(re.findall(r'"title":"([^"]+)"', text))


@pytest.mark.parametrize("path", ["/v1/workflows/{deployment_id}/run", "/api/v1/instructions/{deployment_id}/run"])
def test_prompt_studios_documented_statuses_are_those_of_its_handlers(spec: JsonValue, path: str) -> None:
    """For every problem and every ending of a run."""
    problems = [Problem(code, extra=extra) for code in CODES for extra in ({}, {"outcome": "unknown"})]
    given = {render_problem(problem, Mock(Request)) for problem in problems}
    unreachable = {"405"}  # for other methods, which the document does not have
    statuses = {"200"} | {str(answer.status) for answer in given} - unreachable
    assert statuses == keys(lookup(spec, "paths", path, "post", "responses"))
    headers = {name for answer in given for name in answer.headers} - {"Content-Type", "Server"}
    named = keys(lookup(spec, "paths", path, "post", "responses", "500", "headers"))
    assert headers <= named
