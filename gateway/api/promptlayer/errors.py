"""Problems in the format of PromptLayer's API: both `message` and `error`, as each SDK reads one of them."""

from __future__ import annotations

from types import MappingProxyType

from gateway.errors import as_sentence
from gateway.http.request import Request
from gateway.http.response import Response, make_response, problem_headers
from gateway.json import strict_json
from gateway.problems import FieldError, Problem
from gateway.runs import rendering
from providers.contract import JsonValue

_NO_RETRY_STATUS = 409
_OUTCOME_NOTES = MappingProxyType(
    {"not_run": " Nothing was run.", "unknown": " Whether the workflow ran is not known."}
)


def with_outcome(text: str, outcome: str) -> str:
    """Return the text of an error as a sentence, and what it means for the run: whether anything was run."""
    return as_sentence(text) + _OUTCOME_NOTES.get(outcome, "")


def render_problem(problem: Problem, request: Request) -> Response:
    """Render a problem. `detail` lists the errors of an invalid request in FastAPI's format.

    The JavaScript SDK repeats a start after a 5xx; so the status is 409 if the run may have been started. Such a run is
    named in a header field, as a run that was started is.
    """
    body = strict_json.write(problem_members(problem) | {"request_id": request.request_id})
    status, headers = problem.status, problem_headers(problem)
    if problem.extra.get("outcome") == "unknown":
        status = _NO_RETRY_STATUS
        if "run_id" in problem.extra:
            headers = (*headers, ("Runward-Run-Id", str(problem.extra["run_id"])))
    return make_response(status, body, rendering.JSON_CONTENT_TYPE, headers)


def problem_members(problem: Problem) -> dict[str, JsonValue]:
    """Members of the body."""
    message = problem.text
    if "run_id" in problem.extra:
        message = with_outcome(message, str(problem.extra["outcome"]))
    body: dict[str, JsonValue] = {"success": False, "message": message, "error": message, "code": problem.code}
    if problem.errors:
        detail: list[JsonValue] = [_detail(error) for error in problem.errors]
        message = "; ".join(f"{'.'.join(_location(error))}: {error.detail}" for error in problem.errors)
        body |= {"message": message, "error": message, "detail": detail}
    return body


def _detail(error: FieldError) -> JsonValue:
    return {"loc": list(_location(error)), "msg": error.detail, "type": "value_error"}


def _location(error: FieldError) -> list[str]:
    """`?name` is a parameter of the query string, everything else a JSON pointer into the body."""
    if error.pointer.startswith("?"):
        return ["query", error.pointer[1:]]
    steps = error.pointer.split("/")[1:]
    return ["body", *(step.replace("~1", "/").replace("~0", "~") for step in steps)]
