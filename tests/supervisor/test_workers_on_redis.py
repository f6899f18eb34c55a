"""`runward serve --workers` with a real server as the shared store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter

import aiohttp

from tests.conftest import StartGateway
from tests.supervisor.load import is_running, runs_by_worker, under_load, worker_pids
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, message_ids
from tests.support.client import PROMPT_STUDIO_BODY, PostRun, auth_headers, post_run
from tests.support.config_files import write_gateway_config
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.faults import delayed
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import CALLBACK_SECRETS, CALLBACK_SETTINGS
from tests.support.key_administration import KeyAdministration
from tests.support.operations_port import get_providers, set_mode
from tests.support.process import ROOT, GatewayProcess, metric_sum
from tests.support.valkey import ValkeyServer, start_server
from tests.support.waiting import WAIT_TIMEOUT, wait_until

ANSWER = prompt_studio_reply({"completion": "because"})
WORKERS = {**PROVIDER_SECRETS, "RUNWARD_WORKERS": "2"}


async def test_a_run_is_found_by_every_worker(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """Every request uses a new connection; any worker knows the run and its end."""
    upstream.default = delayed(0.2, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    accepted = await run(running, PROMPT_STUDIO_BODY, Prefer="respond-async")
    assert 202 == accepted.status

    async def look() -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(headers=auth_headers("one")) as own,
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
    assert 1 == len(upstream.received)


async def test_a_key_starts_one_run_whichever_worker_has_it(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway
) -> None:
    """R38, R45: a hundred concurrent requests with one key, spread over both workers."""
    upstream.default = delayed(0.3, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})

    answers: list[int] = []

    async def one() -> None:
        headers = {**auth_headers("one"), "Idempotency-Key": "k"}
        body = dict(PROMPT_STUDIO_BODY)
        async with aiohttp.ClientSession() as own, own.post(running.url + "/run", json=body, headers=headers) as answer:
            await answer.read()
            answers.append(answer.status)

    async with asyncio.timeout(30):
        while len(runs_by_worker(running)) < 2:  # lines of the log may follow the answers
            await asyncio.gather(*(one() for _ in range(50)))
    assert {200, 409} >= set(answers) >= {200}
    assert 1 == len(upstream.received)


async def test_a_replaced_worker_uses_the_store_of_the_others(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R38, R45: a changed store in the file takes effect only after a restart of the gateway."""
    upstream.default = ANSWER
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="k")).status
    write_gateway_config(running, upstream.url, store={"url": "memory://"})
    await wait_until(lambda: {0, 1} == {line["worker"] for line in running.logs("needs_restart")})
    for [pid] in worker_pids(running).values():
        os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: all(len(pids) == 2 for pids in worker_pids(running).values()))
    for _ in range(6):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as own:
            again = await post_run(
                own, running.url, PROMPT_STUDIO_BODY, {**auth_headers("one"), "Idempotency-Key": "k"}
            )
        assert (200, "true") == (again.status, again.headers.get("Idempotent-Replayed"))
    assert 1 == len(upstream.received)


