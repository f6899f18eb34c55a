"""A configuration that changes reaches every worker, by itself or by a signal to the supervisor (R100)."""

from __future__ import annotations

import aiohttp

from providers.contract import JsonValue
from tests.client import STUDIO, bearer, post_run
from tests.faults.provider_answers import prompt_studio_reply
from tests.faults.upstream import Upstream
from tests.process import Gateway, total
from tests.reload.changing import configure, replace
from tests.supervisor.conftest import StartTeam
from tests.supervisor.load import until, workers

NEW: dict[str, JsonValue] = {"fresh": {"provider": "prompt_studio", "name": "dep_fresh"}}
PLACES = {0, 1, 2}


async def everywhere(gateway: Gateway, event: str, times: int) -> None:
    """Wait until each worker has said it so often."""

    def said() -> bool:
        places = [line["worker"] for line in gateway.logs(event)]
        return all(places.count(place) >= times for place in PLACES)

    await until(said)


async def statuses(gateway: Gateway) -> set[int]:
    """How the new workflow is answered, over new connections, until every worker was asked."""
    found: set[int] = set()
    before = len(gateway.logs("request"))

    def asked() -> set[object]:
        return {line["worker"] for line in gateway.logs("request")[before:] if line["route"] == "run"}

    while asked() != PLACES:
        async with aiohttp.ClientSession() as session:
            answered = await post_run(session, gateway.url, {**STUDIO, "workflow": "fresh"}, bearer("one"))
        found.add(answered.status)
    return found


async def test_a_hangup_reaches_every_worker(team: StartTeam) -> None:
    """Whether anything has changed or not; nobody is lost over it."""
    gateway = await team(3)
    gateway.hang_up()
    await everywhere(gateway, "reloaded", 1)
    samples = await gateway.metrics()
    assert (3, 0) == (
        total(samples, "runward_config_reloads_total", result="applied"),
        total(samples, "runward_workers_lost_total"),
    )
    assert dict.fromkeys(PLACES, 1) == {place: len(pids) for place, pids in workers(gateway).items()}


async def test_a_changed_file_reaches_every_worker(team: StartTeam, upstream: Upstream) -> None:
    """Each watches for itself: a new workflow can be run at all of them, and is gone at all of them again."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    gateway = await team(3)
    assert {404} == await statuses(gateway)
    configure(gateway, upstream.url, workflows=NEW)
    await everywhere(gateway, "reloaded", 1)
    assert {200} == await statuses(gateway)
    configure(gateway, upstream.url)
    await everywhere(gateway, "reloaded", 2)
    assert {404} == await statuses(gateway)


async def test_a_wrong_file_is_seen_in_the_metrics_of_all(team: StartTeam, upstream: Upstream) -> None:
    """And changes nothing; once it is right, all is well."""
    gateway = await team(3)
    replace(gateway.config, "server: {")
    await everywhere(gateway, "reload_refused", 1)
    samples = await gateway.metrics()
    assert 0 == total(samples, "runward_config_last_reload_success")
    assert 3 == total(samples, "runward_config_reloads_total", result="refused")
    assert {404} == await statuses(gateway)
    configure(gateway, upstream.url)
    await everywhere(gateway, "reloaded", 1)
    assert 1 == total(await gateway.metrics(), "runward_config_last_reload_success")
