"""Reference of all error codes: docs/errors.md, and with the argument `json` the document that the console shows.

`python -m gateway.api.docs.error_reference [json]` writes it to standard output; `make errors` writes both files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.problems import PROBLEMS

_NO_RUN, _NOT_RUN, _FAILED, _UNKNOWN = "", "not_run", "failed", "unknown"


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Documentation of one error code. `outcomes`: possible values of the member `outcome`, "" if it is absent."""

    outcomes: tuple[str, ...]
    meaning: str
    action: str


_CHECK_THEN_REPEAT = (
    "Look the run up at the provider (`provider_run_id`) before you repeat it: it may cost a second run."
)
_REPEAT = "Repeat the request after `Retry-After` seconds."
_OPERATOR = "Repeating does not help: report it to the operator of the gateway."

ERROR_INFO: Mapping[str, ErrorInfo] = MappingProxyType(
    {
        "malformed_json": ErrorInfo((_NO_RUN,), "The body is not JSON (RFC 8259), or has a duplicate key.", "Fix it."),
        "malformed_request": ErrorInfo((_NO_RUN,), "The request violates HTTP/1.1.", "Fix the client or the proxy."),
        "invalid_idempotency_key": ErrorInfo(
            (_NO_RUN,),
            "Not exactly one key of 1 to 255 printable ASCII characters.",
            "Send a valid key, such as a UUID.",
        ),
        "unauthorized": ErrorInfo(
            (_NO_RUN,),
            "No key, or one that is unknown, expired or revoked.",
            "Send `Authorization: Bearer KEY` or `X-API-KEY`.",
        ),
        "budget_exhausted": ErrorInfo(
            (_NOT_RUN,),
            "A budget has no room for the price of the run (see [budgets](budgets.md)).",
            "Wait until its window ends, after `Retry-After` seconds, or ask the operator for more.",
        ),
        "forbidden": ErrorInfo(
            (_NO_RUN,), "The client's configuration does not permit the workflow or path.", "Ask the operator for it."
        ),
        "not_found": ErrorInfo(
            (_NO_RUN,),
            "The client has no stored run with this id.",
            "Check the id; runs are deleted after `store.retention`.",
        ),
        "unknown_route": ErrorInfo((_NO_RUN,), "No route matches the path.", "Check the path in `/docs`."),
        "workflow_not_found": ErrorInfo(
            (_NO_RUN, _NOT_RUN),
            "The name is not configured, or the provider has no such workflow, version or label.",
            "Check the name and the configuration.",
        ),
        "replay_not_found": ErrorInfo(
            (_NO_RUN,),
            "Operations port: there is no such plan or job of a replay; a plan is kept for an hour.",
            "Make a new plan.",
        ),
        "provider_not_found": ErrorInfo(
            (_NO_RUN,), "Operations port: no provider of this name is configured.", "See `runward providers list`."
        ),
        "key_not_found": ErrorInfo(
            (_NO_RUN,), "Operations port: there is no stored key with this id.", "See `runward keys list`."
        ),
        "method_not_allowed": ErrorInfo((_NO_RUN,), "The route has other methods.", "Use one of those in `Allow`."),
        "request_timeout": ErrorInfo(
            (_NO_RUN,), "The body was not received within `server.body_timeout`.", "Repeat the request."
        ),
        "idempotency_in_flight": ErrorInfo(
            (_NO_RUN,),
            "The first request with this Idempotency-Key has no response yet, or there is no room to return it now.",
            _REPEAT,
        ),
        "cancelled": ErrorInfo(
            (_NOT_RUN,),
            "`POST /runs/{id}/cancel`, or an operator (`detail` says so), ended the run before a start was sent.",
            "Send the request again, with a new Idempotency-Key, if you want the run after all.",
        ),
        "run_ended": ErrorInfo(
            (_NO_RUN,),
            "The run cannot be cancelled any more: it has ended; `run_status` says how.",
            "Look the run up: `GET /runs/{run_id}`.",
        ),
        "run_not_unknown": ErrorInfo(
            (_NO_RUN,),
            "Operations port: the run has another outcome than `unknown`, or has not ended: nothing is to be judged.",
            "Look the run up: its outcome is known, or will be.",
        ),
        "run_unfinished": ErrorInfo(
            (_NO_RUN,),
            "The run cannot be replayed yet: it has not ended; `run_status` says how far it is.",
            "Wait for its end: `GET /runs/{run_id}?wait=50`.",
        ),
        "outcome_unknown": ErrorInfo(
            (_NO_RUN,),
            "The run was not replayed: it may have been executed, so that a replay may pay twice.",
            'Look the run up at the provider; `"include_unknown": true` in the body replays it all the same.',
        ),
        "input_not_kept": ErrorInfo(
            (_NO_RUN,),
            "The run cannot be replayed: its input is not in the store, or was redacted.",
            "Send the request again: `POST /run`.",
        ),
        "key_ended": ErrorInfo(
            (_NO_RUN,),
            "Operations port: a key that is revoked cannot be changed, and one that has expired not rotated.",
            "Create a new key; give one that has expired another expiry first.",
        ),
        "rotation_in_progress": ErrorInfo(
            (_NO_RUN,),
            "Operations port: the grace of an earlier rotation has not ended, and a third text would end one of two.",
            "Wait for the end of the grace, or say with `keep` which of the two texts stays valid.",
        ),
        "too_many_keys": ErrorInfo(
            (_NO_RUN,),
            "Operations port: there are 100 000 stored keys; ended ones count for 30 days.",
            "Revoke keys that are not used, and give one key to each app, not to each user.",
        ),
        "payload_too_large": ErrorInfo(
            (_NO_RUN,),
            "The body exceeds `server.max_body`, or `server.max_passthrough` where it is passed through.",
            "Send a smaller body.",
        ),
        "unsupported_media_type": ErrorInfo(
            (_NO_RUN,),
            "The body is compressed, or is not `application/json` in UTF-8. Where it is passed through: it is "
            "compressed with anything but gzip or deflate.",
            "Send uncompressed JSON.",
        ),
        "invalid_request": ErrorInfo(
            (_NO_RUN,), "The body or the query string is invalid; `errors` lists where and why.", "Fix it."
        ),
        "idempotency_mismatch": ErrorInfo(
            (_NO_RUN,), "The Idempotency-Key was used with another body within 24 h.", "Use a new key for a new run."
        ),
        "callback_url_refused": ErrorInfo(
            (_NO_RUN,),
            "The URL is malformed, or its address is not permitted (see [callbacks](callbacks.md)).",
            "Use another URL.",
        ),
        "rejected_by_provider": ErrorInfo(
            (_NOT_RUN,), "The provider refused the start, such as for a missing input variable.", "Fix the input."
        ),
        "client_closed_request": ErrorInfo(
            (_NO_RUN, _NOT_RUN, _UNKNOWN),
            "The client disconnected before the response. It appears in logs and metrics only.",
            "Wait longer, or use `Prefer: respond-async`.",
        ),
        "header_too_large": ErrorInfo(
            (_NO_RUN,),
            "The request line or a header field exceeds `server.max_header`, or there are more than 128 fields.",
            "Send smaller header fields.",
        ),
        "rate_limited": ErrorInfo(
            (_NOT_RUN,),
            "A limit of the client, its team or its key is exceeded: rate, daily quota or concurrency.",
            _REPEAT,
        ),
        "too_many_failures": ErrorInfo(
            (_NO_RUN,), "Too many requests with invalid keys came from this address.", _REPEAT
        ),
        "internal": ErrorInfo((_NO_RUN, _UNKNOWN), "A defect of the gateway or of an adapter.", _OPERATOR),
        "run_failed": ErrorInfo(
            (_FAILED,),
            "The workflow was executed and failed; `detail` has the reason.",
            "Fix the workflow or the input.",
        ),
        "upstream_unreachable": ErrorInfo(
            (_NOT_RUN, _UNKNOWN), "No connection to the provider could be opened.", "Repeat the request."
        ),
        "upstream_misconfigured": ErrorInfo(
            (_NOT_RUN, _UNKNOWN), "The TLS handshake failed, such as for an untrusted certificate.", _OPERATOR
        ),
        "upstream_credentials": ErrorInfo(
            (_NOT_RUN, _UNKNOWN), "The provider does not accept the configured API key.", _OPERATOR
        ),
        "upstream_disconnected": ErrorInfo(
            (_UNKNOWN,), "The connection was closed after the request was sent.", _CHECK_THEN_REPEAT
        ),
        "upstream_error": ErrorInfo((_UNKNOWN,), "The provider responded with an error status.", _CHECK_THEN_REPEAT),
        "upstream_invalid_response": ErrorInfo(
            (_UNKNOWN,), "The provider's response does not have the expected format.", _CHECK_THEN_REPEAT
        ),
        "upstream_too_large": ErrorInfo(
            (_UNKNOWN,), "The provider's response exceeds the size limit.", _CHECK_THEN_REPEAT
        ),
        "overloaded": ErrorInfo(
            (_NO_RUN, _NOT_RUN, _UNKNOWN),
            "A queue or the replica is at its limit, or the wait would be too long.",
            _REPEAT,
        ),
        "draining": ErrorInfo(
            (_NOT_RUN, _FAILED, _UNKNOWN),
            "The replica shuts down before the run has ended.",
            "Repeat the request if `retryable`, or with the same Idempotency-Key.",
        ),
        "circuit_open": ErrorInfo(
            (_NOT_RUN,), "The workflow's starts failed too often, so none is sent for a while.", _REPEAT
        ),
        "provider_suspended": ErrorInfo(
            (_NOT_RUN,),
            "An operator has stopped the starts at the provider. A run in the background waits for the end of that "
            "until its deadline.",
            _REPEAT,
        ),
        "upstream_throttled": ErrorInfo((_NOT_RUN, _UNKNOWN), "The provider responded with 429.", _REPEAT),
        "upstream_unavailable": ErrorInfo(
            (_NOT_RUN, _UNKNOWN), "The provider responded with 503 and Retry-After.", _REPEAT
        ),
        "issuer_unavailable": ErrorInfo(
            (_NOT_RUN,),
            "The keys that verify the token could not be fetched from its issuer for too long "
            "(see [tokens](tokens.md)).",
            _REPEAT,
        ),
        "store_unavailable": ErrorInfo(
            (_NO_RUN, _NOT_RUN, _UNKNOWN),
            "The store does not respond. With `unknown`, the run may have been stored.",
            "Repeat the request if `retryable`, or with the same Idempotency-Key.",
        ),
        "upstream_timeout": ErrorInfo(
            (_UNKNOWN,), "The provider did not respond within the time-out.", _CHECK_THEN_REPEAT
        ),
        "deadline_exceeded": ErrorInfo(
            (_NOT_RUN, _UNKNOWN),
            "The run did not end within its `timeout`.",
            "Set a longer `timeout`. If `detail` says so, the run is polled on, and `GET /runs/{run_id}` tells how it "
            "ends. Otherwise: " + _CHECK_THEN_REPEAT[0].lower() + _CHECK_THEN_REPEAT[1:],
        ),
        "expired": ErrorInfo(
            (_NOT_RUN,),
            "No start was sent by `start_before`.",
            "Send the request again, with a later `start_before`, if you still want the run.",
        ),
    }
)

