"""Successful responses of both providers, as documented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tests.support.fake_upstream.responses import FakeResponse, reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.contract import JsonValue

STUDIO_RUN = "/v1/workflows/dep_test/run"
LAYER_RUN = "/workflows/layer-test/run"
LAYER_RESULTS = "/workflow-version-execution-results"

NodeStatus = Literal["QUEUED", "RUNNING", "SUCCESS", "FAILED", "SKIPPED"]


def prompt_studio_reply(result: JsonValue) -> FakeResponse:
    """Return the response of a finished run."""
    return reply(200, {"result": result})


def promptlayer_started(execution_id: int) -> FakeResponse:
    """Return the response of a created run."""
    return reply(
        201,
        {
            "success": True,
            "message": "Workflow execution created successfully",
            "warning": None,
            "workflow_version_execution_id": execution_id,
        },
    )


def node(
    value: JsonValue, status: NodeStatus = "SUCCESS", *, error: str | None = None, is_output: bool = True
) -> dict[str, JsonValue]:
    """Return one node of the results of a run."""
    return {
        "status": status,
        "value": value,
        "error_message": error,
        "raw_error_message": error,
        "is_output_node": is_output,
    }


def promptlayer_running() -> FakeResponse:
    """Return the results of a run in progress."""
    return reply(202, {"Answer": node(None, "RUNNING")})


def promptlayer_done(nodes: Mapping[str, JsonValue]) -> FakeResponse:
    """Return the results of a run that ended; `nodes` as made by `node`. A failed run is a 200 as well."""
    return reply(200, dict(nodes))
