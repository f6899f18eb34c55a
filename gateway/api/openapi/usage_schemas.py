"""Parameters and response of a report on usage in the OpenAPI documents of both ports."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from gateway.api.openapi.component_schemas import NotRequired
from gateway.api.openapi.list_parameters import TEXT, query_parameter
from gateway.api.openapi.responses import OpenApiNode
from gateway.api.usage_query import DAY_PATTERN, FORMATS
from gateway.runs.usage_report import CERTAINTIES, OUTCOMES, PERIODS, VALUES
from gateway.store.usage import MAX_ROWS, OTHERS

AMOUNT_PATTERN = r"^-?[0-9]+(\.[0-9]{1,6})?$"
"""Of an amount that may be any sum."""
_GROUP_BY = "Names of " + ", ".join((*PERIODS, *VALUES)) + ", with commas; `day` by default, all in one if empty."
_NOTE = (
    f"\n\nOf a day, the first {MAX_ROWS} combinations are counted apart; `{OTHERS}` stands for the workflows, keys and "
    "tags of the rest."
)


class UsageSums(BaseModel):
    """Runs and amounts, as decimal numbers in the unit of the prices."""

    runs: Annotated[int, Field(ge=0, description="Runs that have ended.")]
    spent: Annotated[str, Field(pattern=AMOUNT_PATTERN, description="What was paid.")]
    unknown: Annotated[str, Field(pattern=AMOUNT_PATTERN, description="What may have been paid.")]


class UsageGroup(UsageSums):
    """A row of a report; it has the members of `group_by`."""

    day: Annotated[date | NotRequired, Field(description="UTC day on which the runs were created.")] = None
    week: Annotated[str | NotRequired, Field(pattern="^[0-9]{4}-W[0-9]{2}$", description="Week as in ISO 8601.")] = None
    month: Annotated[str | NotRequired, Field(pattern="^[0-9]{4}-[0-9]{2}$")] = None
    client: Annotated[str | NotRequired, Field()] = None
    team: Annotated[str | NotRequired, Field(description="Empty if the client has none.")] = None
    key: Annotated[str | NotRequired, Field(description="Id of the key; empty for keys of the configuration.")] = None
    workflow: Annotated[str | NotRequired, Field()] = None
    provider: Annotated[str | NotRequired, Field()] = None
    api: Annotated[str | NotRequired, Field(description="API that the client used.")] = None
    outcome: Annotated[Literal["succeeded", "failed", "unknown", "not_run"] | NotRequired, Field()] = None
    certainty: Annotated[
        Literal["none", "spent", "unknown"] | NotRequired,
        Field(description="Of runs by their outcome; of amounts, whether they were paid for certain."),
    ] = None
    tag: Annotated[str | NotRequired, Field()] = None


class UsageReport(BaseModel):
    """Usage in groups, in ascending order."""

    first: Annotated[date, Field(serialization_alias="from", description="First day.")]
    to: Annotated[date, Field(description="Last day.")]
    currency: Annotated[str, Field(description="Unit of the amounts: `usage.currency` of the configuration.")]
    group_by: list[str]
    rows: list[UsageGroup]
    total: Annotated[
        UsageSums, Field(description="Sum of the rows. Grouped by tag, a run counts once for each of its tags.")
    ]


CSV_CONTENT: OpenApiNode = {"text/csv": {"schema": {"type": "string"}}}
"""Content of the response as CSV, by media type."""


def usage_description(text: str) -> str:
    """Return the description of the operation, which begins with `text`."""
    return f"{text} Amounts are of the prices that the configuration declares.{_NOTE}"


def usage_parameters(*, days: int, clients: bool) -> tuple[OpenApiNode, ...]:
    """Return the parameters. `days`: the longest range; `clients`: whether there is more than one client."""
    values = {name: TEXT for name in VALUES if clients or name != "client"}
    values |= {"team": {"type": "string"}, "key": {"type": "string"}}
    values |= {"outcome": _choice(OUTCOMES), "certainty": _choice(CERTAINTIES)}
    day: OpenApiNode = {"type": "string", "format": "date", "pattern": DAY_PATTERN}
    return (
        query_parameter("from", day, f"First UTC day; 29 days before `to` by default. At most {days} days."),
        query_parameter("to", day, "Last UTC day, included; today by default."),
        query_parameter("group_by", {"type": "string"}, _GROUP_BY),
        query_parameter("format", _choice(FORMATS), "CSV also by `Accept: text/csv`."),
        *(
            query_parameter(name, {"type": "array", "items": schema}, _description(name))
            for name, schema in values.items()
        ),
    )


def _choice(values: tuple[str, ...]) -> OpenApiNode:
    return {"type": "string", "enum": list(values)}


def _description(name: str) -> str:
    if name == "tag":
        return "Runs with one of these tags. Not with key, workflow, provider and api."
    return f"Runs with one of these values of `{name}`."