_HEAD = """\
# Error codes

Every error response of `POST /run`, `/runs` and the other routes of the gateway is a problem document (RFC 9457,
`application/problem+json`); README.md has an example. Decide by `code`, never by `title` or `detail`, whose texts may
change. On PromptLayer's API the code is the member `code`, on Prompt Studio's API the header field `Runward-Problem`;
[the status may differ there](moving-from-promptlayer.md).

- **outcome**: `not_run`: nothing was run, and nothing will be. `failed`: the workflow was executed and failed.
  `unknown`: it may have been executed, or may still be running. `-`: the request was refused without a run.
- **retryable**: the same request may succeed later and cannot cause a second run. The member `retryable` of a document
  is `false` if its `outcome` is `unknown` or `failed`, whatever the table says. (Exception: `store_unavailable` with an
  Idempotency-Key, where a repeated request finds the first run.)

| code | status | title | outcome | retryable | meaning | action |
|---|---|---|---|---|---|---|
"""
_FOOT = """
This page is generated: `make errors` writes it from the table in `gateway/problems.py` and from
`gateway/api/docs/error_reference.py`.
"""


def error_page() -> str:
    """The page in Markdown: one row for each error code, in the order of PROBLEMS."""
    return _HEAD + "".join(_row(code, info) for code, info in _in_order()) + _FOOT


def _in_order() -> list[tuple[str, ErrorInfo]]:
    return [(code, ERROR_INFO[code]) for code in PROBLEMS]


def _row(code: str, info: ErrorInfo) -> str:
    problem_type = PROBLEMS[code]
    outcomes = ", ".join(f"`{outcome}`" if outcome else "-" for outcome in info.outcomes)
    retryable = "yes" if problem_type.retryable else "no"
    cells = (f"`{code}`", str(problem_type.status), problem_type.title, outcomes, retryable, info.meaning, info.action)
    return f"| {' | '.join(cells)} |\n"


def error_document() -> str:
    """The reference as JSON: an object with a member for each error code, in the order of PROBLEMS."""
    return json.dumps({code: _members(code, info) for code, info in _in_order()}, indent=1) + "\n"


def _members(code: str, info: ErrorInfo) -> dict[str, object]:
    problem_type = PROBLEMS[code]
    return {
        "status": problem_type.status,
        "title": problem_type.title,
        "retryable": problem_type.retryable,
        "outcomes": list(info.outcomes),
        "meaning": info.meaning,
        "action": info.action,
    }


if __name__ == "__main__":
    sys.stdout.write(error_document() if sys.argv[1:] == ["json"] else error_page())
