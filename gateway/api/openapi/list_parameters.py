"""Parameters of a list of runs in the OpenAPI documents. `api.run_search` reads them; tests send what they allow."""

from __future__ import annotations

from gateway.api import run_search
from gateway.api.openapi.responses import OpenApiNode
from gateway.api.run_request import MAX_TAGS, TAG_PATTERN
from gateway.problems import PROBLEMS

TEXT: OpenApiNode = {"type": "string", "minLength": 1, "maxLength": run_search.MAX_TEXT}
_TIME: OpenApiNode = {"type": "string", "format": "date-time"}
_SECONDS: OpenApiNode = {"type": "string", "pattern": run_search.SECONDS_PATTERN}


def query_parameter(name: str, schema: OpenApiNode, description: str = "") -> OpenApiNode:
    """Return an optional parameter of the query string."""
    described = {"description": description} if description else {}
    return {"name": name, "in": "query", "required": False, "schema": schema, **described}


def list_parameters() -> tuple[OpenApiNode, ...]:
    """Return the page and the conditions of a list."""
    limit: OpenApiNode = {"type": "integer", "minimum": 1, "maximum": run_search.MAX_LIMIT, "default": 50}
    return (
        query_parameter("limit", limit),
        query_parameter("cursor", {"type": "string"}, "`next` of the page before, with the same conditions."),
        query_parameter("status", {"type": "string", "enum": list(run_search.STATUSES)}),
        query_parameter("workflow", TEXT),
        query_parameter("provider", TEXT, "Provider that executed the run, or executes it."),
        query_parameter("provider_run_id", TEXT, "The provider's id of the run."),
        query_parameter("code", {"type": "string", "enum": list(PROBLEMS)}, "Code of the error of the run."),
        query_parameter(
            "tag",
            {"type": "array", "items": {"type": "string", "pattern": TAG_PATTERN}, "maxItems": MAX_TAGS},
            "A tag of the run; given more than once, the run has all of them.",
        ),
        _metadata_parameter(),
        query_parameter("id", {"type": "string", "pattern": run_search.ID_PATTERN}, "The beginning of the id."),
        query_parameter(
            "replay_of", {"type": "string", "pattern": run_search.WHOLE_ID_PATTERN}, "The run is a replay of this one."
        ),
        query_parameter("created_after", _TIME, "The run was created at this time or later."),
        query_parameter("created_before", _TIME, "The run was created before this time."),
        query_parameter("min_duration", _SECONDS, "Seconds from the creation of the run to its end, or more."),
        query_parameter("max_duration", _SECONDS, "Seconds from the creation of the run to its end, or less."),
    )


def _metadata_parameter() -> OpenApiNode:
    schema: OpenApiNode = {
        "type": "object",
        "propertyNames": {"pattern": r"^meta\..+$"},
        "additionalProperties": {"type": "string"},
        "maxProperties": run_search.MAX_METADATA,
    }
    return {
        "name": "metadata",
        "in": "query",
        "required": False,
        "style": "form",
        "explode": True,
        "schema": schema,
        "description": "`meta.NAME=value`: the metadata of the run have this value. Metadata of more than 8 kB are not "
        "searched.",
    }
