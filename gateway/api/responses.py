"""What a route may answer, as OpenAPI has it: responses with their headers, and the table of problems by status."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from gateway.api import examples
from gateway.problems import CONTENT_TYPE, PROBLEMS

Node: TypeAlias = dict[str, object]
"""A part of the document."""

_TEXT: Node = {"type": "string"}
_SECONDS: Node = {"type": "integer", "minimum": 0}
HEADERS: Node = {
    "X-Request-Id": {
        "description": "The request's id: the one that was sent where it is acceptable, else a new one.",
        "schema": _TEXT,
    },
    "Retry-After": {"description": "Whole seconds after which the same request may succeed.", "schema": _SECONDS},
    "WWW-Authenticate": {"description": "How to present a key.", "schema": _TEXT},
    "Location": {"description": "Where the run can be looked up.", "schema": _TEXT},
    "Idempotent-Replayed": {"description": "`true` where the answer is an earlier one.", "schema": _TEXT},
    "Allow": {"description": "The methods that the route has.", "schema": _TEXT},
    "Runward-Run-Id": {"description": "The run, to be looked up at `/runs/{id}`.", "schema": _TEXT},
    "Runward-Problem": {"description": "What went wrong: a `code` of `ProblemAnswer`.", "schema": _TEXT},
    "Runward-Outcome": {"description": "What became of the run: its `outcome`.", "schema": _TEXT},
    "RateLimit": {
        "description": "What is left of the client's own limits: items of `r` requests, more in `t` seconds.",
        "schema": _TEXT,
    },
    "RateLimit-Policy": {
        "description": "The client's own limits: items of `q` requests in a window of `w` seconds.",
        "schema": _TEXT,
    },
}
"""Every header of an answer that says something of its own, for the document's `components`."""

_HEADERS_OF = {
    401: ("WWW-Authenticate",),
    405: ("Allow",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def answer(description: str, content: Node, *headers: str) -> Node:
    """A response: `content` is by media type; every response has X-Request-Id, and these `headers`."""
    named = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *headers)}
    return {"description": description, "headers": named, "content": content}


def json_of(schema: Node) -> Node:
    """The content of a JSON response."""
    return {"application/json": {"schema": schema}}


def problems(codes: Iterable[str]) -> Node:
    """A response for each status, with the codes that it may carry."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    return {str(status): _problem(status, by_status[status]) for status in sorted(by_status)}


def _problem(status: int, codes: list[str]) -> Node:
    narrowed = {
        "type": "object",
        "properties": {"status": {"type": "integer", "const": status}, "code": {"type": "string", "enum": codes}},
    }
    schema = {"allOf": [{"$ref": "#/components/schemas/ProblemAnswer"}, narrowed]}
    content: Node = {CONTENT_TYPE: {"schema": schema, "examples": examples.problems(codes)}}
    return answer("\n".join(_meaning(code) for code in codes), content, *_HEADERS_OF.get(status, ()))


def _meaning(code: str) -> str:
    kind = PROBLEMS[code]
    return f"- `{code}`: {kind.title}{' (retryable)' if kind.retryable else ''}."
