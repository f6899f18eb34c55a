"""The spans, attributes and the metric of the gateway, each with its name and its meaning: the one place for them.

Names follow the semantic conventions of OpenTelemetry: HTTP (stable), and GenAI (in development). A workflow is
`gen_ai.agent.name` in the conventions for GenAI v0.1, and `gen_ai.workflow.name` in v1.41 of the general conventions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

SpanKind: TypeAlias = Literal["server", "internal", "client"]
Convention: TypeAlias = Literal["v0.1", "v1.41", "both"]
"""Names of the attributes of a workflow: GenAI v0.1, v1.41 of the general conventions, or both."""

INVOKE_WORKFLOW = "invoke_workflow"
"""Value of `gen_ai.operation.name`."""

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
HTTP_RESEND_COUNT = "http.request.resend_count"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
ERROR_TYPE = "error.type"
OPERATION = "gen_ai.operation.name"
AGENT_NAME = "gen_ai.agent.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
RUN_ID = "runward.run.id"
OUTCOME = "runward.outcome"
CLIENT = "runward.client"
PROVIDER = "runward.provider"
API = "runward.api"
LABEL = "runward.label"
VERSION = "runward.version"
ATTEMPTS = "runward.attempts"
WAIT_FOR = "runward.wait.for"
CALL = "runward.call"
REPLAY_OF = "runward.replay_of"
PHASE = "runward.phase"

NAMES_OF_WORKFLOW: Mapping[Convention, Sequence[str]] = {
    "v0.1": (AGENT_NAME,),
    "v1.41": (WORKFLOW_NAME,),
    "both": (AGENT_NAME, WORKFLOW_NAME),
}
"""Attributes with the name of the workflow, by convention."""


@dataclass(frozen=True, slots=True)
class SpanType:
    """A kind of span: the pattern of its name, what it measures, and the meaning of each attribute."""

    kind: SpanKind
    name: str
    text: str
    attributes: Mapping[str, str]
    events: Mapping[str, str]


_ERROR_CODE = "code of the problem document"
_ADDRESS = {SERVER_ADDRESS: "host", SERVER_PORT: "port"}

REQUEST = SpanType(
    "server",
    "{METHOD} {route}",
    "a request to a route that needs a key, once the key is accepted",
    {
        HTTP_METHOD: "method",
        HTTP_ROUTE: "route, such as /runs/{id}; a request that is passed through has none",
        HTTP_STATUS: "status of the response; 499: the client disconnected",
        ERROR_TYPE: f"{_ERROR_CODE}, from the status 500 on",
    },
    {},
)
RUN = SpanType(
    "internal",
    "invoke_workflow {alias}",
    "a run in one process, its waits included",
    {
        OPERATION: INVOKE_WORKFLOW,
        AGENT_NAME: "alias of the workflow (conventions v0.1 and both)",
        WORKFLOW_NAME: "alias of the workflow (conventions v1.41 and both)",
        ERROR_TYPE: f"{_ERROR_CODE} of a run that did not succeed",
        RUN_ID: "id of the run",
        OUTCOME: "succeeded, failed, not_run or unknown; missing if another process continues the run",
        CLIENT: "client of the configuration",
        PROVIDER: "provider of the configuration",
        API: "API that the client used: run, promptlayer or prompt_studio",
        LABEL: "label that the request asked for",
        VERSION: "version that the request asked for",
        ATTEMPTS: "starts that were sent",
        REPLAY_OF: "id of the run that this one repeats",
    },
    {PHASE: "a stored run has reached a phase: queued, sending, following, deadline_passed"},
)
WAIT = SpanType(
    "internal",
    "runward.wait",
    "a wait of at least 10 ms",
    {
        WAIT_FOR: "client, workflow or provider (whose limit it is), limit (the limit is not known), breaker, backoff, "
        "store"
    },
    {},
)
UPSTREAM_CALL = SpanType(
    "client",
    "{METHOD}",
    "a call of a run to its provider",
    {
        HTTP_METHOD: "method",
        **_ADDRESS,
        HTTP_STATUS: "status of the response",
        ERROR_TYPE: "status from 400 on, or what prevented a complete response; cancelled: it was given up",
        HTTP_RESEND_COUNT: "how often the same call was sent before, from the second time on",
        CALL: "operation of the adapter, such as start, poll, result",
    },
    {},
)
DELIVERY = SpanType(
    "client",
    "POST",
    "an attempt to deliver a callback, in a trace of its own that is linked to the span of the run",
    {
        HTTP_METHOD: "POST",
        **_ADDRESS,
        HTTP_STATUS: "status of the response",
        ERROR_TYPE: "status from 300 on, or what prevented a response",
        HTTP_RESEND_COUNT: "earlier attempts, from the second one on",
        RUN_ID: "id of the run",
    },
    {},
)
SPAN_TYPES = (REQUEST, RUN, WAIT, UPSTREAM_CALL, DELIVERY)


@dataclass(frozen=True, slots=True)
class Metric:
    """A histogram: `buckets` are upper bounds in its unit."""

    name: str
    unit: str
    text: str
    attributes: Sequence[str]
    buckets: Sequence[float]


RUN_DURATION = Metric(
    "gen_ai.invoke_agent.duration",
    "s",
    "duration of runs, from the arrival of the request; not with the convention v1.41, which has no metric",
    (OPERATION, AGENT_NAME, WORKFLOW_NAME, ERROR_TYPE),
    (1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
)

REFUSALS = frozenset(
    {
        *("budget_exhausted", "rate_limited", "overloaded", "circuit_open", "provider_suspended", "deadline_exceeded"),
        *("cancelled", "expired", "client_closed_request", "draining"),
    }
)
"""Codes of runs that the gateway or the client decided not to start: with the outcome `not_run` they are no errors."""

UNFINISHED = "draining"
"""Code of a run that ended without an error of its own: its request was cancelled."""


def is_error(outcome: str, code: str | None) -> bool:
    """Return whether a run with this outcome has failed; a refusal is not a failure."""
    return outcome != "succeeded" and not (outcome == "not_run" and code in REFUSALS)
