"""Response schemas of the OpenAPI document. `runs.rendering` writes the responses; tests validate them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field

from gateway.api.openapi.component_schemas import NotRequired
from gateway.money import AMOUNT_PATTERN
from gateway.store.run_filter import MAX_EXAMINED

_ATTEMPTS = "Number of start requests over all fallbacks, those that could not be sent included."
_TAGS = "Present if the run has tags."
_ReplayOf: TypeAlias = Annotated[
    Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")] | NotRequired,
    Field(description="Id of the run whose input this one has; present if it is a replay."),
]


class RunCost(BaseModel):
    """What a run cost, by the declared price of its workflow. Amounts are decimal numbers as texts."""

    amount: Annotated[str, Field(pattern=AMOUNT_PATTERN, description="The amount, with `unknown`.")]
    certainty: Annotated[
        Literal["none", "spent", "unknown"],
        Field(description="`none`: nothing was run. `spent`: it was paid. `unknown`: a part may not have been paid."),
    ]
    unknown: Annotated[
        str | NotRequired, Field(pattern=AMOUNT_PATTERN, description="The part that may not have been paid.")
    ] = None


_Cost: TypeAlias = Annotated[RunCost | NotRequired, Field(description="Present if the workflow has a price.")]


class NodeAnswer(BaseModel):
    """Output of one node."""

    status: Literal["succeeded", "failed", "skipped"]
    value: Annotated[Any, Field(description="Any JSON value.")]
    error: Annotated[str | None, Field(description="Error message in one line, if it failed.")]
    is_output: Annotated[bool, Field(description="True for an output node of the workflow.")]


class RunAnswer(BaseModel):
    """A run that succeeded."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    status: Literal["succeeded"]
    workflow: Annotated[str, Field(description="Workflow name as in the request.")]
    provider: Annotated[
        str, Field(description="Provider that executed the run; after a fallback, that of the fallback.")
    ]
    output: Annotated[Any, Field(description="Output of the workflow: any JSON value.")]
    outputs: Annotated[
        dict[str, NodeAnswer] | None,
        Field(description="Output by node, only with `return_all_outputs`; null if the provider has no nodes."),
    ] = None
    warning: Annotated[str | None, Field(description="Warning of the provider, in one line.")]
    attempts: Annotated[int, Field(ge=1, description=_ATTEMPTS)]
    provider_run_id: Annotated[str | None, Field(description="The provider's id of the run, if it reports one.")]
    metadata: dict[str, str]
    tags: Annotated[list[str] | NotRequired, Field(description=_TAGS)] = None
    replay_of: _ReplayOf = None
    cost: _Cost = None
    created_at: datetime
    finished_at: datetime
    duration_ms: Annotated[int, Field(ge=0)]


class RunError(BaseModel):
    """Error of a run that did not succeed."""

    code: Annotated[
        str, Field(pattern="^[a-z_]+$", description="Error code, as in the problem document of `POST /run`.")
    ]
    detail: str | None


class CallbackState(BaseModel):
    """Delivery state of a run's callback."""

    state: Literal["pending", "delivered", "gave_up"]


class CancelState(BaseModel):
    """What a request to cancel a run could do."""

    state: Annotated[
        Literal["too_late", "not_yet", "stopping", "not_stopped"],
        Field(
            description="`too_late`: the provider cannot stop the run. `not_yet`: it has not acknowledged the start. "
            "`stopping`: it has accepted the request. `not_stopped`: it was asked and has not accepted it."
        ),
    ]
    detail: Annotated[str, Field(description="Explanation for humans; the text may change.")]


class NodeActivity(BaseModel):
    """Status of a node of an unfinished run."""

    status: Literal["queued", "running", "succeeded", "failed", "skipped"]
    at: Annotated[datetime, Field(description="Time at which a poll reported it first.")]


