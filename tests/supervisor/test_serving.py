"""A supervisor and its workers as processes: shared port, operations port, graceful shutdown."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.supervisor.conftest import StartWorkers
from tests.supervisor.load import is_running, runs_by_worker, under_load, worker_pids
from tests.support.client import PROMPT_STUDIO_BODY, PostRun, auth_headers, post_run
from tests.support.fake_upstream.faults import delayed, hang
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess, metric_sum
from tests.support.waiting import wait_until

ANSWER = prompt_studio_reply({"completion": "because"})


async def status(session: aiohttp.ClientSession, url: str) -> int:
    """Return the status of the response."""
    async with session.get(url) as answer:
        await answer.read()
        return answer.status


async def status_or_0(session: aiohttp.ClientSession, url: str) -> int:
    """Return the status of the response; 0 without a listener."""
    try:
        return await status(session, url)
    except aiohttp.ClientConnectorError:
        return 0


async def wait_for_exit_code(gateway: GatewayProcess) -> int | None:
    """Return the exit code once the process has ended."""
    await wait_until(lambda: gateway.exit_code is not None)
    return gateway.exit_code


async def merged_metric(gateway: GatewayProcess, name: str = "runward_requests_total", **labels: str) -> float:
    """Return a sum of the merged metrics."""
    return metric_sum(await gateway.metrics(), name, **labels)


async def test_the_workers_share_the_requests_and_the_sums_are_exact(
    start_workers: StartWorkers, upstream: FakeUpstream
) -> None:
    """R92: every worker serves, and the sum of their counters equals the requests sent."""
    upstream.default = ANSWER
    gateway = await start_workers(3)
    async with under_load(gateway, 12) as load:
        await wait_until(lambda: len(runs_by_worker(gateway)) == 3 and load.answered > 100)
    sent = load.statuses.total()
    assert {200: sent} == load.statuses
    samples = await gateway.metrics()
    assert sent == metric_sum(samples, "runward_requests_total", route="run", status="200")
    assert sent == metric_sum(samples, "runward_runs_total", outcome="succeeded")
    assert sent == metric_sum(samples, "runward_run_duration_seconds_count")
    assert len(upstream.received) == metric_sum(samples, "runward_upstream_calls_total") == sent
    assert (0, 1) == (
        metric_sum(samples, "runward_requests_in_flight"),
        metric_sum(samples, "runward_build_info"),
    )


async def test_each_log_line_names_its_worker(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun
) -> None:
    """R91, R100: lines of the supervisor have no worker; `listening` is logged once all workers are ready."""
    upstream.default = ANSWER
    gateway = await start_workers(2)
    assert 200 == (await run(gateway, PROMPT_STUDIO_BODY)).status
    [listening] = gateway.logs("listening")
    assert (2, False) == (listening["workers"], "worker" in listening)
    assert {0, 1} == set(worker_pids(gateway))
    await wait_until(lambda: gateway.logs("request"))
    [line] = gateway.logs("request")
    assert line["worker"] in {0, 1}


async def test_a_killed_worker_is_replaced_while_the_others_serve(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """Only its requests in flight are lost; sums do not decrease, and lack at most the last heartbeat interval."""
    upstream.default = delayed(0.01, ANSWER)
    gateway = await start_workers(2)
    async with under_load(gateway, 8) as load:
        await wait_until(lambda: len(runs_by_worker(gateway)) == 2 and load.answered > 40)
        known = runs_by_worker(gateway)[1]  # a request is counted before its log line, so the sums include these
        before = await merged_metric(gateway, route="run")
        [victim] = worker_pids(gateway)[1]
        os.kill(victim, signal.SIGKILL)
        await wait_until(lambda: not is_running(victim))
        assert before <= await merged_metric(gateway, route="run")
        assert 200 == await status(session, gateway.ops_url + "/readyz")
        await wait_until(lambda: len(worker_pids(gateway)[1]) == 2)
        then = runs_by_worker(gateway)
        await wait_until(lambda: runs_by_worker(gateway)[0] > then[0] + 20)
    assert {200, 0} >= set(load.statuses)
    assert load.statuses[0] <= 8
    await wait_until(lambda: runs_by_worker(gateway).total() >= load.answered)
    lost_at_most = then[1] - known
    found = await merged_metric(gateway, route="run")
    assert load.answered - lost_at_most <= found <= load.statuses.total()
    assert 1 == await merged_metric(gateway, "runward_workers_lost_total")


async def test_the_counts_of_an_idle_worker_survive_its_end(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun
) -> None:
    """Counts of the last heartbeat before the kill are kept."""
    upstream.default = ANSWER
    gateway = await start_workers(2)
    for _ in range(20):
        assert 200 == (await run(gateway, PROMPT_STUDIO_BODY)).status
    assert 20 == await merged_metric(gateway, route="run")
    for [victim] in worker_pids(gateway).values():
        os.kill(victim, signal.SIGKILL)
    await wait_until(lambda: all(len(pids) == 2 for pids in worker_pids(gateway).values()))
    assert 20 == await merged_metric(gateway, route="run")
    assert 200 == (await run(gateway, PROMPT_STUDIO_BODY)).status
    assert 21 == await merged_metric(gateway, route="run")


async def test_a_drained_worker_hands_over_its_metrics(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun
) -> None:
    """SIGTERM to one worker: its run in flight is answered and counted, and the worker is restarted."""
    upstream.default = delayed(0.3, ANSWER)
    gateway = await start_workers(2)
    asking = [asyncio.create_task(run(gateway, PROMPT_STUDIO_BODY)) for _ in range(8)]
    await wait_until(lambda: len(upstream.received) == 8)
    for [pid] in worker_pids(gateway).values():
        os.kill(pid, signal.SIGTERM)
    assert {200} == {answered.status for answered in await asyncio.gather(*asking)}
    await wait_until(lambda: all(len(pids) == 2 for pids in worker_pids(gateway).values()))
    assert 8 == await merged_metric(gateway, route="run")


async def test_a_stop_fails_no_request(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """R97: readiness fails first while the port stays open; requests in flight are answered, exit code 0."""
    upstream.default = delayed(0.05, ANSWER)
    gateway = await start_workers(2, server={"drain": "1s"})
    async with under_load(gateway, 8) as load:
        await wait_until(lambda: load.answered > 40)
        os.kill(gateway.pid, signal.SIGTERM)
        while await status(session, gateway.ops_url + "/readyz") == 200:
            await asyncio.sleep(0.01)
        seen = load.answered
        await wait_until(lambda: load.answered > seen + 20)  # during drain the port is still open
        assert gateway.exit_code is None
    assert {200: load.statuses.total()} == load.statuses
    assert 0 == await wait_for_exit_code(gateway)
    assert not any(is_running(pid) for pids in worker_pids(gateway).values() for pid in pids)
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(session, gateway.url)


async def test_the_port_closes_while_the_last_run_goes_on(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R97: the port is closed, so that a new client is refused at once."""
    upstream.default = delayed(2.5, ANSWER)
    gateway = await start_workers(2)
    asking = asyncio.create_task(run(gateway, PROMPT_STUDIO_BODY))
    await wait_until(lambda: upstream.received)
    os.kill(gateway.pid, signal.SIGTERM)
    while await status_or_0(session, gateway.url + "/healthz"):
        await asyncio.sleep(0.01)
    assert (False, None) == (asking.done(), gateway.exit_code)
    assert (200, 0) == ((await asking).status, await wait_for_exit_code(gateway))


