"""One Idempotency-Key at two replicas at the same instant: one run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.client import STUDIO
from tests.durable.providers import Providers

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.faults.upstream import Upstream
    from tests.replicas.fleet import Fleet

ROUNDS = 50


def order(number: int, suffix: str = "") -> dict[str, JsonValue]:
    """A run like no other."""
    return {**STUDIO, "input": {"question": f"question {number}{suffix}"}}


async def test_one_key_at_both_at_once_is_one_run(upstream: Upstream, fleet: Fleet) -> None:
    """R38, R45: one start; whoever lost is told that it goes on, or the same answer; later both say the same."""
    providers = Providers(upstream, starting=0.1, running=0.5)
    await fleet.begin()

    async def one_round(number: int) -> None:
        body = order(number)
        both = [each.post(body, Idempotency_Key=f"key {number}") for each in fleet.both]
        answers = await asyncio.gather(*both)
        winners = [answer for answer in answers if answer.status == 200]
        assert {"idempotency_in_flight"} >= {answer.summary[1] for answer in answers if answer not in winners}
        later = await asyncio.gather(*(each.post_until_told(body, f"key {number}") for each in fleet.both))
        assert 1 == len({answer.body for answer in (*winners, *later)})
        assert [(200, "true")] * 2 == [(a.status, a.headers["Idempotent-Replayed"]) for a in later]
        assert f"question {number}" == later[0].json["output"]

    await asyncio.gather(*map(one_round, range(ROUNDS)))
    assert {f"question {number}": 1 for number in range(ROUNDS)} == providers.starts


async def test_one_key_with_two_bodies_is_refused_wherever_it_comes(upstream: Upstream, fleet: Fleet) -> None:
    """R39, R45: at the same instant and later, 422; only the first body is run."""
    providers = Providers(upstream, starting=0.1, running=0.2)
    await fleet.begin()

    async def one_round(number: int) -> None:
        bodies = order(number, " a"), order(number, " b")
        orders = [(each, body) for each, body in zip(fleet.both, bodies, strict=True)]
        answers = await asyncio.gather(*(each.post(body, Idempotency_Key=f"key {number}") for each, body in orders))
        assert [200, 422] == sorted(answer.status for answer in answers)
        assert {None, "idempotency_mismatch"} == {answer.json.get("code") for answer in answers}
        lost = 0 if answers[0].status == 422 else 1
        later = await asyncio.gather(*(e.post(bodies[lost], Idempotency_Key=f"key {number}") for e in fleet.both))
        assert [422] * 2 == [answer.status for answer in later]

    await asyncio.gather(*map(one_round, range(10)))
    assert [1] * 10 == list(providers.starts.values())


async def test_an_order_that_is_not_waited_for_is_promised_once(upstream: Upstream, fleet: Fleet) -> None:
    """R45, R46: both replicas name the same run, byte for byte, or say that it is just being taken."""
    providers = Providers(upstream, starting=0.1, running=0.5)
    await fleet.begin()

    async def one_round(number: int) -> None:
        headers = {"Prefer": "respond-async", "Idempotency_Key": f"key {number}"}
        answers = await asyncio.gather(*(each.post(order(number), **headers) for each in fleet.both))
        assert 202 in {answer.status for answer in answers}
        assert {202, 409} >= {answer.status for answer in answers}
        promises = {answer.body for answer in answers if answer.status == 202}
        assert 1 == len(promises)
        run_id = str(next(answer for answer in answers if answer.status == 202).json["id"])
        ends = await asyncio.gather(*(each.ended(run_id) for each in fleet.both))
        assert [("succeeded", f"question {number}")] * 2 == [(end["status"], end["output"]) for end in ends]
        later = await asyncio.gather(*(each.post(order(number), **headers) for each in fleet.both))
        assert promises == {answer.body for answer in later}

    await asyncio.gather(*map(one_round, range(10)))
    assert [1] * 10 == list(providers.starts.values())
