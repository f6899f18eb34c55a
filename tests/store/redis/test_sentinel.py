"""Store whose primary Sentinel names: before and after a failover, with passwords."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from gateway.clock import SystemClock
from gateway.store.contract import StoreUnavailable
from gateway.store.factory import RedisAccess, create_store
from tests.store.samples import SAMPLE_RUN
from tests.support.valkey import ValkeyServer, bundled_server, free_port, start_server

pytestmark = pytest.mark.process

_PASSWORD, _SENTINEL_PASSWORD = "server-password", "sentinel-password"
_TIMEOUT = 30.0
_CONFIG = """
port {port}
bind 127.0.0.1
requirepass {sentinel_password}
sentinel monitor orders 127.0.0.1 {primary} 1
sentinel auth-pass orders {password}
sentinel down-after-milliseconds orders 300
sentinel failover-timeout orders 2000
"""


@dataclass
class Deployment:
    """A primary, its replica, and the URL at a Sentinel process that watches them."""

    primary: ValkeyServer
    replica: ValkeyServer
    url: str


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """A deployment in which the replica has been found and is up to date."""
    with ExitStack() as stack:
        options = ("--requirepass", _PASSWORD, "--masterauth", _PASSWORD, "--repl-diskless-sync-delay", "0")
        primary = start_server(tmp_path / "primary", *options)
        stack.callback(primary.kill)
        replica = start_server(tmp_path / "replica", *options, "--replicaof", "127.0.0.1", str(primary.port))
        stack.callback(replica.kill)
        port, config = free_port(), tmp_path / "sentinel.conf"
        config.write_text(
            _CONFIG.format(port=port, primary=primary.port, password=_PASSWORD, sentinel_password=_SENTINEL_PASSWORD)
        )
        command = [bundled_server(), str(config), "--sentinel", "--logfile", str(tmp_path / "sentinel.log")]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        _wait_for_replica(port)
        unused = free_port()
        yield Deployment(primary, replica, f"redis+sentinel://127.0.0.1:{unused},127.0.0.1:{port}/orders/1")


def _wait_for_replica(port: int) -> None:
    end = time.monotonic() + _TIMEOUT
    with redis.Redis(port=port, password=_SENTINEL_PASSWORD) as client:
        while True:
            try:
                replicas = client.sentinel_slaves("orders")
                if replicas and replicas[0]["master-link-status"] == "ok":
                    return
            except redis.ConnectionError:
                pass
            assert time.monotonic() < end, "the replica was not found"
            time.sleep(0.05)


async def test_a_failover_is_followed(deployment: Deployment) -> None:
    access = RedisAccess(SecretStr(_PASSWORD), SecretStr(_SENTINEL_PASSWORD))
    store = create_store(deployment.url, SystemClock(), access)
    await store.open()
    await store.create_run(SAMPLE_RUN, None)
    with redis.Redis(port=deployment.primary.port, password=_PASSWORD, db=1) as client:
        assert client.wait(1, 5000) == 1
    deployment.primary.kill()
    found = None
    async with asyncio.timeout(_TIMEOUT):
        while found is None:
            try:
                await store.ping()
                found = await store.get_run(SAMPLE_RUN.id)
            except StoreUnavailable:
                await asyncio.sleep(0.1)
    assert SAMPLE_RUN == found
    assert not store.failing
    await store.close()


async def test_a_name_that_sentinel_does_not_know_is_unavailable(deployment: Deployment) -> None:
    access = RedisAccess(SecretStr(_PASSWORD), SecretStr(_SENTINEL_PASSWORD))
    store = create_store(deployment.url.replace("/orders/", "/payments/"), SystemClock(), access)
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await store.open()
    await store.close()
