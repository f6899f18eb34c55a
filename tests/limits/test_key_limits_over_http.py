"""Limits of a stored key as its client sees them; upstream calls are counted at the fake upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.key_administration import KeyAdministration

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream


async def test_a_stored_key_has_limits_of_its_own_within_those_of_its_client(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    upstream.default = prompt_studio_reply({"completion": "because"})
    running = await gateway()
    keys = KeyAdministration(session, running)
    limited = await keys.create(limits={"daily": 2})
    other = await keys.create(name="other")
    answers = [await keys.run(limited["key"]) for _ in range(3)]
    assert [200, 200, 429] == [answer.status for answer in answers]
    assert 200 == (await keys.run(other["key"])).status
    assert 3 == len(upstream.requests("POST"))
    headers = {name.lower(): value for name, value in answers[2].headers.items()}
    assert '"key-daily";q=2;w=86400' in headers["ratelimit-policy"]
    await keys.change(limited["id"], "rotate")  # the key keeps what it has used
    rotated = await keys.send("POST", f"/{other['id']}/rotate", {})
    assert 200 == rotated[0]
    assert 200 == (await keys.run(rotated[1]["key"])).status


async def test_a_replay_counts_for_the_key_that_asks_for_it(
    gateway: StartGateway, session: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """Else a key with a quota would have none for what it replays."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    running = await gateway()
    keys = KeyAdministration(session, running)
    limited, other = await keys.create(limits={"daily": 1}), await keys.create(name="other")
    run_id = (await keys.run(other["key"], headers={"Idempotency-Key": "first"})).json["id"]
    by_limited = {"Authorization": f"Bearer {limited['key']}"}
    outcomes = []
    for number in range(2):
        headers = by_limited | {"Idempotency-Key": f"again-{number}"}
        async with session.post(f"{running.url}/runs/{run_id}/replay", headers=headers) as answer:
            location = (await answer.json())["id"]
        async with session.get(f"{running.url}/runs/{location}?wait=20", headers=by_limited) as answer:
            document = await answer.json()
        outcomes.append((document["status"], document.get("error", {}).get("code")))
    assert [("succeeded", None), ("not_run", "rate_limited")] == outcomes
