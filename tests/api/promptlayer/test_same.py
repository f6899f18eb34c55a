"""A run whose number is taken: answered again where it is sure to be run, and not a moment earlier."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest
from aiohttp import web

from gateway.api.promptlayer.runs import RunsFace
from gateway.problems import Problem
from gateway.runs.catalog import Catalog
from gateway.runs.numbers import Numbers
from gateway.runs.record import RunRecord
from gateway.runs.told import Told
from tests.runs.kept import Office, turns, until
from tests.runs.scripted import DONE
from tests.runs.test_told import Frozen


def face(office: Office) -> RunsFace:
    nobody = cast("Callable[[str], Awaitable[None]]", None)
    return RunsFace(office.desk, Catalog({}, {}), Numbers(b"s"), nobody, office.clock, 1000, 1.0)


def again(office: Office, run: RunRecord) -> RunRecord:
    return RunRecord.open(run.order, run.provider, office.clock, id=run.id)


async def kept(office: Office) -> RunRecord:
    """A run that was kept here, and not sent yet."""
    workflow = office.world.studio(DONE)
    run = office.order(workflow, waits=False, face="promptlayer", number=7)
    await office.desk.keep(run, None, callback_url=None)
    office.desk.start(run, workflow, after=Told(Frozen()))
    await turns()
    return run


def number(answered: web.Response) -> int:
    assert isinstance(answered.body, bytes)
    return int(json.loads(answered.body)["workflow_version_execution_id"])


async def test_the_replica_that_keeps_it_answers_at_once() -> None:
    office = await Office().open()
    run = await kept(office)
    answered = await face(office)._same(again(office, run), None)
    assert (201, 7) == (answered.status, number(answered))
    await office.desk.close()


async def test_another_replica_waits_until_it_was_sent() -> None:
    """The first one may be about to drop it, because it could not write it down in time and refused it."""
    first = await Office().open()
    second = Office("other", before=first)
    run = await kept(first)
    with pytest.raises(Problem) as refused:
        await face(second)._same(again(second, run), None)
    assert ("idempotency_in_flight", 1) == (refused.value.code, refused.value.retry_after)
    await first.desk.close()
    workflow = first.world.studio(DONE)
    stored = await first.store.run(run.id)
    assert stored is not None
    back = again(first, run)
    first.desk.closing = False
    first.desk.resume(back, workflow, stored)
    await until(lambda: back.status == "succeeded")
    answered = await face(second)._same(again(second, run), None)
    assert (201, 7) == (answered.status, number(answered))


async def test_another_order_or_address_is_refused() -> None:
    office = await Office().open()
    run = await kept(office)
    other = again(office, run)
    other.order = replace(run.order, input={"a": 1})
    for attempt, url in ((other, None), (again(office, run), "https://example.com/")):
        with pytest.raises(Problem) as refused:
            await face(office)._same(attempt, url)
        assert "idempotency_mismatch" == refused.value.code
    await office.desk.close()


async def test_one_that_is_gone_meanwhile_is_not_made_up() -> None:
    office = await Office().open()
    run = office.order(office.world.studio(DONE), waits=False)
    with pytest.raises(Problem) as refused:
        await face(office)._same(run, None)
    assert "idempotency_in_flight" == refused.value.code
