"""Load clients of both replicas, and checks of all responses at the end."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

from tests.durable_runs.test_random_kills import contradictions, question_of
from tests.replicas.replica_pair import ReplicaPair, post_until_answered
from tests.support.callback_receiver import CALLBACK_PATH
from tests.support.counting_providers import CountingProviders

if TYPE_CHECKING:
    from providers.contract import JsonValue
    from tests.support.client import ReceivedResponse
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.gateway_restarts import RestartableGateway

_PAUSE = 0.05  # seconds between two orders of a client
_WORKFLOWS = ("studio", "layer")


@dataclass(slots=True)
class ClientRecords:
    """Responses to clients: accepted runs, bodies and responses of keys, outcomes of refusals."""

    accepted: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[dict[str, JsonValue], ReceivedResponse]] = field(default_factory=dict)
    refused: dict[str, JsonValue] = field(default_factory=dict)


class ClientLoad:
    """Two clients at each replica that start runs with a callback, and two that wait with a key and retry.

    They use the other replica if one is unreachable.
    """

    def __init__(self, upstream: FakeUpstream, receiver: FakeUpstream, replicas: ReplicaPair) -> None:
        self.records = ClientRecords()
        self._providers = CountingProviders(upstream, max_start_seconds=0.1, max_run_seconds=0.4)
        self._receiver = receiver
        self._replicas = replicas
        self._numbers = itertools.count(1)
        self._stopped = False

    def stop(self) -> None:
        """Start no more runs."""
        self._stopped = True

    @property
    def paid_starts(self) -> int:
        """Number of starts that arrived at the providers."""
        return self._providers.starts.total()

    async def send_until_stopped(self) -> None:
        """Until `stopped`, and every retried request has a response."""
        kinds = (self._send_asynchronous, self._send_with_key) * 2
        await asyncio.gather(
            *(self._client(way, at) for way in kinds for at in (self._replicas.both, self._reversed()))
        )

    def _reversed(self) -> tuple[RestartableGateway, RestartableGateway]:
        return self._replicas.two, self._replicas.one

    async def _client(
        self,
        send: Callable[[tuple[RestartableGateway, RestartableGateway], dict[str, JsonValue]], Awaitable[None]],
        targets: tuple[RestartableGateway, RestartableGateway],
    ) -> None:
        while not self._stopped:
            body: dict[str, JsonValue] = {
                "workflow": random.choice(_WORKFLOWS),
                "input": {"question": f"question {next(self._numbers)}"},
            }
            await send(targets, body)
            await asyncio.sleep(random.uniform(0, 2 * _PAUSE))

    async def _send_asynchronous(
        self, targets: tuple[RestartableGateway, RestartableGateway], body: dict[str, JsonValue]
    ) -> None:
        try:
            answered = await targets[0].post({**body, "callback_url": self._receiver.url + CALLBACK_PATH})
        except aiohttp.ClientError:
            return  # the replica is gone; it is unknown if it received the request
        if answered.status == 202:
            self.records.accepted[question_of(body)] = str(answered.json["id"])
        else:
            assert "store_unavailable" == answered.json["code"], answered.body
            self.records.refused[question_of(body)] = answered.json["outcome"]

    async def _send_with_key(
        self, targets: tuple[RestartableGateway, RestartableGateway], body: dict[str, JsonValue]
    ) -> None:
        self.records.answers[question_of(body)] = body, await post_until_answered(targets, body, question_of(body))

    async def assert_consistent(self) -> None:
        """Every run has ended, was started at most once, has one callback id, and equals its responses."""
        one, two = self._replicas.both
        runs = dict(zip(self.records.accepted, await self._final_documents(one), strict=True))
        assert list(runs.values()) == await self._final_documents(two), "both say the same"
        others = [run for run in runs.values() if run["status"] not in ("succeeded", "unknown")]
        assert not others, others
        for asked, run in runs.items():
            if run["status"] == "succeeded":
                assert (asked, 1) == (run["output"], self._providers.starts[asked])
        assert {1} >= set(self._providers.starts.values())
        assert [] == [
            asked for asked, outcome in self.records.refused.items() if not self._refusal_is_true(asked, outcome)
        ]
        assert [] == [asked for asked in self.records.answers if not await self._replay_is_equal(asked)]
        settled = await asyncio.gather(*(two.wait_for_callback(run_id) for run_id in self.records.accepted.values()))
        assert [{"state": "delivered"}] * len(runs) == settled
        assert [] == contradictions(self._receiver, {str(run["id"]): run for run in runs.values()})

    async def _final_documents(self, replica: RestartableGateway) -> list[dict[str, JsonValue]]:
        """Return the documents of accepted runs without the callback state, which is updated later."""
        ends = await asyncio.gather(*(replica.wait_for_end(run_id) for run_id in self.records.accepted.values()))
        return [{name: value for name, value in end.items() if name != "callback"} for end in ends]

    def _refusal_is_true(self, asked: str, outcome: JsonValue) -> bool:
        """Return True if runs that were reported as not_run were not started."""
        return outcome == "unknown" or (outcome == "not_run" and not self._providers.starts[asked])

    async def _replay_is_equal(self, asked: str) -> bool:
        """Return True if both replicas repeat the response of this key, and it matches its request."""
        body, first = self.records.answers[asked]
        again = [await post_until_answered((replica,), body, asked) for replica in self._replicas.both]
        mine = asked == first.json["output"] if first.status == 200 else first.json["outcome"] == "unknown"
        return mine and [(first.status, first.body)] * 2 == [(each.status, each.body) for each in again]
