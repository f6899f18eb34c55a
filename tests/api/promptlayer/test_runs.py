"""The face with a store and a clock of the tests' own: what it answers before and after a run is kept."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict

from gateway import strictjson
from gateway.access.clients import Client
from gateway.api.promptlayer.results import FORMS, final_output, payload
from gateway.api.promptlayer.runs import RunsFace
from gateway.api.server import Request
from gateway.api.whole import Whole
from gateway.problems import Problem
from gateway.runs.backlog import Backlog
from gateway.runs.catalog import Catalog
from gateway.runs.numbers import Numbers
from gateway.runs.record import RunRecord
from gateway.runs.told import Told
from gateway.store.contract import Answer, Claim
from providers.contract import JsonValue, Reply
from tests.runs.kept import KEY, Office, turns, until
from tests.runs.scripted import DONE, STARTED, door_of
from tests.runs.test_told import Frozen


def face(office: Office) -> RunsFace:
    """It starts nothing before its answer was written: its own clock stands still."""
    nobody = cast("Callable[[str], Awaitable[None]]", None)
    return RunsFace(office.desk, Catalog(office.workflows, {}), Numbers(b"s"), nobody, Frozen(), 1000, 1.0)


def post(name: str, **body: JsonValue) -> Request:
    raw = strictjson.write(body)
    content = SimpleNamespace(is_eof=lambda: True, read_nowait=lambda: raw)
    headers = CIMultiDict({"Content-Type": "application/json"})
    found = {"tail": name, "headers": headers, "content_length": len(raw), "content": content}
    return cast("Request", SimpleNamespace(client=Client("one", ("*",)), client_name="one", **found))


async def results(office: Office, run: web.Response) -> tuple[int, Any]:
    query = {"workflow_version_execution_id": str(number(run))}
    request = cast("Request", SimpleNamespace(query=query, client_name="one"))
    answered = await face(office).results(request)
    assert isinstance(answered.body, bytes)
    return answered.status, json.loads(answered.body)


async def test_nothing_is_sent_before_the_answer_was_written() -> None:
    """A push on a channel can never be faster than the answer that names the run."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    answered = await face(office).start(post(workflow.alias))
    await turns()
    assert (201, 0) == (answered.status, door_of(workflow).starts)
    assert isinstance(answered, Whole)
    assert answered.then is not None
    status, found = await results(office, answered)
    assert (202, "QUEUED") == (status, found["Output"]["status"])
    answered.then()
    await until(lambda: door_of(workflow).starts == 1)
    await turns()
    assert 200 == (await results(office, answered))[0]


async def test_a_store_that_fails_before_it_was_kept_is_a_503() -> None:
    """Nothing is sent then, so the SDKs may well repeat it."""
    office = await Office().open()
    office.store.down = {"begin"}
    workflow = office.knows(office.world.studio(DONE))
    with pytest.raises(Problem) as refused:
        await face(office).start(post(workflow.alias))
    await turns(200)
    assert ("store_unavailable", 503, 0) == (refused.value.code, refused.value.status, door_of(workflow).starts)


async def test_a_store_that_fails_afterwards_changes_no_answer() -> None:
    """R37: the run that could not be noted is not sent; its results say so once they can be written."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    office.store.down = {"advance", "finish"}
    answered = await face(office).start(post(workflow.alias))
    assert isinstance(answered, Whole)
    assert answered.then is not None
    answered.then()
    await turns()
    assert (201, 202) == (answered.status, (await results(office, answered))[0])
    office.store.down = set()
    await turns(200)
    status, found = await results(office, answered)
    assert (200, 0) == (status, door_of(workflow).starts)
    assert found["Output"]["error_message"].endswith("Nothing was run.")


async def test_a_client_with_too_many_is_refused_before_anything_is_kept() -> None:
    office = await Office(backlog=Backlog(1)).open()
    workflow = office.knows(office.world.studio(DONE))
    await face(office).start(post(workflow.alias))
    with pytest.raises(Problem) as refused:
        await face(office).start(post(workflow.alias))
    assert ("overloaded", 503) == (refused.value.code, refused.value.status)
    await turns()
    await office.desk.close()


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


async def test_a_key_is_answered_by_another_replica_when_its_run_was_sent() -> None:
    """For the same reason; and never with a run that is no longer kept."""
    first = await Office().open()
    second = Office("other", before=first)
    run = await kept(first)
    claim = Claim(KEY, run.id, 0.0)
    for gone in (claim, replace(claim, run_id="run_none")):
        with pytest.raises(Problem) as refused:
            await face(second)._again(gone, KEY)
        assert ("idempotency_in_flight", 409) == (refused.value.code, refused.value.status)
    assert 7 == number(await face(first)._again(claim, KEY))
    await first.desk.close()


async def test_a_key_whose_run_is_forgotten_is_not_in_flight() -> None:
    """R37: where runs are kept for less than keys are. To come back in a second would be of no use."""
    office = await Office().open()
    claim = Claim(KEY, "run_forgotten", 0.0, Answer(202, (), b"{}"))
    with pytest.raises(Problem) as refused:
        await face(office)._again(claim, KEY)
    assert ("not_found", 404) == (refused.value.code, refused.value.status)


async def test_a_key_goes_with_the_deepest_input_that_is_taken() -> None:
    """R67: what is taken without a key is taken with one."""
    office = await Office().open()
    workflow = office.knows(office.world.studio(DONE))
    deep = post(workflow.alias, input_variables={"a": strictjson.read(b"[" * 199 + b"]" * 199)})
    deep.headers.add("Idempotency-Key", "k")  # type: ignore[attr-defined]  # the test's own fields
    answered = await face(office).start(deep)
    await turns()
    await office.desk.close()
    assert 201 == answered.status


async def test_the_deepest_result_that_is_taken_is_shown() -> None:
    """R48: a run that ended and could not be read would be asked about for ever."""
    office = await Office(payloads={"promptlayer": payload}).open()
    value = "[" * 199 + "]" * 199
    answer = {"status": "SUCCESS", "value": json.loads(value), "is_output_node": True}
    ended = Reply(200, strictjson.read(strictjson.write({"Answer": answer})))
    workflow = office.knows(office.world.layer(STARTED, ended))
    run = office.order(workflow, waits=False, face="promptlayer", return_all_outputs=True)
    await office.desk.keep(run, None, callback_url="https://example.com/")
    office.desk.start(run, workflow)
    await until(lambda: run.finished_at is not None)
    await turns()
    stored = await office.store.run(run.id)
    assert stored is not None
    assert stored.document is not None
    assert ("succeeded", "pending") == (stored.status, stored.callback_state)
    assert json.loads(value) == final_output(stored.document, FORMS[False])
