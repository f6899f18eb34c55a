"""Problems in the format of PromptLayer's API: both `message` and `error`, as each SDK reads one of them."""

from __future__ import annotations

from aiohttp import web

from gateway import strict_json
from gateway.http.response import make_response, problem_headers
from gateway.http.server import Request
from gateway.problems import FieldError, Problem
from gateway.runs import rendering
from providers.contract import JsonValue

_NO_RETRY_STATUS = 409


def render_problem(problem: Problem, request: Request) -> web.Response:
    """Render a problem. `detail` lists the errors of an invalid request in FastAPI's format.

    The JavaScript SDK repeats a start after a 5xx; so the status is 409 if the run may have been accepted.
    """
    body = strict_json.write(problem_members(problem) | {"request_id": request.request_id})
    status = _NO_RETRY_STATUS if problem.extra.get("outcome") == "unknown" else problem.status
    return make_response(status, body, rendering.JSON_CONTENT_TYPE, problem_headers(problem))


def problem_members(problem: Problem) -> dict[str, JsonValue]:
    """Members of the body."""
    message = problem.text
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