class RunActivity(BaseModel):
    """What an unfinished run does or waits for, as of a second ago."""

    state: Annotated[
        Literal["queued", "starting", "following"],
        Field(description="Nothing was sent; a start is being sent; the provider has the run, which is polled."),
    ]
    waiting_for: Annotated[
        Literal["limit", "breaker", "backoff", "store"] | NotRequired,
        Field(
            description="A limit; a provider whose circuit is open or that is suspended; the next attempt; the store."
        ),
    ] = None
    retrying: Annotated[
        Literal[True] | NotRequired, Field(description="Present if an attempt to start the run has failed.")
    ] = None
    polls: Annotated[int | NotRequired, Field(ge=0, description="Number of polls, at most half a minute ago.")] = None
    next_poll_at: Annotated[
        datetime | NotRequired,
        Field(description="Time of the next poll when `polls` was counted; it may have passed."),
    ] = None
    nodes: Annotated[
        dict[str, NodeActivity] | NotRequired,
        Field(description="Nodes of the workflow, as the provider reports them."),
    ] = None


class RunShown(BaseModel):
    """Current state of a stored run: an asynchronous one, or one with an Idempotency-Key."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "unknown", "not_run"],
        Field(description="Queued, then running, then one of the final states."),
    ]
    workflow: str
    provider: str
    output: Annotated[Any, Field(description="Output of the workflow: any JSON value; null until it has succeeded.")]
    outputs: dict[str, NodeAnswer] | None = None
    warning: str | None
    attempts: Annotated[int, Field(ge=0, description=_ATTEMPTS)]
    provider_run_id: str | None
    metadata: dict[str, str]
    tags: Annotated[list[str] | NotRequired, Field(description=_TAGS)] = None
    replay_of: _ReplayOf = None
    cost: _Cost = None
    created_at: datetime
    finished_at: Annotated[
        datetime | None,
        Field(description="Null with the status `unknown`: the deadline passed, and the run is polled until it ends."),
    ]
    duration_ms: Annotated[int | None, Field(ge=0)]
    error: Annotated[RunError | None, Field(description="Present if the run has ended and did not succeed.")] = None
    callback: Annotated[CallbackState | None, Field(description="Present if the run has a `callback_url`.")] = None
    activity: Annotated[
        RunActivity | NotRequired, Field(description="Present while the run is in progress, from a second on.")
    ] = None
    output_kept: Annotated[
        Literal[False] | NotRequired,
        Field(description="Present if the result was in the response to `POST /run` only, so that `output` is null."),
    ] = None
    content: Annotated[
        Literal["too_large"] | NotRequired,
        Field(description="Present if input and output were to be kept, and were larger than `content.max`."),
    ] = None


class RunNotCancelled(RunShown):
    """A run that was started before the request to cancel it. Its end is recorded, and its callback delivered."""

    cancel: CancelState


class RunListed(BaseModel):
    """State of a stored run in a list: without its output, which `GET /runs/{id}` returns."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    status: Literal["queued", "running", "succeeded", "failed", "unknown", "not_run"]
    workflow: str
    provider: str
    warning: str | None
    attempts: Annotated[int, Field(ge=0, description=_ATTEMPTS)]
    provider_run_id: str | None
    metadata: Annotated[dict[str, str] | None, Field(description="Null if they are larger than 8 kB.")]
    tags: Annotated[list[str] | NotRequired, Field(description=_TAGS)] = None
    replay_of: _ReplayOf = None
    cost: _Cost = None
    created_at: datetime
    finished_at: datetime | None
    duration_ms: Annotated[int | None, Field(ge=0)]
    error: Annotated[RunError | None, Field(description="Present if the run has ended and did not succeed.")] = None
    callback: Annotated[CallbackState | None, Field(description="Present if the run has a `callback_url`.")] = None


