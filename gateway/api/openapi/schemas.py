"""What the answers look like: models that describe them to clients. `wire` writes them; only tests check them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

_NotRequired: TypeAlias = SkipJsonSchema[None]  # the member may be missing, but is never null


class NodeAnswer(BaseModel):
    """One node's output."""

    status: Literal["succeeded", "failed", "skipped"]
    value: Annotated[Any, Field(description="Any JSON: what the node made.")]
    error: Annotated[str | None, Field(description="Why it failed, in one line.")]
    is_output: Annotated[bool, Field(description="Whether it is one of the workflow's output nodes.")]


class RunAnswer(BaseModel):
    """A run that succeeded."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    status: Literal["succeeded"]
    workflow: Annotated[str, Field(description="As the request named it.")]
    provider: Annotated[str, Field(description="Where it ran; after a fallback not the workflow's first.")]
    output: Annotated[Any, Field(description="Any JSON: what the workflow made.")]
    outputs: Annotated[
        dict[str, NodeAnswer] | None,
        Field(description="By node, and only with `return_all_outputs`; null where the provider has no nodes."),
    ] = None
    warning: Annotated[str | None, Field(description="The provider's warning, in one line.")]
    attempts: Annotated[int, Field(ge=1, description="How many starts were sent to a provider.")]
    provider_run_id: Annotated[str | None, Field(description="What the provider calls the run, where it says so.")]
    metadata: dict[str, str]
    created_at: datetime
    finished_at: datetime
    duration_ms: Annotated[int, Field(ge=0)]


class RunError(BaseModel):
    """Why a run did not succeed."""

    code: Annotated[str, Field(pattern="^[a-z_]+$", description="As in the problem that `POST /run` answers.")]
    detail: str | None


class CallbackState(BaseModel):
    """What became of a run's callback."""

    state: Literal["pending", "delivered", "gave_up"]


class RunShown(BaseModel):
    """A run that its client did not wait for, or that has an Idempotency-Key, as it is now."""

    id: Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")]
    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "unknown", "not_run"],
        Field(description="It only moves forward: queued, running, and one of the others."),
    ]
    workflow: str
    provider: str
    output: Annotated[Any, Field(description="Any JSON: what the workflow made; null until it has succeeded.")]
    outputs: dict[str, NodeAnswer] | None = None
    warning: str | None
    attempts: Annotated[int, Field(ge=0)]
    provider_run_id: str | None
    metadata: dict[str, str]
    created_at: datetime
    finished_at: datetime | None
    duration_ms: Annotated[int | None, Field(ge=0)]
    error: Annotated[RunError | None, Field(description="Where it ended and did not succeed.")] = None
    callback: Annotated[CallbackState | None, Field(description="Where it has a callback_url.")] = None


class RunsPage(BaseModel):
    """Runs, newest first."""

    runs: list[RunShown]
    next: Annotated[str | None, Field(description="The `cursor` of the next page; null on the last.")]


class ProblemPointer(BaseModel):
    """One thing that is wrong with a body."""

    pointer: Annotated[str, Field(description="A JSON pointer (RFC 6901); empty for the whole body.")]
    detail: Annotated[str, Field(description="What is wrong there; never the value.")]


class ProblemAnswer(BaseModel):
    """A refusal or fault (RFC 9457). `run_id`, `provider` and `attempts` are there for a run."""

    type: Annotated[str, Field(pattern="^urn:runward:problem:[a-z_]+$")]
    title: Annotated[str, Field(description="The same for every problem with this `code`.")]
    status: Annotated[int, Field(ge=400, le=599)]
    code: Annotated[str, Field(pattern="^[a-z_]+$", description="What to decide by.")]
    detail: Annotated[str, Field(description="For people; its words may change.")]
    request_id: Annotated[str, Field(description="As in X-Request-Id.")]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later, at no double cost.")]
    errors: Annotated[list[ProblemPointer] | _NotRequired, Field(description="What is wrong with the body.")] = None
    run_id: Annotated[
        Annotated[str, Field(pattern="^run_[0-9a-f]{32}$")] | _NotRequired,
        Field(description="The run; it is `id` where a run succeeds."),
    ] = None
    provider: Annotated[str | _NotRequired, Field(description="Where it was tried last.")] = None
    attempts: Annotated[
        Annotated[int, Field(ge=0)] | _NotRequired, Field(description="How many starts were sent to a provider.")
    ] = None
    provider_run_id: Annotated[
        str | _NotRequired, Field(description="What the provider calls it, to look for it there.")
    ] = None
    outcome: Annotated[
        Literal["failed", "not_run", "unknown"] | _NotRequired,
        Field(description="What became of the run: `unknown` may have run, and may still be running."),
    ] = None
    outputs: Annotated[
        dict[str, NodeAnswer] | None,
        Field(description="By node, of a run that failed, and only with `return_all_outputs`; null as in `RunAnswer`."),
    ] = None
