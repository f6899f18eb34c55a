"""Hot reload of every worker, after a file change or a signal to the supervisor (R100)."""

from __future__ import annotations

import aiohttp

from providers.contract import JsonValue
from tests.supervisor.conftest import StartWorkers
from tests.supervisor.load import worker_pids
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.config_files import replace_file, write_gateway_config
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess, metric_sum
from tests.support.waiting import wait_until

NEW: dict[str, JsonValue] = {"fresh": {"provider": "prompt_studio", "name": "dep_fresh"}}
WORKER_INDEXES = {0, 1, 2}


async def wait_for_event_in_all_workers(gateway: GatewayProcess, event: str, times: int) -> None:
    """Wait until each worker has logged the event this number of times."""

    def said() -> bool:
        indexes = [line["worker"] for line in gateway.logs(event)]
        return all(indexes.count(place) >= times for place in WORKER_INDEXES)

    await wait_until(said)


async def statuses(gateway: GatewayProcess) -> set[int]:
    """Return the statuses of the new workflow over new connections, until every worker has responded."""
    found: set[int] = set()
    before = len(gateway.logs("request"))

    def asked() -> set[object]:
        return {line["worker"] for line in gateway.logs("request")[before:] if line["route"] == "run"}

    while asked() != WORKER_INDEXES:
        async with aiohttp.ClientSession() as session:
            answered = await post_run(
                session, gateway.url, {**PROMPT_STUDIO_BODY, "workflow": "fresh"}, auth_headers("one")
            )
        found.add(answered.status)
    return found


async def test_sighup_reaches_every_worker(start_workers: StartWorkers) -> None:
    """With or without a change; no worker is lost."""
    gateway = await start_workers(3)
    gateway.send_sighup()
    await wait_for_event_in_all_workers(gateway, "reloaded", 1)
    samples = await gateway.metrics()
    assert (3, 0) == (
        metric_sum(samples, "runward_config_reloads_total", result="applied"),
        metric_sum(samples, "runward_workers_lost_total"),
    )
    assert dict.fromkeys(WORKER_INDEXES, 1) == {place: len(pids) for place, pids in worker_pids(gateway).items()}


async def test_a_changed_file_reaches_every_worker(start_workers: StartWorkers, upstream: FakeUpstream) -> None:
    """Each worker watches the files: a workflow is added to all of them, and removed again."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    gateway = await start_workers(3)
    assert {404} == await statuses(gateway)
    write_gateway_config(gateway, upstream.url, workflows=NEW)
    await wait_for_event_in_all_workers(gateway, "reloaded", 1)
    assert {200} == await statuses(gateway)
    write_gateway_config(gateway, upstream.url)
    await wait_for_event_in_all_workers(gateway, "reloaded", 2)
    assert {404} == await statuses(gateway)


async def test_an_invalid_file_is_in_the_metrics_of_all_workers(
    start_workers: StartWorkers, upstream: FakeUpstream
) -> None:
    """It changes nothing; a corrected file is applied."""
    gateway = await start_workers(3)
    replace_file(gateway.config, "server: {")
    await wait_for_event_in_all_workers(gateway, "reload_refused", 1)
    samples = await gateway.metrics()
    assert 0 == metric_sum(samples, "runward_config_last_reload_success")
    assert 3 == metric_sum(samples, "runward_config_reloads_total", result="refused")
    assert {404} == await statuses(gateway)
    write_gateway_config(gateway, upstream.url)
    await wait_for_event_in_all_workers(gateway, "reloaded", 1)
    assert 1 == metric_sum(await gateway.metrics(), "runward_config_last_reload_success")