class TimelineEvent(BaseModel):
    """An event of a run. Which members it has depends on `event`; later versions may add members and events."""

    at: Annotated[datetime, Field(description="Time at which it happened, or began.")]
    event: Annotated[
        str,
        Field(
            description="`waited`, `called` (the provider), `hinted` (by the provider, to poll), `fell_back` (to "
            "another workflow), `adopted` (by another process), `deadline_passed`, `cancel_requested`, `ended`, "
            "`callback_attempted`."
        ),
    ]
    wait: Annotated[
        str | NotRequired,
        Field(
            serialization_alias="for",
            description="`waited`: for what: `limit`, `breaker`, `backoff`, `store`, as in `RunActivity`.",
        ),
    ] = None
    seconds: Annotated[float | NotRequired, Field(ge=0, description="How long it took.")] = None
    cause: Annotated[str | NotRequired, Field(description="`called`: why there was no usable response.")] = None
    operation: Annotated[str | NotRequired, Field(description="`called`: what was requested, such as `start`.")] = None
    sent: Annotated[
        Literal["yes", "no", "maybe"] | NotRequired, Field(description="`called`: whether the request was sent.")
    ] = None
    status: Annotated[
        int | str | NotRequired,
        Field(description="`called`: HTTP status of the response. `ended`: status of the run."),
    ] = None
    count: Annotated[
        int | NotRequired, Field(ge=2, description="`called`: number of equal calls; `seconds` is their sum.")
    ] = None
    code: Annotated[str | NotRequired, Field(description="`ended`: code of the error.")] = None
    workflow: Annotated[str | NotRequired, Field(description="`fell_back`: the workflow that follows.")] = None
    by: Annotated[
        Literal["operator"] | NotRequired,
        Field(description="`cancel_requested`: an operator asked for it; absent if the client did."),
    ] = None
    provider: Annotated[str | NotRequired, Field(description="`fell_back`: its provider.")] = None
    attempt: Annotated[int | NotRequired, Field(ge=1, description="`callback_attempted`: its number.")] = None
    result: Annotated[
        str | NotRequired, Field(description="`callback_attempted`: status of the response, or why there was none.")
    ] = None


class RunTimeline(BaseModel):
    """What happened to a run."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    events: Annotated[list[TimelineEvent], Field(description="Events in order; of a long run, the first 100 or so.")]


class RunsPage(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunListed]
    next: Annotated[str | None, Field(description="`cursor` of the next page; null on the last page.")]
    complete: Annotated[
        bool,
        Field(
            description=f"False if the search stopped after {MAX_EXAMINED} runs had been examined, before the page was "
            "full: `next` goes on with it."
        ),
    ]


class ProblemPointer(BaseModel):
    """One error in a request."""

    pointer: Annotated[
        str,
        Field(description="JSON pointer (RFC 6901) into the body, empty for all of it; `?name` for a query parameter."),
    ]
    detail: Annotated[str, Field(description="Description of the error, without the value.")]


class ProblemAnswer(BaseModel):
    """Problem document (RFC 9457). `run_id`, `provider` and `attempts` are present if there is a run."""

    type: Annotated[str, Field(pattern="^urn:runward:problem:[a-z_]+$")]
    title: Annotated[str, Field(description="Title of the `code`.")]
    status: Annotated[int, Field(ge=400, le=599)]
    code: Annotated[str, Field(pattern="^[a-z_]+$", description="Error code: the member that clients should evaluate.")]
    detail: Annotated[str, Field(description="Explanation for humans; the text may change.")]
    request_id: Annotated[str, Field(description="Request id, as in X-Request-Id.")]
    retryable: Annotated[
        bool, Field(description="True if the same request may succeed later and cannot cause a second run.")
    ]
    errors: Annotated[
        list[ProblemPointer] | NotRequired, Field(description="Errors in the body or the query string.")
    ] = None
    run_id: Annotated[
        Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")] | NotRequired,
        Field(description="Id of the run."),
    ] = None
    provider: Annotated[str | NotRequired, Field(description="Provider of the last attempt.")] = None
    attempts: Annotated[Annotated[int, Field(ge=0)] | NotRequired, Field(description=_ATTEMPTS)] = None
    provider_run_id: Annotated[
        str | NotRequired, Field(description="The provider's id of the run, to look it up there.")
    ] = None
    outcome: Annotated[
        Literal["failed", "not_run", "unknown"] | NotRequired,
        Field(description="Outcome of the run: with `unknown` it may have been executed, or may still be running."),
    ] = None
    run_status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "not_run", "unknown"] | NotRequired,
        Field(
            description="Status of a run that cannot be cancelled (`run_ended`) or replayed (`run_unfinished`, "
            "`outcome_unknown`, `input_not_kept`)."
        ),
    ] = None
    outputs: Annotated[
        dict[str, NodeAnswer] | None,
        Field(description="Output by node of a failed run, only with `return_all_outputs`; null as in `RunAnswer`."),
    ] = None
