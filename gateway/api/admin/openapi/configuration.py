"""Operations of `gateway.api.admin.configuration`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from gateway.api.admin.configuration import MAX_VALUES
from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup

_Scalar: TypeAlias = str | int | float | bool | None


class ConfiguredValue(BaseModel):
    """A value of the settings in use."""

    path: Annotated[str, Field(description="Names with dots, as in `server.port`.")]
    value: Annotated[_Scalar | list[_Scalar], Field(description="Null also if it is hidden. Durations: seconds.")]
    hidden: Annotated[bool, Field(description="It is set, and not told: a secret, a hash, an option of an adapter.")]
    source: Annotated[
        Literal["configuration", "default"],
        Field(description="`configuration`: from the file, the environment or a secret file."),
    ]


class ConfigurationShown(BaseModel):
    """The configuration in use."""

    values: Annotated[list[ConfiguredValue], Field(max_length=MAX_VALUES)]
    truncated: bool
    last_reload_at: Annotated[datetime | None, Field(description="When the configuration in use was loaded.")]
    last_reload_ok: Annotated[bool, Field(description="False: what is on disk was refused, and is not in use.")]


GROUP = OperationGroup(
    "Configuration",
    "The configuration in use.",
    (
        Operation(
            "GET",
            "/api/configuration",
            "showConfiguration",
            "Show the configuration in use",
            {200: Answer("Every value, without secrets.", ConfigurationShown)},
        ),
    ),
)
