"""Records of runs: what a client sees of a timeline, and the activity of a run in progress."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from openapi_schema_validator import OAS31Validator

from gateway.api.docs.document import openapi_document
from gateway.runs.record_rendering import client_timeline, operator_view
from gateway.runs.rendering import run_list_item, unfinished_run_view
from gateway.runs.timeline import encode_event
from gateway.store.records import Phase
from tests.store.samples import NOW, SAMPLE_RUN


def test_a_client_sees_no_internals_and_no_unknown_events() -> None:
    """Neither the names of processes nor the connections of the gateway."""
    lines = (
        encode_event(NOW, "adopted", "owner-1")
        + encode_event(NOW + 1, "called", "poll", 200, None, "yes", 0.5, True, 3)
        + b'[[1795000002,"newer","secret"]]\n'
        + b'[[1795000003,"ended","failed","internal","added later"]]\n'
    )
    called = {"event": "called", "operation": "poll", "status": 200, "sent": "yes", "seconds": 0.5, "count": 3}
    assert {
        "id": "run_1",
        "events": [
            {"event": "adopted", "at": "2026-11-18T11:06:40.250Z"},
            {**called, "at": "2026-11-18T11:06:41.250Z"},
            {"event": "ended", "status": "failed", "code": "internal", "at": "2026-11-18T11:06:43.000Z"},
        ],
    } == orjson.loads(client_timeline("run_1", lines))


def test_a_timeline_may_be_empty() -> None:
    assert {"id": "run_1", "events": []} == orjson.loads(client_timeline("run_1", b""))


ACTIVITY = {
    "state": "following",
    "polls": 2,
    "next_poll_at": NOW + 3,
    "nodes": {"first": {"status": "running", "at": NOW}},
}


def test_a_run_in_progress_is_shown_with_its_activity() -> None:
    """Its times as RFC 3339. Lists are without it."""
    run = replace(SAMPLE_RUN, phase=Phase.FOLLOWING, status="running", activity=orjson.dumps(ACTIVITY)).overview
    shown = {
        "state": "following",
        "polls": 2,
        "next_poll_at": "2026-11-18T11:06:43.250Z",
        "nodes": {"first": {"status": "running", "at": "2026-11-18T11:06:40.250Z"}},
    }
    assert shown == orjson.loads(unfinished_run_view(run, {"metadata": {}}))["activity"]
    assert shown == operator_view(run)["activity"]
    assert "activity" not in orjson.loads(run_list_item(run))


def test_what_clients_get_fits_the_document() -> None:
    """A run with its activity, and a timeline."""
    run = replace(
        SAMPLE_RUN, id="run_" + 32 * "0", activity=orjson.dumps(ACTIVITY | {"waiting_for": "backoff"})
    ).overview
    lines = encode_event(NOW, "waited", "limit", 1.5) + encode_event(NOW, "ended", "succeeded", None)
    spec = orjson.loads(orjson.dumps(openapi_document()))
    for name, view in (
        ("RunShown", unfinished_run_view(run, {"metadata": {}})),
        ("RunTimeline", client_timeline(run.id, lines)),
    ):
        validator = OAS31Validator({**spec, "$ref": f"#/components/schemas/{name}"})
        assert [] == [error.message for error in validator.iter_errors(orjson.loads(view))]


@pytest.mark.parametrize("activity", [None, b"", b"{", b"[]"])
def test_without_a_readable_activity_there_is_none(activity: bytes | None) -> None:
    run = replace(SAMPLE_RUN, activity=activity).overview
    assert "activity" not in orjson.loads(unfinished_run_view(run, {"metadata": {}}))
    assert operator_view(run)["activity"] is None


def test_a_run_that_an_earlier_version_wrote_is_shown_without_reading_it() -> None:
    """What was not recorded is null; the duration is that of its end."""
    run = replace(SAMPLE_RUN, phase=Phase.DONE, status="succeeded", finished_at=NOW + 2, document=b"{}").overview
    shown = operator_view(run)
    assert (2000, None, None, {}) == (shown["duration_ms"], shown["api"], shown["metadata"], shown["waits"])
    assert ("2026-11-18T11:06:42.250Z", True) == (shown["finished_at"], shown["kept"])