async def test_terminal_signals_reach_only_the_supervisor(start_workers: StartWorkers) -> None:
    """Ctrl-C is sent to the whole process group: workers would receive it twice."""
    gateway = await start_workers(2)
    pids = [gateway.pid, *(pid for [pid] in worker_pids(gateway).values())]
    assert 3 == len({os.getpgid(pid) for pid in pids} | {os.getpgid(gateway.pid)})


async def test_sighup_ends_no_process(start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun) -> None:
    """Sent to any of the processes."""
    upstream.default = ANSWER
    gateway = await start_workers(2)
    for pid in (gateway.pid, *(pid for [pid] in worker_pids(gateway).values())):
        os.kill(pid, signal.SIGHUP)
    for _ in range(4):
        assert 200 == (await run(gateway, PROMPT_STUDIO_BODY)).status
    assert 0 == await merged_metric(gateway, "runward_workers_lost_total")
    assert {0: 1, 1: 1} == {place: len(pids) for place, pids in worker_pids(gateway).items()}


@pytest.mark.parametrize("first", ["workers", "supervisor"])
async def test_a_sigterm_to_the_whole_control_group_drains(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun, first: str
) -> None:
    """As systemd sends it; for a worker it is not a request for an immediate exit."""
    upstream.default = delayed(2.5, ANSWER)
    gateway = await start_workers(2)
    asking = [asyncio.create_task(run(gateway, PROMPT_STUDIO_BODY)) for _ in range(8)]
    await wait_until(lambda: len(upstream.received) == 8)
    groups = [[pid for [pid] in worker_pids(gateway).values()], [gateway.pid]]
    for group in groups if first == "workers" else reversed(groups):
        for pid in group:
            os.kill(pid, signal.SIGTERM)
        await wait_until(lambda: len(gateway.logs("draining")) >= 2)
    assert {200} == {answered.status for answered in await asyncio.gather(*asking)}
    assert 0 == await wait_for_exit_code(gateway)