async def test_a_dead_letter_can_be_redelivered(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R55: `runward callbacks replay` calls the supervisor's port, and any worker delivers the same message again."""
    upstream.default = ANSWER
    async with FakeUpstream() as receiver:
        receiver.default = reply(204)
        receiver.script("POST", CALLBACK_PATH, [reply(410)])
        running = await gateway(
            env={**WORKERS, **CALLBACK_SECRETS}, store={"url": valkey.url}, callbacks=dict(CALLBACK_SETTINGS)
        )
        accepted = await run(
            running, {**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH}, Prefer="respond-async"
        )
        assert 202 == accepted.status
        await wait_until(lambda: running.logs("callback_given_up"))
        async with asyncio.timeout(WAIT_TIMEOUT):
            while "" == (said := await replay_callbacks(running, "--given-up")):
                await asyncio.sleep(0.05)
        assert f"{accepted.json['id']}\n" == said
        await wait_until(lambda: len(deliveries(receiver)) == 2)
        assert {f"msg_{accepted.json['id']}"} == message_ids(receiver)
        assert "" == await replay_callbacks(running, "--given-up")
        [line] = running.logs("callback_replayed")
        assert (accepted.json["id"], False) == (line["run_id"], "worker" in line)


async def replay_callbacks(gateway: GatewayProcess, *arguments: str) -> str:
    """Run `runward callbacks replay`; returns its output, asserts success."""
    command = [sys.executable, "-m", "gateway", "callbacks", "replay", *arguments, "--ops-url", gateway.ops_url]
    result = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert 0 == result.returncode, result.stderr
    return result.stdout


async def test_a_lost_server_is_reported_and_recovers(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R54, R99: readiness stays 200, as runs without a store continue; its body reports the failure."""
    upstream.default = ANSWER
    running = await gateway(env=WORKERS, store={"url": valkey.url})

    async def ready() -> tuple[int, object]:
        async with session.get(running.ops_url + "/readyz") as answer:
            return answer.status, await answer.json()

    async def callbacks() -> int:
        async with session.get(running.ops_url + "/callbacks") as answer:
            await answer.read()
            return answer.status

    async def until_ready(**document: str) -> None:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while (200, document) != await ready():
                await asyncio.sleep(0.05)

    await until_ready(status="ready")
    valkey.kill()
    await until_ready(status="ready", store="unavailable")
    assert (503, 200) == (await callbacks(), (await run(running, PROMPT_STUDIO_BODY)).status)
    again = start_server(valkey.directory, port=valkey.port)
    try:
        await until_ready(status="ready")
        assert 200 == await callbacks()
        again.kill()
        await until_ready(status="ready", store="unavailable")
        assert 503 == await callbacks()
    finally:
        again.kill()


async def test_killed_under_load_and_stopped_under_load(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway
) -> None:
    """R92, R97: one worker is killed, the others serve; then a graceful shutdown; exit code 0."""
    upstream.default = delayed(0.01, ANSWER)
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    async with under_load(running) as load:
        await wait_until(lambda: len(runs_by_worker(running)) == 2 and load.answered > 40)
        [victim] = worker_pids(running)[0]
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: not is_running(victim) and len(worker_pids(running)[0]) == 2)
        failed = load.statuses[0]
        await wait_until(lambda: load.answered > 200)
        assert 1 == metric_sum(await running.metrics(), "runward_workers_lost_total")
        os.kill(running.pid, signal.SIGTERM)
        await wait_until(lambda: running.logs("draining"))
    assert failed <= 8
    assert {200: load.answered, 0: failed} == {0: 0} | load.statuses
    await wait_until(lambda: running.exit_code is not None)
    assert 0 == running.exit_code


async def test_a_provider_is_suspended_in_every_worker(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """By the operations port of the supervisor; the metric is 1, not the number of workers."""
    upstream.default = ANSWER
    running = await gateway(env=WORKERS, store={"url": valkey.url})

    async def ask() -> int:
        async with aiohttp.ClientSession() as own:  # a connection of its own: any worker answers
            return (await post_run(own, running.url, PROMPT_STUDIO_BODY, auth_headers("one"))).status

    async def statuses() -> set[int]:
        return set(await asyncio.gather(*(ask() for _ in range(8))))

    assert {200} == await statuses()
    await set_mode(session, running.ops_url, "prompt_studio", "suspended")
    async with asyncio.timeout(WAIT_TIMEOUT):
        while metric_sum(await running.metrics(), "runward_provider_override", mode="suspended") < 1:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2)  # a worker may be busy
    starts = len(upstream.received)
    for _ in range(3):
        assert {503} == await statuses()
    assert starts == len(upstream.received)
    assert 1 == metric_sum(await running.metrics(), "runward_provider_override", mode="suspended")
    shown = (await get_providers(session, running.ops_url))["prompt_studio"]
    assert ("suspended", {"studio": "closed"}) == (shown["mode"], shown["circuits"])
    await set_mode(session, running.ops_url, "prompt_studio", "auto")
    async with asyncio.timeout(WAIT_TIMEOUT):
        while {200} != await statuses():
            await asyncio.sleep(0.05)
    async with session.post(f"{running.ops_url}/providers/override/other", json={"mode": "open"}) as answer:
        assert 404 == answer.status


async def test_a_stored_key_holds_at_every_worker(
    valkey: ValkeyServer, upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """Created and revoked at the supervisor's port, within two seconds; the last use is known a moment later."""
    upstream.default = ANSWER
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    keys = KeyAdministration(session, running)
    created = await keys.create(workflows=["studio"])
    assert (True, None, "store") == await keys.check(created["key"])
    for status, act in ((200, None), (401, "revoke")):
        if act is not None:
            await keys.change(created["id"], act)
        await asyncio.sleep(2)
        before = len(running.logs("request"))
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len({line["worker"] for line in running.logs("request")[before:]}) < 2:
                headers = {"Authorization": f"Bearer {created['key']}"}
                async with aiohttp.ClientSession() as own:
                    answered = await post_run(own, running.url, PROMPT_STUDIO_BODY, headers)
                assert status == answered.status
    async with asyncio.timeout(2 * WAIT_TIMEOUT):  # written every ten seconds
        while (await keys.send("GET", f"/{created['id']}"))[1]["last_used"] is None:
            await asyncio.sleep(0.5)
        while metric_sum(await running.metrics(), "runward_keys", state="revoked") != 1:  # not that of each worker
            await asyncio.sleep(0.5)


async def test_the_supervisor_and_its_workers_build_one_chain_of_audit_records(
    valkey: ValkeyServer, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """Starts of the workers, acts of operators at the supervisor, reloads and drains; verified by the command."""
    running = await gateway(env=WORKERS, store={"url": valkey.url})
    await asyncio.gather(*(set_mode(session, running.ops_url, "promptlayer", mode) for mode in ("open", "closed") * 5))
    running.send_sighup()

    async def listed() -> list[tuple[str, str]]:
        async with session.get(f"{running.ops_url}/api/audit?limit=500&order=oldest") as answer:
            records = (await answer.json())["records"]
        assert [*range(1, len(records) + 1)] == [each["sequence"] for each in records]
        return [(each["action"], each["result"]) for each in records]

    expected = {
        ("gateway.start", "succeeded"): 2,
        ("providers.override", "begun"): 10,
        ("providers.override", "succeeded"): 10,
        ("configuration.reload", "begun"): 2,
        ("configuration.reload", "succeeded"): 2,
    }
    async with asyncio.timeout(WAIT_TIMEOUT):
        while Counter(await listed()) != expected:
            await asyncio.sleep(0.05)
    command = [sys.executable, "-m", "gateway", "audit", "verify", "--ops-url", running.ops_url]
    verified = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "verified: 26 records, from 1 to 26") == (verified.returncode, verified.stdout.splitlines()[0])
