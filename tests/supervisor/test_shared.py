"""`runward serve --workers` as it is used: the command, and a real server in which workers find each other."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.client import STUDIO, RunWorkflow, bearer
from tests.configuration import SECRETS
from tests.conftest import StartGateway
from tests.faults.faults import after
from tests.faults.provider_answers import prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import total
from tests.supervisor.load import lives, served, under_load, until, workers
from tests.valkey import Valkey, running_server

ANSWER = prompt_studio_reply({"completion": "because"})
WORKERS = {**SECRETS, "RUNWARD_WORKERS": "2"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own."""
    with running_server(tmp_path / "valkey") as server:
        yield server


async def test_a_run_is_found_by_every_worker(
    valkey: Valkey, upstream: Upstream, gateway: StartGateway, run: RunWorkflow
) -> None:
    """Each request comes over a new connection: whichever worker takes it knows of the run, and of its end."""
    upstream.default = after(0.2, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    accepted = await run(running, STUDIO, Prefer="respond-async")
    assert 202 == accepted.status

    async def look() -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(headers=bearer("one")) as own,
            own.get(f"{running.url}/runs/{accepted.json['id']}") as answer,
        ):
            document = await answer.json()
            return answer.status, document["status"]

    def looked() -> set[object]:
        return {line["worker"] for line in running.logs("request") if line["route"] == "runs"}

    async with asyncio.timeout(30):
        while len(looked()) < 2 or (200, "succeeded") != await look():
            seen = await asyncio.gather(*(look() for _ in range(8)))
            assert {200} == {status for status, _ in seen}
    assert 1 == len(upstream.log)


async def test_a_key_starts_one_run_whichever_worker_has_it(
    valkey: Valkey, upstream: Upstream, gateway: StartGateway
) -> None:
    """R38: a hundred requests at once with one idempotency key, spread over both workers."""
    upstream.default = after(0.3, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})

    answers: list[int] = []

    async def one() -> None:
        headers = {**bearer("one"), "Idempotency-Key": "k"}
        body = dict(STUDIO)
        async with aiohttp.ClientSession() as own, own.post(running.url + "/run", json=body, headers=headers) as answer:
            await answer.read()
            answers.append(answer.status)

    async with asyncio.timeout(30):
        while len(served(running)) < 2:  # one of them may take all that come at once
            await asyncio.gather(*(one() for _ in range(50)))
    assert {200, 409} >= set(answers) >= {200}
    assert 1 == len(upstream.log)


async def test_killed_under_load_and_stopped_under_load(
    valkey: Valkey, upstream: Upstream, gateway: StartGateway
) -> None:
    """R92, R97: one worker is killed, the others serve; then a stop that fails nobody; exit code 0."""
    upstream.default = after(0.01, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    async with under_load(running) as load:
        await until(lambda: len(served(running)) == 2 and load.answered > 40)
        [victim] = workers(running)[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: not lives(victim) and len(workers(running)[0]) == 2)
        failed = load.statuses[0]
        await until(lambda: load.answered > 200)
        assert 1 == total(await running.metrics(), "runward_workers_lost_total")
        os.kill(running.pid, signal.SIGTERM)
        await until(lambda: running.logs("draining"))
    assert failed <= 8
    assert {200: load.answered, 0: failed} == {0: 0} | load.statuses
    await until(lambda: running.exit_code is not None)
    assert 0 == running.exit_code
