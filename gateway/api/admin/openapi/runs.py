"""Operations of `gateway.api.admin.runs`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from gateway.api.admin.openapi.cancellation import OPERATION as CANCEL_RUN
from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup, path_parameter
from gateway.api.admin.run_search import APIS, BOOLEANS, CAUSES, OUTCOMES
from gateway.api.openapi.component_schemas import NotRequired
from gateway.api.openapi.list_parameters import TEXT, list_parameters, query_parameter
from gateway.api.openapi.response_schemas import RunActivity, RunListed, RunsPage, TimelineEvent
from gateway.api.openapi.responses import OpenApiNode


class OperatorRun(RunListed):
    """A run of any client, without input and output. What an earlier version did not record is null."""

    client: str
    api: Annotated[
        Literal["run", "promptlayer", "prompt_studio"] | None,
        Field(description="API that the client used: Runward's own, or that of a provider."),
    ]
    label: Annotated[str | None, Field(description="Release label that was requested.")]
    version: Annotated[int | None, Field(description="Version that was requested.")]
    team: Annotated[str | None, Field(description="Team of the client when it asked for the run.")]
    key: Annotated[str | None, Field(description="Id of the client's key, if it is in the store.")]
    price: Annotated[str | None, Field(description="Declared price of a start on the last workflow; null without one.")]
    waits: Annotated[dict[str, float], Field(description="After the end: seconds that the run waited, by cause.")]
    activity: Annotated[RunActivity | None, Field(description="Null once the run has ended, and in its first second.")]
    kept: Annotated[bool, Field(description="Whether the store has the run's input and, after its end, its output.")]
    judgement: Annotated[
        dict[str, Any] | None, Field(description="What an operator has found out about a run that ended as `unknown`.")
    ]


class OperatorTimelineEvent(TimelineEvent):
    """An event of a run, with values that clients do not see."""

    owner: Annotated[str | NotRequired, Field(description="`adopted`: the process that has adopted the run.")] = None
    actor: Annotated[
        str | NotRequired, Field(description="`cancel_requested`: name of the operator, if it is known.")
    ] = None
    connection_reused: Annotated[
        bool | NotRequired, Field(description="`called`: whether the connection had served a call before.")
    ] = None


class OperatorRunShown(OperatorRun):
    """A run of any client, and what happened to it."""

    timeline: Annotated[list[OperatorTimelineEvent], Field(description="Events in order.")]


class OperatorRunsPage(RunsPage):
    """A page of runs of all clients, newest first."""

    runs: list[OperatorRun]  # type: ignore[assignment]
    read_at: Annotated[datetime, Field(description="Time of the gateway before the search.")]


def _choice(values: tuple[str, ...]) -> OpenApiNode:
    return {"type": "string", "enum": list(values)}


_PARAMETERS = (
    query_parameter("client", TEXT, "Name of the client."),
    query_parameter("team", TEXT, "Team of the client when it asked for the run."),
    query_parameter("key", TEXT, "Id of the client's key, if it is in the store."),
    query_parameter("outcome", _choice(OUTCOMES), "Another name of `status`."),
    query_parameter("api", _choice(APIS), "API that the client used."),
    query_parameter("waiting_for", _choice(CAUSES), "What the unfinished run waits for."),
    query_parameter("retrying", _choice(BOOLEANS[:1]), "An attempt to start the unfinished run has failed."),
    query_parameter("kept", _choice(BOOLEANS), "Whether the store has the run's input and output."),
    query_parameter("judged", _choice(BOOLEANS), "Whether an operator has judged the run."),
    query_parameter("idempotency_key", TEXT, "Idempotency-Key of the run; with `client`."),
)

GROUP = OperationGroup(
    "Runs",
    "Runs of all clients, without input and output; for a viewer of a team, its runs.",
    (
        Operation(
            "GET",
            "/api/runs",
            "listRuns",
            "List and search runs, newest first",
            {200: Answer("A page of runs.", OperatorRunsPage)},
            description="They meet all conditions.",
            parameters=(*list_parameters(), *_PARAMETERS),
            codes=("invalid_request", "store_unavailable"),
        ),
        Operation(
            "GET",
            "/api/runs/{id}",
            "showRun",
            "Look up a run and its timeline",
            {200: Answer("The run.", OperatorRunShown)},
            parameters=(path_parameter("id", "Id of the run."),),
            codes=("not_found", "store_unavailable"),
        ),
        CANCEL_RUN,
    ),
)
