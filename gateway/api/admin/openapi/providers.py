"""Operations of `gateway.api.admin.providers`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup, path_parameter
from gateway.api.admin.providers import OverrideRequest


class ProviderShown(BaseModel):
    """A provider: its override, and its circuits."""

    provider: str
    mode: Annotated[
        str,
        Field(description="`suspended`, `open` or `closed` by an override; `auto` without one: the circuits decide."),
    ]
    note: Annotated[str, Field(description="Note of the override; empty without one.")]
    since: Annotated[datetime | None, Field(description="Time at which the mode was set; null without an override.")]
    circuits: Annotated[
        dict[str, Literal["closed", "half_open", "open"]],
        Field(description="Circuits by workflow, of the replica that answers."),
    ]
    can_stop_runs: Annotated[
        bool | None,
        Field(description="Whether the provider can stop a started run; null for one that is not configured."),
    ]


class ProvidersList(BaseModel):
    """The configured providers, and others that have an override, by name."""

    providers: list[ProviderShown]


GROUP = OperationGroup(
    "Providers",
    "Providers, and what operators have set for their starts.",
    (
        Operation(
            "GET",
            "/providers",
            "listProviders",
            "List the providers",
            {200: Answer("The providers.", ProvidersList)},
            codes=("store_unavailable",),
        ),
        Operation(
            "POST",
            "/providers/override/{id}",
            "overrideProvider",
            "Set the mode of a provider",
            {200: Answer("The provider; the mode is stored for all replicas.", ProviderShown)},
            description="`suspended`: no start; runs in the background without a fallback wait. `open`: no start, "
            "as with open circuits. "
            "`closed`: no circuit refuses a start. `auto`: the override is removed. A repetition changes nothing.",
            parameters=(path_parameter("id", "Name of the provider."),),
            body=OverrideRequest,
            codes=(
                "malformed_json",
                "forbidden",
                "provider_not_found",
                "request_timeout",
                "payload_too_large",
                "unsupported_media_type",
                "invalid_request",
                "store_unavailable",
            ),
        ),
    ),
)
