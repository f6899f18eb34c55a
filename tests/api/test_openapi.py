"""The API's document: it is valid, whole, and true of what the gateway really answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from unittest.mock import Mock

import pytest
from aiohttp import web
from openapi_schema_validator import OAS31Validator, oas31_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway import strictjson
from gateway.api import examples
from gateway.api.openapi import document
from gateway.api.prompt_studio.answers import refuse
from gateway.api.server import Request
from gateway.api.wire import RunRequest, answer_run, parse
from gateway.problems import PROBLEMS, Pointer, Problem
from gateway.runs.record import Order, RunRecord
from providers.contract import JsonValue, NodeOutput
from tests.manual_clock import ManualClock

CODES = [code for code in PROBLEMS if code != "client_closed_request"]
RUN = ("paths", "/run", "post")
PROBLEM_JSON = "application/problem+json"


@pytest.fixture(scope="module")
def written() -> JsonValue:
    """The document as a client reads it."""
    return strictjson.read(strictjson.write(document()))


def at(value: JsonValue, *steps: str) -> JsonValue:
    """What stands in the document at `steps`."""
    for step in steps:
        assert isinstance(value, dict), steps
        value = value[step]
    return value


def keys(value: JsonValue) -> set[str]:
    assert isinstance(value, dict)
    return set(value)


def complaints(written: JsonValue, instance: JsonValue, *steps: str) -> list[str]:
    """What the schema at `steps` says against `instance`."""
    assert isinstance(written, dict)
    pointer = "#" + "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    validator = OAS31Validator({**written, "$ref": pointer}, format_checker=oas31_format_checker)
    return [error.message for error in validator.iter_errors(instance)]


def response(status: int | str, content_type: str = PROBLEM_JSON) -> tuple[str, ...]:
    """Where the content of one of `POST /run`'s answers stands."""
    return (*RUN, "responses", str(status), "content", content_type)


def body(answer: web.Response) -> JsonValue:
    assert isinstance(answer.body, bytes)
    return strictjson.read(answer.body)


def test_it_is_valid_openapi(written: JsonValue) -> None:
    assert isinstance(written, dict)
    assert [] == list(OpenAPIV31SpecValidator(written).iter_errors())


def test_every_status_of_the_table_is_an_answer_of_run_and_no_other(written: JsonValue) -> None:
    expected = {"200", "202"} | {str(PROBLEMS[code].status) for code in CODES}
    assert expected == keys(at(written, *RUN, "responses"))


@pytest.mark.parametrize("code", CODES)
def test_every_code_stands_at_its_status_with_its_meaning(written: JsonValue, code: str) -> None:
    kind = PROBLEMS[code]
    answer = at(written, *RUN, "responses", str(kind.status))
    all_of = at(written, *response(kind.status), "schema", "allOf")
    assert isinstance(all_of, list)
    listed = at(all_of[1], "properties", "code", "enum")
    assert isinstance(listed, list)
    assert code in listed
    assert f"- `{code}`: {kind.title}" in str(at(answer, "description"))


@pytest.mark.parametrize("code", CODES)
def test_a_problem_as_it_is_really_written_fits_its_status(written: JsonValue, code: str) -> None:
    problem = Problem(
        code,
        errors=(Pointer("/input", "Field required"),),
        extra={"run_id": "run_" + 32 * "0", "provider": "x", "attempts": 0, "outcome": "unknown", "outputs": None},
    )
    document = strictjson.read(problem.document("req_1"))
    where = (*response(problem.status), "schema")
    assert [] == complaints(written, document, *where)
    assert keys(document) <= keys(at(written, "components", "schemas", "ProblemAnswer", "properties"))
    assert isinstance(document, dict)
    assert [] != complaints(written, {**document, "code": "invented"}, *where)
    assert [] != complaints(written, {**document, "outcome": None}, *where)


def test_the_problems_examples_fit_their_schemas(written: JsonValue) -> None:
    for code, example in examples.problems(CODES).items():
        status = PROBLEMS[code].status
        assert example == at(written, *response(status), "examples", code)
        assert [] == complaints(
            written, at(written, *response(status), "examples", code, "value"), *response(status), "schema"
        )


@pytest.mark.parametrize("provider", ["promptlayer", "prompt_studio"])
def test_the_example_requests_are_accepted(written: JsonValue, provider: str) -> None:
    """By the model that checks requests, and by the schema."""
    request = at(written, *RUN, "requestBody", "content", "application/json", "examples", provider, "value")
    assert parse(RunRequest, strictjson.write(request)).workflow == at(request, "workflow")
    assert [] == complaints(written, request, "components", "schemas", "RunRequest")