async def test_a_second_signal_ends_everything_at_once(
    start_workers: StartWorkers, upstream: FakeUpstream, run: PostRun
) -> None:
    """R98: without waiting for runs."""
    upstream.default = hang
    gateway = await start_workers(2, workflows={"studio": {"timeout": "10m", "max_timeout": "10m"}})
    asking = asyncio.create_task(run(gateway, {**PROMPT_STUDIO_BODY, "timeout": 600}))
    await wait_until(lambda: upstream.received)
    os.kill(gateway.pid, signal.SIGTERM)
    await wait_until(lambda: len(gateway.logs("draining")) == 3)
    assert gateway.exit_code is None
    os.kill(gateway.pid, signal.SIGTERM)
    assert 0 == await wait_for_exit_code(gateway)
    assert not any(is_running(pid) for pids in worker_pids(gateway).values() for pid in pids)
    await asyncio.gather(asking, return_exceptions=True)


async def test_workers_end_after_their_supervisor(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    """After SIGKILL of the supervisor, workers close the port, answer requests in flight, and exit."""
    upstream.default = delayed(0.7, ANSWER)
    gateway = await start_workers(2, server={"drain": "60s"})
    asking = [
        asyncio.create_task(post_run(session, gateway.url, PROMPT_STUDIO_BODY, auth_headers("one"))) for _ in range(8)
    ]
    await wait_until(lambda: len(upstream.received) == 8)
    os.kill(gateway.pid, signal.SIGKILL)
    assert {200} == {answered.status for answered in await asyncio.gather(*asking)}
    await wait_until(lambda: not any(is_running(pid) for pids in worker_pids(gateway).values() for pid in pids))
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(session, gateway.url)


async def test_a_hanging_worker_does_not_delay_health_checks(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession, run: PostRun
) -> None:
    """Its last values stay in the sums; one of two workers suffices for readiness, none fails liveness."""
    upstream.default = ANSWER
    gateway = await start_workers(2)
    assert 200 == (await run(gateway, PROMPT_STUDIO_BODY)).status
    assert 1 == await merged_metric(gateway, route="run")
    pids = [pid for [pid] in worker_pids(gateway).values()]
    seen = []
    for stopped in (1, 2):
        os.kill(pids[stopped - 1], signal.SIGSTOP)
        assert 1 == await merged_metric(gateway, route="run")
        seen.append([await status(session, gateway.ops_url + path) for path in ("/healthz", "/readyz")])
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert [[200, 200], [503, 503]] == seen
    async with asyncio.timeout(30):
        while await status(session, gateway.ops_url + "/readyz") != 200:
            await asyncio.sleep(0.05)


async def test_a_worker_has_nothing_open_that_is_not_its_own(start_workers: StartWorkers) -> None:
    """Only its channel and the port: a copy of another channel would hide the supervisor's end from that worker."""
    gateway = await start_workers(3)

    def sockets(pid: int) -> set[str]:
        opened = (str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir())
        return {target for target in opened if target.startswith("socket:")}

    held = [sockets(pid) for [pid] in worker_pids(gateway).values()]
    [port] = set.intersection(*held)
    assert port in sockets(gateway.pid)
    assert all(not (sockets(gateway.pid) & own) - {port} for own in held)


async def test_the_operations_port_has_what_a_single_gateway_has_there(
    start_workers: StartWorkers, session: aiohttp.ClientSession
) -> None:
    """Including the document and its page; no run can be started there."""
    gateway = await start_workers(2)
    paths = {"/metrics": 200, "/healthz": 200, "/readyz": 200, "/docs": 200, "/openapi.json": 200, "/run": 404}
    paths |= {"/callbacks": 200, "/callbacks/replay/run_a": 405}
    assert paths == {path: await status(session, gateway.ops_url + path) for path in paths}
    assert 1 == await merged_metric(gateway, route="openapi")
