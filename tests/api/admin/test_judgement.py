"""Judgements of runs that ended as `unknown`: stored beside the outcome, which stays what it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream


async def judge(
    session: aiohttp.ClientSession, ops_url: str, run_id: str, body: JsonValue, **headers: str
) -> tuple[int, dict[str, JsonValue]]:
    """POST /api/runs/{id}/judge; returns status and document."""
    async with session.post(f"{ops_url}/api/runs/{run_id}/judge", json=body, headers=headers) as answer:
        document: dict[str, JsonValue] = await answer.json(content_type=None)
        return answer.status, document


async def judge_recorded(session: aiohttp.ClientSession, ops_url: str, run_id: str, note: str = "") -> int:
    """Judge a run, found_paid, as soon as its record is written, a moment after its response; returns the status."""
    async with asyncio.timeout(20):
        while (status := (await judge(session, ops_url, run_id, {"verdict": "found_paid", "note": note}))[0]) == 404:
            await asyncio.sleep(0.05)
    return status


async def test_an_unknown_run_is_judged_and_judged_again(
    gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """The second judgement replaces the first; one line is logged for each."""
    upstream.always("POST", STUDIO_RUN, rst_after_request)
    running = await gateway()
    answer = await run(running, PROMPT_STUDIO_BODY)
    assert "unknown" == answer.json["outcome"]
    run_id = str(answer.json["run_id"])

    assert 200 == await judge_recorded(session, running.ops_url, run_id, "invoice 4711")
    status, document = await judge(session, running.ops_url, run_id, {"verdict": "found_not_run"})
    stored = document["judgement"]
    assert isinstance(stored, dict)
    assert (200, run_id) == (status, document["id"])
    assert {"verdict": "found_not_run", "note": "", "at": stored["at"]} == stored
    lines = running.logs("run_judged")
    assert [("found_paid", "invoice 4711"), ("found_not_run", "")] == [
        (each["verdict"], each["note"]) for each in lines
    ]
    assert {run_id} == {each["run_id"] for each in lines}


async def test_other_runs_have_nothing_to_judge(
    gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """409 for a run with a known outcome, 404 for none."""
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway()
    answer = await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="one")
    run_id = str(answer.json["id"])
    status, document = await judge(session, running.ops_url, run_id, {"verdict": "found_paid"})
    assert (409, "run_not_unknown") == (status, document["code"])
    for unknown in ("run_other", "x" * 200, "%00", "a%2Fb", ".."):
        status, document = await judge(session, running.ops_url, unknown, {"verdict": "found_paid"})
        assert (404, True) == (status, document["code"] in {"not_found", "unknown_route"})


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        {"verdict": "paid"},
        {"verdict": "found_paid", "note": "x" * 501},
        {"verdict": "found_paid", "note": "two\nlines"},
        {"verdict": "found_paid", "note": "\x1b[2J"},
        {"verdict": "found_paid", "note": "\u2028"},
        {"verdict": "found_paid", "note": None},
        {"verdict": "found_paid", "outcome": "succeeded"},
    ],
)
async def test_bad_input_is_refused(gateway: StartGateway, session: aiohttp.ClientSession, body: JsonValue) -> None:
    running = await gateway()
    status, document = await judge(session, running.ops_url, "run_a", body)
    assert (422, "invalid_request") == (status, document["code"])


async def test_pages_of_other_sites_are_refused(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    running = await gateway()
    status, document = await judge(session, running.ops_url, "run_a", {"verdict": "found_paid"}, Origin="null")
    assert (403, "forbidden") == (status, document["code"])