@pytest.mark.parametrize("provider", ["promptlayer", "prompt_studio"])
def test_the_example_answers_fit_the_schema(written: JsonValue, provider: str) -> None:
    where = response(200, "application/json")
    answer = at(written, *where, "examples", provider, "value")
    assert [] == complaints(written, answer, *where, "schema")
    assert provider == at(answer, "provider")


REQUESTS: list[JsonValue] = [
    {},
    {"workflow": ""},
    {"workflow": 1},
    {"workflow": "w", "unknown": 1},
    {"workflow": "w", "input": None},
    {"workflow": "w", "metadata": {"n": 1}},
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
def test_the_schema_and_the_model_agree(written: JsonValue, request_body: JsonValue) -> None:
    try:
        parse(RunRequest, strictjson.write(request_body))
        accepted = True
    except Problem:
        accepted = False
    assert accepted == ([] == complaints(written, request_body, "components", "schemas", "RunRequest"))


@pytest.mark.parametrize(
    "outputs", [None, {"A": NodeOutput("failed", None, "it broke"), "B": NodeOutput("succeeded", 1)}]
)
@pytest.mark.parametrize("return_all_outputs", [True, False])
def test_a_run_as_it_is_really_written_fits_the_schema(
    written: JsonValue, outputs: dict[str, NodeOutput] | None, *, return_all_outputs: bool
) -> None:
    order = Order("one", "w", 60, metadata={"a": "b"}, return_all_outputs=return_all_outputs)
    clock = ManualClock(datetime(2026, 11, 21, 12, tzinfo=UTC))
    run = RunRecord.open(order, "promptlayer", clock)
    run.attempts, run.output, run.outputs = 1, [None], outputs
    run.close("succeeded", clock)
    document = body(answer_run(run))
    assert [] == complaints(written, document, *response(200, "application/json"), "schema")
    assert keys(document) <= keys(at(written, "components", "schemas", "RunAnswer", "properties"))
    assert isinstance(document, dict)
    assert [] != complaints(
        written, {**document, "created_at": "yesterday"}, *response(200, "application/json"), "schema"
    )


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, {"X-Request-Id", "RateLimit", "RateLimit-Policy"}),
        (401, {"X-Request-Id", "WWW-Authenticate"}),
        (405, {"X-Request-Id", "Allow"}),
        (409, {"X-Request-Id", "Retry-After"}),
        (422, {"X-Request-Id"}),
        (429, {"X-Request-Id", "Retry-After", "RateLimit", "RateLimit-Policy"}),
        (503, {"X-Request-Id", "Retry-After"}),
    ],
)
def test_an_answers_headers_are_named(written: JsonValue, status: int, headers: set[str]) -> None:
    assert headers == keys(at(written, *RUN, "responses", str(status), "headers"))


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
def test_it_says_what_needs_a_key(written: JsonValue, path: str, method: str, security: JsonValue) -> None:
    assert security == at(written, "paths", path, method, "security")


def test_no_schema_is_burdened_with_pydantics_names(written: JsonValue) -> None:
    """Titles such as "Return All Outputs" and defaults of null say nothing to a reader."""
    text = strictjson.write(at(written, "components", "schemas")).decode()
    assert [] == re.findall(r'"default":null', text)
    models = {"RunRequest", "RunWorkflow", "RunAnswer", "NodeAnswer", "ProblemAnswer", "ProblemPointer"}
    kept = {"RunShown", "RunsPage", "RunError", "CallbackState"}
    assert models | kept == set(re.findall(r'"title":"([^"]+)"', text))


@pytest.mark.parametrize("path", ["/v1/workflows/{deployment_id}/run", "/api/v1/instructions/{deployment_id}/run"])
def test_prompt_studios_statuses_are_those_that_its_face_can_answer(written: JsonValue, path: str) -> None:
    """For every problem that there is, however the run ended."""
    problems = [Problem(code, extra=extra) for code in CODES for extra in ({}, {"outcome": "unknown"})]
    given = {refuse(problem, Mock(Request)) for problem in problems}
    unreachable = {"405"}  # for other methods, which the document does not have
    statuses = {"200"} | {str(answer.status) for answer in given} - unreachable
    assert statuses == keys(at(written, "paths", path, "post", "responses"))
    headers = {name for answer in given for name in answer.headers} - {"Content-Type", "Server"}
    named = keys(at(written, "paths", path, "post", "responses", "500", "headers"))
    assert headers <= named
