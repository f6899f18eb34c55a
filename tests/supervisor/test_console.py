"""The console of a gateway with workers: figures of all of them, and sessions that outlast a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.api.admin.test_overview import check_figures
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.config_files import write_gateway_config
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.supervisor.conftest import StartWorkers
    from tests.support.fake_upstream.upstream import FakeUpstream


async def test_the_supervisor_counts_the_runs_of_all_workers(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    gateway = await start_workers(2)
    for _ in range(3):
        headers = {**auth_headers("one"), "Connection": "close"}
        async with session.post(gateway.url + "/run", json=dict(PROMPT_STUDIO_BODY), headers=headers) as answer:
            assert 200 == answer.status
    await check_figures(session, gateway, workers=2)


async def test_a_session_ends_when_a_reload_removes_its_key(
    start_workers: StartWorkers, upstream: FakeUpstream, session: aiohttp.ClientSession
) -> None:
    first, second = (new_key(SystemClock()) for _ in range(2))
    gateway = await start_workers(1, server={"ops_keys": [{"hash": hash_key(key)} for key in (first, second)]})
    cookies: list[dict[str, str]] = []
    for key in (first, second):
        async with session.post(gateway.ops_url + "/api/session", json={"key": key}) as answer:
            assert 204 == answer.status
            cookies.append({"Cookie": "runward_session=" + answer.cookies["runward_session"].value})
    session.cookie_jar.clear()

    async def statuses() -> list[int]:
        found: list[int] = []
        for cookie in cookies:
            async with session.get(gateway.ops_url + "/api/session", headers=cookie) as answer:
                found.append(answer.status)
        return found

    assert [200, 200] == await statuses()
    write_gateway_config(gateway, upstream.url, server={"ops_keys": [{"hash": hash_key(second), "role": "viewer"}]})
    await wait_until(lambda: 1 <= len(gateway.logs("reloaded")))
    while [401, 200] != await statuses():  # the supervisor reads the file by itself
        pass
    async with session.get(gateway.ops_url + "/api/session", headers=cookies[1]) as answer:
        assert "viewer" == (await answer.json())["role"]
