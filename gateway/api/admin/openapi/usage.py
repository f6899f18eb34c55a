"""Operations of `gateway.api.admin.usage`."""

from __future__ import annotations

from gateway.api.admin.openapi.operations import Answer, Operation, OperationGroup
from gateway.api.openapi.usage_schemas import CSV_CONTENT, UsageReport, usage_description, usage_parameters
from gateway.api.usage_query import MAX_DAYS

GROUP = OperationGroup(
    "Usage",
    "Runs of all clients by day, and what they cost.",
    (
        Operation(
            "GET",
            "/api/usage",
            "showUsage",
            "Sum up runs and amounts",
            {200: Answer("The report.", UsageReport, also=CSV_CONTENT)},
            description=usage_description("Runs that were created on the days from `from` to `to`, in UTC."),
            parameters=usage_parameters(days=MAX_DAYS, clients=True),
            codes=("invalid_request", "store_unavailable"),
        ),
    ),
)
