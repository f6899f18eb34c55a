"""Operations of the console: its page, and what only it shows (`gateway.api.admin.overview`, `configured`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.admin.openapi.providers import ProviderShown
from gateway.api.admin.overview import DEFAULT_WINDOW, WINDOWS
from gateway.api.openapi.list_parameters import query_parameter
from gateway.api.openapi.responses import OpenApiNode

_PAGE: OpenApiNode = {"text/html": {"schema": {"type": "string"}}}
_EVENTS: OpenApiNode = {"text/event-stream": {"schema": {"type": "string"}}}
_STREAM = """\
An event `tick` each second: `{"at", "runs_per_second", "in_flight", "outcomes", "attention"}`, with the runs that ended
in the last second by outcome, the rate of the last five seconds, and the number of items that need attention (null if
it is not known yet). An event `runs` when runs were created or have ended: `{"runs", "more"}`, with at most 50 as in
`GET /api/runs`. At most 100 streams are open at once; one whose client does not read for ten seconds is ended."""
_WINDOW = query_parameter(
    "window", {"type": "string", "enum": [*WINDOWS], "default": DEFAULT_WINDOW}, "Length of the time that is shown."
)
_WINDOW_SECONDS = Field(description="Seconds that the figures cover: 900 to 960, less after a start.")


class OverviewSeries(BaseModel):
    """Lists of the same length, with a value for each step. After a start there are fewer, and the first is shorter."""

    at: Annotated[list[float], Field(description="End of each step, in seconds since 1970.")]
    succeeded: list[int]
    failed: list[int]
    unknown: list[int]
    not_run: list[int]
    p50_ms: Annotated[list[float | None], Field(description="Interpolated in the buckets of the histogram.")]
    p95_ms: list[float | None]
    p99_ms: list[float | None]
    overhead_p95_ms: list[float | None]
    in_flight: Annotated[list[int], Field(description="The most requests in flight that a sample saw.")]


class OverviewTotals(BaseModel):
    """The whole window."""

    runs: int
    succeeded: int
    failed: int
    unknown: int
    not_run: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class StoreState(BaseModel):
    """State of the store, as the metrics have it; false if it is not known."""

    available: bool
    durable: bool


class GatewayShown(BaseModel):
    """The replica that answers."""

    version: str
    started_at: datetime | None
    last_reload_at: datetime | None
    last_reload_ok: bool
    draining: bool
    workers: int


class Overview(BaseModel):
    """Figures of the replica that answers, all of its workers together, from samples in memory."""

    at: datetime
    window_seconds: int
    step_seconds: int
    series: OverviewSeries
    totals: OverviewTotals
    store: StoreState
    gateway: GatewayShown


class ProviderFigures(ProviderShown):
    """A provider as in `GET /providers`, with figures."""

    runs: Annotated[int, Field(description="Runs that ended.")]
    starts: Annotated[int, Field(description="Start requests.")]
    errors: Annotated[int, Field(description="Start requests that were not answered as they should be.")]
    error_share: float
    p95_ms: Annotated[float | None, Field(description="Duration of runs.")]
    in_flight: Annotated[int, Field(description="Runs in progress there now: being started, or started.")]
    polls_per_run: float | None
    hint_share: Annotated[
        float | None, Field(description="Share of polls that a hint has triggered; null with several polled providers.")
    ]


class ProviderFiguresList(BaseModel):
    """The providers, by name."""

    providers: list[ProviderFigures]
    window_seconds: Annotated[int, _WINDOW_SECONDS]


class ClientKeyShown(BaseModel):
    """A key of a client, without its hash."""

    name: str | None
    expires: datetime | None


class ClientShown(BaseModel):
    """A configured client."""

    client: str
    team: str | None
    workflows: Annotated[list[str], Field(description="Its scope.")]
    limits: Annotated[
        dict[Literal["rate", "burst", "concurrency", "daily"], str | int], Field(description="Those that are set.")
    ]
    keys: list[ClientKeyShown]
    runs: Annotated[int, Field(description="Runs that ended.")]
    refused: Annotated[int, Field(description="Requests that were answered with 403, 429 or 503.")]


class ClientsList(BaseModel):
    """The clients, by name."""

    clients: list[ClientShown]
    window_seconds: Annotated[int, _WINDOW_SECONDS]


class WorkflowShown(BaseModel):
    """A configured workflow."""

    workflow: str
    provider: str
    name: Annotated[str, Field(description="Its name at the provider.")]
    fallback: list[str]
    label: str | None
    version: int | str | None
    timeout: Annotated[float, Field(description="Seconds.")]
    p95_ms: Annotated[float | None, Field(description="Duration of runs.")]
    runs: Annotated[int, Field(description="Runs that ended.")]


class WorkflowsList(BaseModel):
    """The workflows, by alias."""

    workflows: list[WorkflowShown]
    window_seconds: Annotated[int, _WINDOW_SECONDS]


GROUP = OperationGroup(
    "Console",
    "The console for operators.",
    (
        Operation(
            "GET",
            "/console",
            "console",
            "The console",
            {200: Answer("The page; it asks for a key where one is required.", _PAGE)},
            requires_key=False,
        ),
        Operation(
            "GET",
            "/api/overview",
            "showOverview",
            "Show runs and durations over time",
            {200: Answer("The figures.", Overview)},
            description="Samples are taken every 5 seconds and kept for 6 hours, until the process ends.",
            parameters=(_WINDOW,),
            codes=("invalid_request",),
        ),
        Operation(
            "GET",
            "/api/providers",
            "listProviderFigures",
            "List the providers with figures",
            {200: Answer("The providers.", ProviderFiguresList)},
            codes=("store_unavailable",),
        ),
        Operation(
            "GET",
            "/api/clients",
            "listClients",
            "List the clients with figures",
            {200: Answer("The clients.", ClientsList)},
        ),
        Operation(
            "GET",
            "/api/workflows",
            "listWorkflows",
            "List the workflows with figures",
            {200: Answer("The workflows.", WorkflowsList)},
        ),
        Operation(
            "GET",
            "/api/stream",
            "stream",
            "Follow the gateway",
            {200: Answer("Server-sent events, for ten minutes; then the client connects again.", _EVENTS)},
            description=_STREAM,
            codes=("overloaded",),
        ),
    ),
)
