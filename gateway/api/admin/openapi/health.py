"""Operations of `gateway.api.admin.health`, and of the supervisor in its place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.openapi.component_schemas import NotRequired
from gateway.api.openapi.responses import OpenApiNode


class Alive(BaseModel):
    """The process responds."""

    status: Literal["alive"]


class NotAlive(BaseModel):
    """The supervisor responds, but no worker does."""

    status: Literal["no worker responds"]


class Ready(BaseModel):
    """Requests are accepted."""

    status: Literal["ready"]
    store: Annotated[
        Literal["unavailable"] | NotRequired,
        Field(description="Present while the store fails: runs that must be stored are refused."),
    ] = None


class NotReady(BaseModel):
    """Requests should go to other replicas."""

    status: Literal["draining", "too few workers"]


_TEXT: OpenApiNode = {"schema": {"type": "string"}}

GROUP = OperationGroup(
    "Health",
    "Liveness and readiness, for probes and load balancers, and metrics.",
    (
        Operation(
            "GET",
            "/healthz",
            "healthz",
            "Liveness",
            {
                200: Answer("The process is alive; with `--workers`, at least one worker is.", Alive),
                503: Answer("With `--workers`: no worker responds.", NotAlive, ("Retry-After",)),
            },
            requires_key=False,
        ),
        Operation(
            "GET",
            "/readyz",
            "readyz",
            "Readiness",
            {
                200: Answer("The replica accepts requests; with `--workers`, at least half of the workers do.", Ready),
                503: Answer("The replica is shutting down, or has too few workers.", NotReady, ("Retry-After",)),
            },
            requires_key=False,
        ),
        Operation(
            "GET",
            "/metrics",
            "metrics",
            "Metrics",
            {
                200: Answer(
                    "Metrics of the replica, those of all its workers together.",
                    {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
                )
            },
            description="As OpenMetrics if `Accept` prefers it, else in Prometheus' text format.",
        ),
    ),
)
