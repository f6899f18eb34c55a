"""What the desk does for clients that speak a provider's API: ids that come back, own callbacks, a start afterwards."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from gateway.problems import Problem
from gateway.runs.record import Order, RunRecord
from gateway.runs.told import Told
from gateway.store.contract import Phase
from tests.runs.kept import KEY, Office, turns, until
from tests.runs.scripted import DONE, door_of
from tests.runs.test_told import Frozen

HOOK = "https://example.com/hook"


async def test_a_run_is_not_sent_before_its_client_was_told() -> None:
    office = await Office().open()
    workflow = office.world.studio(DONE)
    run, told = office.order(workflow, waits=False), Told(Frozen())
    await office.desk.keep(run, None, callback_url=None)
    office.desk.start(run, workflow, after=told)
    await turns()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert (Phase.QUEUED, 0, True) == (stored.phase, door_of(workflow).starts, office.desk.holds(run.id))
    told.done()
    await until(lambda: run.status == "succeeded")
    await turns()
    assert (1, False) == (door_of(workflow).starts, office.desk.holds(run.id))


async def test_a_run_whose_client_was_not_told_yet_is_left_to_the_next_process() -> None:
    office = await Office().open()
    workflow = office.world.studio(DONE)
    run = office.order(workflow, waits=False)
    await office.desk.keep(run, None, callback_url=None)
    office.desk.start(run, workflow, after=Told(Frozen()))
    await turns()
    await office.desk.settle()
    assert (0, "queued") == (door_of(workflow).starts, await office.status(run))


def own(order: Order, document: bytes, _finished_at: datetime) -> bytes:
    return b'{"number":%d,"status":"%b"}' % (order.number, json.loads(document)["status"].encode())


@pytest.mark.parametrize(
    ("face", "body"), [("promptlayer", {"number": 7, "status": "succeeded"}), ("run", {"type": "run.finished"})]
)
async def test_a_callback_is_what_its_clients_api_has(face: str, body: dict[str, object]) -> None:
    office = await Office(payloads={"promptlayer": own}).open()
    workflow = office.world.studio(DONE)
    run = office.order(workflow, waits=False, face=face, number=7)
    await office.desk.keep(run, None, callback_url=HOOK)
    office.desk.start(run, workflow)
    await until(lambda: run.status == "succeeded")
    await turns()
    now = office.clock.now().timestamp()
    [delivery] = await office.store.due(now_at=now, until_at=now + 1, limit=9)
    assert body.items() <= json.loads(delivery.body).items()


def same(office: Office, run: RunRecord) -> RunRecord:
    """The same request again: a run with the same id."""
    return RunRecord.open(run.order, run.provider, office.clock, id=run.id)


async def test_an_id_that_is_taken_is_refused_and_nothing_changes() -> None:
    office = await Office().open()
    run = await office.start(office.world.studio(DONE))
    with pytest.raises(ValueError, match="this id"):
        await office.desk.keep(same(office, run), None, callback_url=None)
    await until(lambda: run.status == "succeeded")


async def test_what_is_still_to_be_dropped_is_not_promised_again() -> None:
    """The first request may have been kept and was refused: it is dropped, and must not take the second with it."""
    office = await Office().open()
    workflow = office.world.studio(DONE)
    run = office.order(workflow, waits=False)
    office.store.lost, office.store.down = {"begin"}, {"drop"}
    for attempt in (run, same(office, run)):
        with pytest.raises(Problem) as refused:
            await office.desk.keep(attempt, None, callback_url=None)
        assert "store_unavailable" == refused.value.code
        office.store.lost = set()
    office.store.down = set()
    await turns()
    assert None is await office.status(run)
    again = await office.start(workflow, same(office, run))
    await until(lambda: again.status == "succeeded")
    await turns(200)
    assert ("succeeded", 1) == (await office.status(again), door_of(workflow).starts)


async def test_a_key_whose_run_is_still_to_be_dropped_is_not_answered_with_it() -> None:
    """R40: it would be answered 202, and then be forgotten."""
    office = await Office().open()
    workflow = office.world.studio(DONE)
    office.store.lost, office.store.down = {"begin"}, {"drop"}
    for _ in range(2):
        with pytest.raises(Problem) as refused:
            await office.desk.keep(office.order(workflow, waits=False), KEY, callback_url=None)
        assert ("store_unavailable", "unknown") == (refused.value.code, refused.value.extra["outcome"])
        office.store.lost = set()
    office.store.down = set()
    await turns()
    run = await office.start(workflow, key=KEY)
    await until(lambda: run.status == "succeeded")
    claim = await office.claim()
    assert claim is not None
    assert run.id == claim.run_id
