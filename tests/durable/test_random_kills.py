"""Power cuts at any moment, one after another: what holds for each run holds for all of them at the end.

RUNWARD_KILLS says how many.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.durable.lives import Lives
from tests.durable.providers import Providers
from tests.durable.receiver import HOOK, deliveries, document
from tests.faults.answers import reply
from tests.faults.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.client import Answered
    from tests.conftest import StartGateway

KILLS = int(os.environ.get("RUNWARD_KILLS", "25"))
LONGEST_LIFE = 0.5  # seconds: some kills come before the first request, some after the last answer


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    """Somebody who takes callbacks at the second try."""
    async with Upstream() as running:
        running.default = reply(204)
        yield running


@dataclass(slots=True)
class Told:
    """What clients were told: runs that were accepted, and what each key answered; all by their questions."""

    accepted: dict[str, str] = field(default_factory=dict)
    keyed: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Answered] = field(default_factory=dict)


@dataclass(slots=True)
class Clients:
    """Order runs from a gateway that may end at any moment."""

    lives: Lives
    hook: str
    told: Told = field(default_factory=Told)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def all_at_once(self) -> None:
        """For each provider, two runs that are not waited for and two that are, with keys."""
        ways = (self.leave, self.wait) * 2
        await asyncio.gather(*(way(workflow) for workflow in ("studio", "layer") for way in ways))

    async def leave(self, workflow: str) -> None:
        """Order a run with a callback."""
        body = self._order(workflow)
        answered = await self._post({**body, "callback_url": self.hook})
        if answered is not None:
            assert 202 == answered.status, answered.body
            self.told.accepted[question(body)] = str(answered.json["id"])

    async def wait(self, workflow: str) -> None:
        """Order a run with a key, and wait for its answer."""
        body = self._order(workflow)
        self.told.keyed[question(body)] = workflow
        answered = await self._post(body, Idempotency_Key=question(body))
        if answered is not None:
            self.told.answers[question(body)] = answered

    async def ask_again(self) -> list[str]:
        """Use each key once more; the questions that were answered otherwise than before, or with another's output."""
        wrong = []
        for asked, workflow in self.told.keyed.items():
            answered = await self.lives.post_until_told({"workflow": workflow, "input": {"question": asked}}, asked)
            before = self.told.answers.get(asked, answered)
            same = (before.status, before.body) == (answered.status, answered.body)
            mine = asked == answered.json["output"] if answered.status == 200 else answered.json["outcome"] == "unknown"
            if not (same and mine):
                wrong.append(asked)
        return wrong

    def _order(self, workflow: str) -> dict[str, JsonValue]:
        return {"workflow": workflow, "input": {"question": f"question {next(self._numbers)}"}}

    async def _post(self, body: dict[str, JsonValue], **headers: str) -> Answered | None:
        await asyncio.sleep(random.uniform(0, LONGEST_LIFE / 2))
        try:
            return await self.lives.post(body, **headers)
        except aiohttp.ClientError:
            return None  # the gateway is gone


def question(body: dict[str, JsonValue]) -> str:
    """What tells an order from all others."""
    asked = body["input"]
    assert isinstance(asked, dict)
    return str(asked["question"])


async def die_at_random(lives: Lives) -> None:
    """A power cut within a gateway's first moments."""
    await asyncio.sleep(random.uniform(0, LONGEST_LIFE))
    assert -9 == await lives.now.kill()


async def test_kills_at_random(
    upstream: Upstream, receiver: Upstream, gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """R44, R47, R48, R49, R55: started once at most, ended, called back under one id, answered to its key as before."""
    providers = Providers(upstream, starting=0.1, running=0.4)
    lives = Lives(gateway, session, tmp_path / "runward.db")
    clients = Clients(lives, receiver.url + HOOK)
    receiver.script("POST", HOOK, [reply(500)] * KILLS)
    for _ in range(KILLS):
        await lives.begin()
        await asyncio.gather(clients.all_at_once(), die_at_random(lives))
    await lives.begin()

    assert [] == await clients.ask_again()
    runs = {run_id: await lives.ended(run_id) for run_id in clients.told.accepted.values()}
    assert {"succeeded", "unknown"} >= {run["status"] for run in runs.values()}
    for asked, run_id in clients.told.accepted.items():
        if runs[run_id]["status"] == "succeeded":
            assert (asked, 1) == (runs[run_id]["output"], providers.starts[asked])
    assert [{"state": "delivered"}] * len(runs) == [await lives.told(run_id) for run_id in runs]
    assert {1} >= set(providers.starts.values())
    assert [] == contradictions(receiver, runs)


def contradictions(receiver: Upstream, runs: dict[str, dict[str, JsonValue]]) -> list[str]:
    """Runs whose callbacks have more than one id, or tell of another end than `GET /runs/{id}`, or never came."""
    heard: dict[str, set[tuple[str | None, bytes]]] = {run_id: set() for run_id in runs}
    statuses: dict[str, set[JsonValue]] = {run_id: set() for run_id in runs}
    for delivery in deliveries(receiver):
        run_id = str(document(delivery)["id"])
        if run_id in runs:  # the others' clients were cut off before they had their 202
            heard[run_id].add((delivery.header("webhook-id"), delivery.body))
            statuses[run_id].add(document(delivery)["status"])
    return [
        run_id
        for run_id, run in runs.items()
        if {f"msg_{run_id}"} != {message_id for message_id, _ in heard[run_id]}
        or len(heard[run_id]) != 1
        or statuses[run_id] != {run["status"]}
    ]
