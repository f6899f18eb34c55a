"""Clients of both replicas, whatever happens to them; what they were told, and whether it was so."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from tests.durable.providers import Providers
from tests.durable.receiver import HOOK
from tests.durable.test_random_kills import contradictions, question
from tests.replicas.fleet import Fleet, insist

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.client import Answered
    from tests.durable.lives import Lives
    from tests.faults.upstream import Upstream

_PAUSE = 0.05  # seconds between two orders of a client
_WORKFLOWS = ("studio", "layer")


@dataclass(slots=True)
class Told:
    """What clients were told, by their questions: promised runs, bodies and answers of keys, outcomes of refusals."""

    promised: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[dict[str, JsonValue], Answered]] = field(default_factory=dict)
    refused: dict[str, JsonValue] = field(default_factory=dict)


class Crowd:
    """Two clients at each replica that leave runs with a callback, and two that wait with a key and insist.

    They go elsewhere where a replica is not there.
    """

    def __init__(self, upstream: Upstream, receiver: Upstream, fleet: Fleet) -> None:
        self.told = Told()
        self._providers = Providers(upstream, starting=0.1, running=0.4)
        self._receiver = receiver
        self._fleet = fleet
        self._numbers = itertools.count(1)
        self._enough = False

    def enough(self) -> None:
        """Order nothing more."""
        self._enough = True

    async def keep_coming(self) -> None:
        """Until it is enough, and who insisted has an answer."""
        ways = (self._leave, self._insist) * 2
        await asyncio.gather(*(self._client(way, at) for way in ways for at in (self._fleet.both, self._turned())))

    def _turned(self) -> tuple[Lives, Lives]:
        return self._fleet.two, self._fleet.one

    async def _client(
        self, way: Callable[[tuple[Lives, Lives], dict[str, JsonValue]], Awaitable[None]], at: tuple[Lives, Lives]
    ) -> None:
        while not self._enough:
            body: dict[str, JsonValue] = {
                "workflow": random.choice(_WORKFLOWS),
                "input": {"question": f"question {next(self._numbers)}"},
            }
            await way(at, body)
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE))

    async def _leave(self, at: tuple[Lives, Lives], body: dict[str, JsonValue]) -> None:
        try:
            answered = await at[0].post({**body, "callback_url": self._receiver.url + HOOK})
        except aiohttp.ClientError:
            return  # the replica is gone, and nobody knows whether it had heard
        if answered.status == 202:
            self.told.promised[question(body)] = str(answered.json["id"])
        else:
            assert "store_unavailable" == answered.json["code"], answered.body
            self.told.refused[question(body)] = answered.json["outcome"]

    async def _insist(self, at: tuple[Lives, Lives], body: dict[str, JsonValue]) -> None:
        self.told.answers[question(body)] = body, await insist(at, body, question(body))

    async def check(self) -> None:
        """Everything has ended, was started once at most, was called back under one id, and is as it was told."""
        one, two = self._fleet.both
        runs = dict(zip(self.told.promised, await self._ends(one), strict=True))
        assert list(runs.values()) == await self._ends(two), "both say the same"
        assert {"succeeded", "unknown"} >= {run["status"] for run in runs.values()}
        for asked, run in runs.items():
            if run["status"] == "succeeded":
                assert (asked, 1) == (run["output"], self._providers.starts[asked])
        assert {1} >= set(self._providers.starts.values())
        assert [] == [asked for asked, outcome in self.told.refused.items() if not self._is_so(asked, outcome)]
        assert [] == [asked for asked in self.told.answers if not await self._holds(asked)]
        settled = await asyncio.gather(*(two.told(run_id) for run_id in self.told.promised.values()))
        assert [{"state": "delivered"}] * len(runs) == settled
        assert [] == contradictions(self._receiver, {str(run["id"]): run for run in runs.values()})

    async def _ends(self, replica: Lives) -> list[dict[str, JsonValue]]:
        """How the promised runs ended, without what became of their callbacks: that is a moment later."""
        ends = await asyncio.gather(*(replica.ended(run_id) for run_id in self.told.promised.values()))
        return [{name: value for name, value in end.items() if name != "callback"} for end in ends]

    def _is_so(self, asked: str, outcome: JsonValue) -> bool:
        """Whether what was said not to run did not."""
        return outcome == "unknown" or (outcome == "not_run" and not self._providers.starts[asked])

    async def _holds(self, asked: str) -> bool:
        """Whether both replicas repeat the answer of this key, and it is the answer to its question."""
        body, first = self.told.answers[asked]
        again = [await insist((replica,), body, asked) for replica in self._fleet.both]
        mine = asked == first.json["output"] if first.status == 200 else first.json["outcome"] == "unknown"
        return mine and [(first.status, first.body)] * 2 == [(each.status, each.body) for each in again]
