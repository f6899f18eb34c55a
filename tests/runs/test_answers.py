"""What a run looks like to its client: every document is what the published models say it is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from gateway.api.answers import ProblemAnswer, RunAnswer, RunShown, RunsPage
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.orders import stored_run
from gateway.runs.record import Order, RunRecord
from gateway.store.contract import PENDING, Phase, StoredRun
from providers.contract import Cause, JsonValue, Reply
from tests.manual_clock import ManualClock
from tests.runs.scripted import ENDED, RUNNING, STARTED, Act, World, fault

HOOK = "https://hooks.example.com/here"
FAILED_NODE: dict[str, JsonValue] = {"status": "FAILED", "value": None, "error_message": "no", "is_output_node": True}
ENDINGS: dict[str, tuple[Act, ...]] = {
    "succeeded": (STARTED, RUNNING, ENDED),
    "failed": (STARTED, Reply(200, {"Answer": FAILED_NODE})),
    "unknown": (fault(Cause.DISCONNECTED),),
    "not_run": (Reply(422, {"message": "no"}),),
}


def kept(**fields: Any) -> StoredRun:
    """A run that was just ordered, as the store keeps it."""
    order = Order(client="one", workflow="w", timeout=60.0, metadata={"team": "a"}, waits=False)
    run = RunRecord.open(order, "layer", ManualClock())
    return replace(stored_run(run, owner="me", leased_until_at=0.0, callback_url=None), **fields)


async def ended(status: str, **order: Any) -> tuple[RunRecord, Problem | None]:
    """A run that ended so."""
    world = World()
    record, problem = await world.run(world.layer(*ENDINGS[status]), world.order(**order))
    assert status == record.status
    return record, problem


def checked(model: type[BaseModel], document: bytes) -> dict[str, JsonValue]:
    """The document, which has what the model has, and no member that it has not."""
    strict = type("Strict", (model,), {}, extra="forbid")
    assert issubclass(strict, BaseModel)
    strict.model_validate_json(document)
    members = json.loads(document)
    assert isinstance(members, dict)
    return members


@pytest.mark.parametrize(
    "run",
    [
        kept(),
        kept(phase=Phase.SENDING, status="running", attempts=1),
        kept(phase=Phase.FOLLOWING, status="running", attempts=1, provider_run_id="787"),
    ],
    ids=["queued", "sending", "following"],
)
def test_a_run_that_goes_on(run: StoredRun) -> None:
    """R46: it has the members of a finished one, with nothing in those that are not known."""
    shown = checked(RunShown, answers.shown(run))
    assert (run.status, run.attempts, run.provider_run_id) == (
        shown["status"], shown["attempts"], shown["provider_run_id"]
    )  # fmt: skip
    assert ({"team": "a"}, None, None) == (shown["metadata"], shown["finished_at"], shown["output"])
    assert "callback" not in shown


@pytest.mark.parametrize("state", [None, PENDING, "delivered", "gave_up"])
@pytest.mark.parametrize("document", [None, "succeeded"])
async def test_what_became_of_the_callback(state: str | None, document: str | None) -> None:
    """R55: it stands in the run, pending from the start."""
    finished = None if document is None else answers.ended(*await ended(document))
    shown = checked(RunShown, answers.shown(kept(callback_url=HOOK, callback_state=state, document=finished)))
    assert {"state": state or "pending"} == shown["callback"]


@pytest.mark.parametrize("status", ENDINGS)
@pytest.mark.parametrize("all_outputs", [True, False])
async def test_a_run_that_ended(status: str, all_outputs: bool) -> None:  # noqa: FBT001 - a value
    """It says why where it did not succeed, with the code of the problem that a waiting client gets."""
    record, problem = await ended(status, return_all_outputs=all_outputs, metadata={"a": "b"})
    shown = checked(RunShown, answers.shown(kept(document=answers.ended(record, problem))))
    assert (record.id, status, record.attempts, {"a": "b"}) == (
        shown["id"], shown["status"], shown["attempts"], shown["metadata"]
    )  # fmt: skip
    error = shown.get("error")
    assert (problem and problem.code) == (error["code"] if isinstance(error, dict) else None)
    assert all_outputs == ("outputs" in shown)
    assert shown["finished_at"] is not None


@pytest.mark.parametrize("status", ENDINGS)
async def test_the_answer_that_a_key_keeps(status: str) -> None:
    """R37: the document of a 200, or the problem."""
    record, problem = await ended(status)
    answer = answers.answer_of(record, problem, "req_1")
    if problem is None:
        assert (200, answers.JSON) == (answer.status, dict(answer.headers)["Content-Type"])
        assert record.id == checked(RunAnswer, answer.body)["id"]
    else:
        assert (problem.status, "application/problem+json") == (answer.status, dict(answer.headers)["Content-Type"])
        told = checked(ProblemAnswer, answer.body)
        assert (record.id, status, "req_1") == (told["run_id"], told["outcome"], told["request_id"])


def test_a_retry_after_is_whole_seconds_and_never_too_short() -> None:
    """RFC 9110, 10.2.3."""
    run = RunRecord.open(Order(client="one", workflow="w", timeout=60.0), "layer", ManualClock())
    answer = answers.answer_of(run, Problem("circuit_open", retry_after=1.2, headers=(("X-Own", "1"),)), "")
    assert {"Retry-After": "2", "X-Own": "1", "Content-Type": "application/problem+json"} == dict(answer.headers)


def test_a_202_can_be_given_again_however_far_its_run_is() -> None:
    """R37: byte for byte, also where a fallback runs it by now."""
    first = kept()
    later = replace(first, phase=Phase.DONE, status="succeeded", attempts=3, provider="other", provider_run_id="9")
    assert answers.unfinished(first) == answers.accepted(later).body
    assert answers.accepted(first) == answers.accepted(later)
    assert (202, f"/runs/{first.id}") == (
        answers.accepted(later).status,
        dict(answers.accepted(later).headers)["Location"],
    )
    assert "layer" == answers.first_provider(later)


def test_who_waited_is_known_from_the_order() -> None:
    """A key's later request is answered as its first one was."""
    assert not answers.waits(kept())
    order = Order(client="one", workflow="w", timeout=60.0)
    run = RunRecord.open(order, "layer", ManualClock())
    assert answers.waits(stored_run(run, owner="me", leased_until_at=0.0, callback_url=None))


@pytest.mark.parametrize("order", [b"\xff", b"[]", b'{"odd":1}'])
def test_a_run_whose_order_can_not_be_read_can_be_shown(order: bytes) -> None:
    """Another version wrote it: its client sees what is known beside it."""
    run = replace(kept(), order=order)
    assert run.id == checked(RunShown, answers.shown(run))["id"]
    assert (run.provider, True) == (answers.first_provider(run), answers.waits(run))


@pytest.mark.parametrize("following", [None, "bmV4dA=="])
async def test_a_page_of_runs(following: str | None) -> None:
    """Those that go on beside those that ended."""
    runs = [answers.shown(kept()), answers.ended(*await ended("failed")), answers.shown(kept(callback_url=HOOK))]
    page = checked(RunsPage, answers.listed(runs, following))
    assert following == page["next"]
    shown = page["runs"]
    assert isinstance(shown, list)
    assert runs == [json.dumps(run, separators=(",", ":"), ensure_ascii=False).encode() for run in shown]
