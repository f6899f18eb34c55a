"""Concurrent use of one Idempotency-Key at two replicas: one run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.counting_providers import CountingProviders

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.replicas.replica_pair import ReplicaPair
    from tests.support.fake_upstream.upstream import FakeUpstream

ROUNDS = 50


def run_body(number: int, suffix: str = "") -> dict[str, JsonValue]:
    """Return a request with unique input."""
    return {**PROMPT_STUDIO_BODY, "input": {"question": f"question {number}{suffix}"}}


async def test_one_key_at_both_at_once_is_one_run(upstream: FakeUpstream, replicas: ReplicaPair) -> None:
    """R38, R45: one start; the other request gets 409 or the same response; later both repeat it."""
    providers = CountingProviders(upstream, max_start_seconds=0.1, max_run_seconds=0.5)
    await replicas.start()

    async def one_round(number: int) -> None:
        body = run_body(number)
        both = [each.post(body, Idempotency_Key=f"key {number}") for each in replicas.both]
        answers = await asyncio.gather(*both)
        winners = [answer for answer in answers if answer.status == 200]
        assert {"idempotency_in_flight"} >= {answer.summary[1] for answer in answers if answer not in winners}
        later = await asyncio.gather(*(each.post_until_finished(body, f"key {number}") for each in replicas.both))
        assert 1 == len({answer.body for answer in (*winners, *later)})
        assert [(200, "true")] * 2 == [(a.status, a.headers["Idempotent-Replayed"]) for a in later]
        assert f"question {number}" == later[0].json["output"]

    await asyncio.gather(*map(one_round, range(ROUNDS)))
    assert {f"question {number}": 1 for number in range(ROUNDS)} == providers.starts


async def test_one_key_with_two_bodies_is_refused_wherever_it_comes(
    upstream: FakeUpstream, replicas: ReplicaPair
) -> None:
    """R39, R45: at the same instant and later, 422; only the first body is run."""
    providers = CountingProviders(upstream, max_start_seconds=0.1, max_run_seconds=0.2)
    await replicas.start()

    async def one_round(number: int) -> None:
        bodies = run_body(number, " a"), run_body(number, " b")
        orders = [(each, body) for each, body in zip(replicas.both, bodies, strict=True)]
        answers = await asyncio.gather(*(each.post(body, Idempotency_Key=f"key {number}") for each, body in orders))
        assert [200, 422] == sorted(answer.status for answer in answers)
        assert {None, "idempotency_mismatch"} == {answer.json.get("code") for answer in answers}
        lost = 0 if answers[0].status == 422 else 1
        later = await asyncio.gather(*(e.post(bodies[lost], Idempotency_Key=f"key {number}") for e in replicas.both))
        assert [422] * 2 == [answer.status for answer in later]

    await asyncio.gather(*map(one_round, range(10)))
    assert [1] * 10 == list(providers.starts.values())


async def test_an_asynchronous_run_is_accepted_once(upstream: FakeUpstream, replicas: ReplicaPair) -> None:
    """R45, R46: both replicas return the same 202, byte for byte, or 409 while it is being created."""
    providers = CountingProviders(upstream, max_start_seconds=0.1, max_run_seconds=0.5)
    await replicas.start()

    async def one_round(number: int) -> None:
        headers = {"Prefer": "respond-async", "Idempotency_Key": f"key {number}"}
        answers = await asyncio.gather(*(each.post(run_body(number), **headers) for each in replicas.both))
        assert 202 in {answer.status for answer in answers}
        assert {202, 409} >= {answer.status for answer in answers}
        promises = {answer.body for answer in answers if answer.status == 202}
        assert 1 == len(promises)
        run_id = str(next(answer for answer in answers if answer.status == 202).json["id"])
        ends = await asyncio.gather(*(each.wait_for_end(run_id) for each in replicas.both))
        assert [("succeeded", f"question {number}")] * 2 == [(end["status"], end["output"]) for end in ends]
        later = await asyncio.gather(*(each.post(run_body(number), **headers) for each in replicas.both))
        assert promises == {answer.body for answer in later}

    await asyncio.gather(*map(one_round, range(10)))
    assert [1] * 10 == list(providers.starts.values())
