"""Access to the ports of a gateway with workers: TLS, and keys of the supervisor's operations port."""

from __future__ import annotations

from pathlib import Path

import aiohttp

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.app.tls_harness import HOST, TestAuthority
from tests.supervisor.conftest import StartWorkers
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.config_files import write_gateway_config
from tests.support.fake_upstream.provider_responses import prompt_studio_reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.waiting import wait_until

DONE = prompt_studio_reply({"completion": "because"})


async def test_ports_of_workers_and_supervisor_use_tls_and_operations_keys(
    start_workers: StartWorkers, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Certificates and keys are reloaded on both."""
    upstream.default = DONE
    directory = tmp_path / "tls"
    directory.mkdir()
    authority = TestAuthority.create(directory)
    first, second = (new_key(SystemClock()) for _ in range(2))
    tls = authority.server_config()
    gateway = await start_workers(2, server={"tls": tls, "ops_keys": [{"hash": hash_key(first)}]})
    context = authority.client_context()
    connector = aiohttp.TCPConnector(force_close=True, ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ops_status(path: str, key: str = "") -> int:
            async with session.get(gateway.ops_url + path, headers={"X-API-KEY": key} if key else {}) as answer:
                return answer.status

        async with session.post(
            gateway.url + "/run", json=dict(PROMPT_STUDIO_BODY), headers=auth_headers("one")
        ) as answer:
            assert 200 == answer.status
        assert 200 == await ops_status("/healthz")
        assert 401 == await ops_status("/metrics")
        assert 200 == await ops_status("/metrics", first)
        async with session.post(gateway.ops_url + "/api/session", json={"key": first}) as answer:
            assert answer.headers["Set-Cookie"].endswith("; HttpOnly; SameSite=Strict; Secure")
        session.cookie_jar.clear()
        write_gateway_config(gateway, upstream.url, server={"tls": tls, "ops_keys": [{"hash": hash_key(second)}]})
        await wait_until(lambda: 2 <= len(gateway.logs("reloaded")))
        statuses: list[int] = []
        while 200 not in statuses:  # the supervisor reads the file by itself
            statuses.append(await ops_status("/metrics", second))
        assert 401 == await ops_status("/metrics", first)
        authority.issue("server", HOST)
        await wait_until(lambda: 4 <= len(gateway.logs("reloaded")))
        assert 200 == await ops_status("/healthz")
    assert [] == gateway.logs("reload_refused")
