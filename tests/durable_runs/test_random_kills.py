"""Random kills: the durability guarantees hold for every run after repeated SIGKILL at random moments.

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

from tests.support.callback_receiver import CALLBACK_PATH, delivered_run, deliveries
from tests.support.counting_providers import CountingProviders
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import RestartableGateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import ReceivedResponse

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("RUNWARD_KILLS", "25"))
MAX_LIFETIME = 0.5  # seconds: some kills come before the first request, some after the last answer


@pytest.fixture
async def receiver() -> AsyncIterator[FakeUpstream]:
    """A receiver that accepts callbacks at the second attempt."""
    async with FakeUpstream() as running:
        running.default = reply(204)
        yield running


@dataclass(slots=True)
class ClientObservations:
    """Responses that clients received: accepted runs, and the responses of each key, by request."""

    accepted: dict[str, str] = field(default_factory=dict)
    keyed: dict[str, str] = field(default_factory=dict)
    answers: dict[str, ReceivedResponse] = field(default_factory=dict)


@dataclass(slots=True)
class RandomClients:
    """Clients that submit runs to a gateway that may be killed at any moment."""

    restartable: RestartableGateway
    callback_url: str
    observed: ClientObservations = field(default_factory=ClientObservations)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def submit_all(self) -> None:
        """Submit two asynchronous runs and two synchronous ones with keys for each provider."""
        submissions = (self.submit_async, self.submit_and_wait) * 2
        await asyncio.gather(*(submit(workflow) for workflow in ("studio", "layer") for submit in submissions))

    async def submit_async(self, workflow: str) -> None:
        """Submit a run with a callback."""
        body = self._new_request(workflow)
        answered = await self._post({**body, "callback_url": self.callback_url})
        if answered is not None:
            assert 202 == answered.status, answered.body
            self.observed.accepted[question_of(body)] = str(answered.json["id"])

    async def submit_and_wait(self, workflow: str) -> None:
        """Submit a run with a key, and wait for its response."""
        body = self._new_request(workflow)
        self.observed.keyed[question_of(body)] = workflow
        answered = await self._post(body, Idempotency_Key=question_of(body))
        if answered is not None:
            self.observed.answers[question_of(body)] = answered

    async def replay_keys(self) -> list[str]:
        """Repeat each key once; returns the inputs with a different answer or the output of another run."""
        wrong = []
        for key_question, workflow in self.observed.keyed.items():
            answered = await self.restartable.post_until_finished(
                {"workflow": workflow, "input": {"question": key_question}}, key_question
            )
            before = self.observed.answers.get(key_question, answered)
            same = (before.status, before.body) == (answered.status, answered.body)
            is_own_output = (
                key_question == answered.json["output"]
                if answered.status == 200
                else answered.json["outcome"] == "unknown"
            )
            if not (same and is_own_output):
                wrong.append(key_question)
        return wrong

    def _new_request(self, workflow: str) -> dict[str, JsonValue]:
        return {"workflow": workflow, "input": {"question": f"question {next(self._numbers)}"}}

    async def _post(self, body: dict[str, JsonValue], **headers: str) -> ReceivedResponse | None:
        await asyncio.sleep(random.uniform(0, MAX_LIFETIME / 2))
        try:
            return await self.restartable.post(body, **headers)
        except aiohttp.ClientError:
            return None  # the gateway is gone


def question_of(body: dict[str, JsonValue]) -> str:
    """Return the unique input of a request."""
    run_input = body["input"]
    assert isinstance(run_input, dict)
    return str(run_input["question"])


async def kill_at_random(restartable: RestartableGateway) -> None:
    """Kill a gateway within the first moments after its start."""
    await asyncio.sleep(random.uniform(0, MAX_LIFETIME))
    assert -9 == await restartable.current.kill()


async def test_random_kills_neither_lose_nor_repeat_a_run(
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """R44, R47, R48, R49, R55: started at most once, ended, called back under one id, same answer for its key."""
    providers = CountingProviders(upstream, max_start_seconds=0.1, max_run_seconds=0.4)
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    clients = RandomClients(restartable, receiver.url + CALLBACK_PATH)
    receiver.script("POST", CALLBACK_PATH, [reply(500)] * KILLS)
    for _ in range(KILLS):
        await restartable.start()
        await asyncio.gather(clients.submit_all(), kill_at_random(restartable))
    await restartable.start()

    assert [] == await clients.replay_keys()
    runs = {run_id: await restartable.wait_for_end(run_id) for run_id in clients.observed.accepted.values()}
    assert {"succeeded", "unknown"} >= {run["status"] for run in runs.values()}
    for key_question, run_id in clients.observed.accepted.items():
        if runs[run_id]["status"] == "succeeded":
            assert (key_question, 1) == (runs[run_id]["output"], providers.starts[key_question])
    assert [{"state": "delivered"}] * len(runs) == [await restartable.wait_for_callback(run_id) for run_id in runs]
    assert {1} >= set(providers.starts.values())
    assert [] == contradictions(receiver, runs)


def contradictions(receiver: FakeUpstream, runs: dict[str, dict[str, JsonValue]]) -> list[str]:
    """Return runs with callbacks of several ids, of an end that differs from `GET /runs/{id}`, or without one."""
    heard: dict[str, set[tuple[str | None, bytes]]] = {run_id: set() for run_id in runs}
    statuses: dict[str, set[JsonValue]] = {run_id: set() for run_id in runs}
    for delivery in deliveries(receiver):
        run_id = str(delivered_run(delivery)["id"])
        if run_id in runs:  # the others' clients were cut off before they had their 202
            heard[run_id].add((delivery.header("webhook-id"), delivery.body))
            statuses[run_id].add(delivered_run(delivery)["status"])
    return [
        run_id
        for run_id, run in runs.items()
        if {f"msg_{run_id}"} != {message_id for message_id, _ in heard[run_id]}
        or len(heard[run_id]) != 1
        or statuses[run_id] != {run["status"]}
    ]
