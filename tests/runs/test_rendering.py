"""Rendering of runs: every document conforms to the published models."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.api.openapi.response_schemas import ProblemAnswer, RunAnswer, RunShown, RunsPage
from gateway.errors import CircuitOpen, RunError
from gateway.http.problem_mapping import final_response
from gateway.problems import PROBLEMS
from gateway.runs import rendering
from gateway.runs.durable.codec import encode_details, encode_run
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.records import PENDING, Phase, StoredRun
from providers.contract import Cause, JsonValue, Reply
from tests.runs.executor_harness import ENDED, RUNNING, STARTED, ExecutorHarness, ScriptStep, fault
from tests.runs.views import finished_document, stored_run_view
from tests.support.clock import ManualClock

CALLBACK_URL = "https://hooks.example.com/here"
FAILED_NODE: dict[str, JsonValue] = {"status": "FAILED", "value": None, "error_message": "no", "is_output_node": True}
ENDINGS: dict[str, tuple[ScriptStep, ...]] = {
    "succeeded": (STARTED, RUNNING, ENDED),
    "failed": (STARTED, Reply(200, {"Answer": FAILED_NODE})),
    "unknown": (fault(Cause.DISCONNECTED),),
    "not_run": (Reply(422, {"message": "no"}),),
}


def new_stored_run(**fields: Any) -> StoredRun:
    """Return a new run as stored."""
    spec = RunSpec(client="one", workflow="w", timeout=60.0, metadata={"team": "a"}, synchronous=False)
    run = RunRecord.create(spec, "layer", ManualClock())
    return replace(encode_run(run, owner="me", leased_until_at=0.0, callback_url=None), **fields)


async def finished_run(status: str, **order: Any) -> tuple[RunRecord, RunError | None]:
    """Return a run with this end."""
    harness = ExecutorHarness()
    record, problem = await harness.run(harness.layer(*ENDINGS[status]), harness.new_run(**order))
    assert status == record.status
    return record, problem


def validated(model: type[BaseModel], document: bytes) -> dict[str, JsonValue]:
    """Validate the document against its model, without additional members; returns it."""
    strict = type("Strict", (model,), {}, extra="forbid")
    assert issubclass(strict, BaseModel)
    strict.model_validate_json(document)
    members = json.loads(document)
    assert isinstance(members, dict)
    return members


@pytest.mark.parametrize(
    "run",
    [
        new_stored_run(),
        new_stored_run(phase=Phase.SENDING, status="running", attempts=1),
        new_stored_run(phase=Phase.FOLLOWING, status="running", attempts=1, provider_run_id="787"),
    ],
    ids=["queued", "sending", "following"],
)
def test_a_run_that_goes_on(run: StoredRun) -> None:
    """R46: the members of a finished run, with null for unknown ones."""
    shown = validated(RunShown, stored_run_view(run))
    assert (run.status, run.attempts, run.provider_run_id) == (
        shown["status"], shown["attempts"], shown["provider_run_id"]
    )  # fmt: skip
    assert ({"team": "a"}, None, None) == (shown["metadata"], shown["finished_at"], shown["output"])
    assert "callback" not in shown


@pytest.mark.parametrize("state", [None, PENDING, "delivered", "gave_up"])
@pytest.mark.parametrize("document", [None, "succeeded"])
async def test_a_run_shows_the_state_of_its_callback(state: str | None, document: str | None) -> None:
    """R55: pending from the start."""
    finished = None if document is None else finished_document(*await finished_run(document))
    shown = validated(
        RunShown,
        stored_run_view(new_stored_run(callback_url=CALLBACK_URL, callback_state=state, document=finished)),
    )
    assert {"state": state or "pending"} == shown["callback"]


@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("all_outputs", [True, False])
async def test_a_run_that_ended(status: str, all_outputs: bool) -> None:  # noqa: FBT001 - a value
    """An error has the code of the problem that a waiting client gets."""
    record, problem = await finished_run(status, return_all_outputs=all_outputs, metadata={"a": "b"}, tags=("t",))
    shown = validated(RunShown, stored_run_view(new_stored_run(document=finished_document(record, problem))))
    assert (record.id, status, record.attempts, {"a": "b"}) == (
        shown["id"], shown["status"], shown["attempts"], shown["metadata"]
    )  # fmt: skip
    error = shown.get("error")
    assert (problem and problem.code) == (error["code"] if isinstance(error, dict) else None)
    assert ["t"] == shown["tags"]
    assert all_outputs == ("outputs" in shown)
    assert shown["finished_at"] is not None


@pytest.mark.parametrize("status", ENDINGS)
async def test_the_answer_stored_for_an_idempotency_key(status: str) -> None:
    """R37: the document of a 200, or the problem."""
    record, problem = await finished_run(status)
    answer = final_response(record, problem, "req_1")
    if problem is None:
        assert (200, rendering.JSON_CONTENT_TYPE) == (answer.status, dict(answer.headers)["Content-Type"])
        assert record.id == validated(RunAnswer, answer.body)["id"]
    else:
        assert (PROBLEMS[problem.code].status, "application/problem+json") == (
            answer.status,
            dict(answer.headers)["Content-Type"],
        )
        told = validated(ProblemAnswer, answer.body)
        assert (record.id, status, "req_1") == (told["run_id"], told["outcome"], told["request_id"])


def test_a_retry_after_is_whole_seconds_and_never_too_short() -> None:
    """RFC 9110, 10.2.3."""
    run = RunRecord.create(RunSpec(client="one", workflow="w", timeout=60.0), "layer", ManualClock())
    answer = final_response(run, CircuitOpen(retry_after=1.2, headers=(("X-Own", "1"),)), "")
    assert {"Retry-After": "2", "X-Own": "1", "Content-Type": "application/problem+json"} == dict(answer.headers)


def test_a_202_is_the_same_at_every_phase_of_its_run() -> None:
    """R37: byte for byte, also while a fallback executes it."""
    first = new_stored_run()
    later = replace(first, phase=Phase.DONE, status="succeeded", attempts=3, provider="other", provider_run_id="9")
    assert stored_run_view(first) == rendering.render_accepted(later).body
    assert rendering.render_accepted(first) == rendering.render_accepted(later)
    assert (202, f"/runs/{first.id}") == (
        rendering.render_accepted(later).status,
        dict(rendering.render_accepted(later).headers)["Location"],
    )
    assert "layer" == rendering.requested_provider(later)


def test_a_stored_run_says_whether_it_is_synchronous() -> None:
    """Repeated requests with a key are answered in the mode of the first one."""
    assert not rendering.is_synchronous(new_stored_run())
    order = RunSpec(client="one", workflow="w", timeout=60.0)
    run = RunRecord.create(order, "layer", ManualClock())
    assert rendering.is_synchronous(encode_run(run, owner="me", leased_until_at=0.0, callback_url=None))


@pytest.mark.parametrize("order", [b"\xff", b"[]", b'{"odd":1}'])
def test_a_run_with_an_unreadable_spec_can_be_shown(order: bytes) -> None:
    """Stored by another version: the other fields are shown."""
    run = replace(new_stored_run(), order=order)
    assert run.id == validated(RunShown, stored_run_view(run))["id"]
    assert (run.provider, True) == (rendering.requested_provider(run), rendering.is_synchronous(run))


@pytest.mark.parametrize("following", [None, "bmV4dA=="])
async def test_a_page_of_runs(following: str | None) -> None:
    """Runs in progress and finished ones."""
    record, problem = await finished_run("failed")
    details = encode_details(rendering.finished_run_document(record, problem))
    ended = new_stored_run(phase=Phase.DONE, status="failed", finished_at=1.0, details=details)
    stored = [new_stored_run(), ended, new_stored_run(callback_url=CALLBACK_URL)]
    runs = [rendering.run_list_item(run.overview) for run in stored]
    page = validated(RunsPage, rendering.run_page(runs, following, complete=False))
    assert (following, False) == (page["next"], page["complete"])
    shown = page["runs"]
    assert isinstance(shown, list)
    assert runs == [json.dumps(run, separators=(",", ":"), ensure_ascii=False).encode() for run in shown]


@pytest.mark.parametrize("metadata", [{}, {"team": "a", "schlüssel": "wert"}])
@pytest.mark.parametrize("tags", [(), ("b", "a")])
def test_a_new_run_is_accepted_with_the_bytes_of_its_replay(metadata: dict[str, str], tags: tuple[str, ...]) -> None:
    spec = RunSpec(client="one", workflow="w", timeout=60.0, metadata=metadata, tags=tags, synchronous=False)
    run = RunRecord.create(spec, "layer", ManualClock())
    stored = encode_run(run, owner="me", leased_until_at=0.0, callback_url=None)

    accepted = rendering.render_new(run)

    assert accepted.body.startswith(b'{"id":"%s","status":"queued"' % run.id.encode())
    assert accepted == rendering.render_accepted(stored)
    fallen_back = replace(stored, provider="studio", status="running", attempts=2, provider_run_id="787")
    assert accepted == rendering.render_accepted(fallen_back)
