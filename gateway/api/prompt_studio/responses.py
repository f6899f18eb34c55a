"""Responses of Prompt Studio's API: the result of a run, and `{}` for every problem.

The API's page documents 200, 404 and 500, the latter two without a body. So the problem code and the outcome of the run
are header fields; the status alone is also correct.
"""

from __future__ import annotations

from gateway.http.request import Request
from gateway.http.response import HeaderFields, Response, make_response, problem_headers
from gateway.json import strict_json
from gateway.problems import PROBLEMS, Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.records import StoredResponse
from providers.contract import JsonValue

RUN_ID_HEADER, PROBLEM_HEADER, OUTCOME_HEADER = "Runward-Run-Id", "Runward-Problem", "Runward-Outcome"
_API = "prompt_studio"
_DEFAULT_RETRY_AFTER = ("Retry-After", "1")  # with 503, if the problem states no time


def format_result(output: JsonValue, api: str) -> JsonValue:
    """Result of a run: Prompt Studio's own result unchanged; that of another provider always as an object.

    `api`: the API of the provider that executed the run. Source: "result: object, the results of running the workflow",
    with `completion` in the page's example.
    """
    if api == _API or isinstance(output, dict):
        return output
    return {"completion": output}


def success_response(member: str, result: JsonValue, headers: HeaderFields) -> Response:
    """Response to a run that succeeded. `member`: the name of the result in this generation of the API."""
    return make_response(200, strict_json.write({member: result}), JSON_CONTENT_TYPE, headers)


def decode_stored_response(stored: StoredResponse) -> tuple[JsonValue, str]:
    """Output and provider of a run, from the response stored for its Idempotency-Key.

    Raises the Problem of a run that did not succeed.
    """
    document = strict_json.read_stored(stored.body)
    if not isinstance(document, dict):
        raise Problem("internal")
    if stored.status != 200:
        run_fields: dict[str, object] = {name: document[name] for name in ("run_id", "outcome") if name in document}
        raise Problem(str(document.get("code")), extra=run_fields)
    return document["output"], str(document["provider"])


def render_problem(problem: Problem, _request: Request) -> Response:
    """Render a problem as `{}`, with its code and outcome in header fields."""
    outcome = problem.extra.get("outcome")
    status = _http_status(problem, outcome)
    headers = [(PROBLEM_HEADER, problem.code), *problem_headers(problem)]
    if outcome is not None:
        headers.append((OUTCOME_HEADER, str(outcome)))
    if outcome not in {None, "not_run"}:
        headers.append((RUN_ID_HEADER, str(problem.extra.get("run_id"))))
    if status == 503 and problem.retry_after is None:
        headers.append(_DEFAULT_RETRY_AFTER)
    return make_response(status, b"{}", JSON_CONTENT_TYPE, tuple(headers))


def _http_status(problem: Problem, outcome: object) -> int:
    """500 if the workflow was or may have been executed: the only documented status that clients do not repeat.

    Otherwise statuses below 500 are kept; 503 if the request may be repeated, 500 if that is of no use.
    """
    if outcome in {None, "not_run"}:
        if problem.status < 500:
            return problem.status
        return 503 if PROBLEMS[problem.code].retryable else 500
    return 500
