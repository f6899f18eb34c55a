"""What Prompt Studio's API answers: a result in its member, and `{}` for everything else.

Its page knows 200, 404 and 500, and no bodies for the latter two. So what else there is to say stands in header fields:
an app that reads statuses alone is told nothing false, and one that looks closer learns what became of the run.
"""

from __future__ import annotations

import math

from aiohttp import web

from gateway import strictjson
from gateway.http.body import make_response
from gateway.http.server import Request
from gateway.problems import PROBLEMS, Problem
from gateway.runs.rendering import JSON_CONTENT_TYPE
from gateway.store.contract import StoredResponse
from providers.contract import JsonValue

RUN_ID_HEADER, PROBLEM_HEADER, OUTCOME_HEADER = "Runward-Run-Id", "Runward-Problem", "Runward-Outcome"
_API = "prompt_studio"
_DEFAULT_RETRY_AFTER = 1.0  # seconds, where nothing was run and nobody can say how long to wait


def format_result(output: JsonValue, api: str) -> JsonValue:
    """The run's result: what Prompt Studio itself gave, unchanged; of others' runs always an object.

    `api` is that of the provider that ran it. Its page: "result: object, the results of running the workflow", with
    `completion` in its example.
    """
    if api == _API or isinstance(output, dict):
        return output
    return {"completion": output}


def success_response(member: str, result: JsonValue, headers: tuple[tuple[str, str], ...]) -> web.Response:
    """Render a run that succeeded; `member` is where the dialect has the result."""
    return make_response(200, strictjson.write({member: result}), JSON_CONTENT_TYPE, headers)


def decode_stored_response(stored: StoredResponse) -> tuple[JsonValue, str]:
    """Read the output and the provider of a run out of the answer that was kept for its key.

    Raises the Problem that it ended with.
    """
    document = strictjson.read_stored(stored.body)
    if not isinstance(document, dict):
        raise Problem("internal")
    if stored.status != 200:
        run_fields: dict[str, object] = {name: document[name] for name in ("run_id", "outcome") if name in document}
        raise Problem(str(document.get("code")), extra=run_fields)
    return document["output"], str(document["provider"])


def render_problem(problem: Problem, _request: Request) -> web.Response:
    """Render a problem as `{}`, with what is known about it in the header."""
    outcome = problem.extra.get("outcome")
    status = _http_status(problem, outcome)
    headers = [(PROBLEM_HEADER, problem.code), *problem.headers]
    if outcome is not None:
        headers.append((OUTCOME_HEADER, str(outcome)))
    if outcome not in {None, "not_run"}:
        headers.append((RUN_ID_HEADER, str(problem.extra.get("run_id"))))
    retry_after = _DEFAULT_RETRY_AFTER if status == 503 and problem.retry_after is None else problem.retry_after
    if retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(retry_after))))
    return make_response(status, b"{}", JSON_CONTENT_TYPE, tuple(headers))


def _http_status(problem: Problem, outcome: object) -> int:
    """500 for what ran, or may have run: the page's own word, and one that nobody repeats without thinking.

    What did not run keeps its status below 500; 503 says that it may be tried again, and 500 that it is of no use.
    """
    if outcome in {None, "not_run"}:
        if problem.status < 500:
            return problem.status
        return 503 if PROBLEMS[problem.code].retryable else 500
    return 500
