"""Pool of running gateways: a process that one test has left idle serves the next test with the same configuration.

A start costs a second of CPU, a lease some milliseconds. Tests opt in by the marker `shared_gateway`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
from typing import TYPE_CHECKING

import aiohttp

from tests.support.client import auth_headers
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config, merged
from tests.support.process import GatewayProcess, metric_sum, start_gateway

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from providers.contract import JsonValue

_SHARED_DEFAULTS: Mapping[str, JsonValue] = {"breaker": {"failures": 10_000}}
"""The failures of one test must not open the circuit breaker of the next."""
_IDLE_TIMEOUT = 1.0  # seconds that a gateway has to end its runs after its test, before it is replaced
_MAX_IDLE_GATEWAYS = 4


class GatewayPool:
    """Idle gateways by configuration. All of them call the fake upstream at the one address that the pool holds."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._idle: dict[str, GatewayProcess] = {}
        self._leased: dict[GatewayProcess, str] = {}
        self._started = 0
        self._reservation = socket.socket()  # bound and never listening: no other socket gets the port
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind(("127.0.0.1", 0))

    @property
    def upstream_port(self) -> int:
        """The port where each test's fake upstream listens."""
        return int(self._reservation.getsockname()[1])

    async def lease(self, overrides: Mapping[str, JsonValue]) -> GatewayProcess:
        """Take a gateway with the tests' configuration and these overrides; its logs and counters begin anew."""
        settings = merged(_SHARED_DEFAULTS, overrides)
        key = json.dumps(settings, sort_keys=True)
        gateway = self._idle.pop(key, None)
        if gateway is None or gateway.exit_code is not None:
            gateway = await self._start(settings)
        self._leased[gateway] = key
        await _wait_for_log_of_request(gateway)
        await gateway.start_observation()
        return gateway

    async def release(self, gateway: GatewayProcess) -> None:
        """Keep the gateway for the next test; one that has ended or is not idle is stopped."""
        key = self._leased.pop(gateway)
        if key in self._idle or not await _becomes_idle(gateway):
            await gateway.kill()
            return
        self._idle[key] = gateway
        while len(self._idle) > _MAX_IDLE_GATEWAYS:
            oldest = next(iter(self._idle))
            await self._idle.pop(oldest).stop()

    def close(self) -> None:
        """Stop all gateways."""
        for gateway in (*self._idle.values(), *self._leased):
            gateway.terminate_now()
        self._reservation.close()

    async def _start(self, settings: Mapping[str, JsonValue]) -> GatewayProcess:
        self._started += 1
        directory = self._directory / f"gateway-{self._started}"
        directory.mkdir()
        url = f"http://127.0.0.1:{self.upstream_port}"
        return await start_gateway(directory, gateway_config(url, url, **settings), PROVIDER_SECRETS)


async def _wait_for_log_of_request(gateway: GatewayProcess) -> None:
    """Send a request and wait for its log line, which follows the lines of earlier requests."""
    marker = f"pool-{secrets.token_hex(8)}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(gateway.url + "/runs", headers={"X-Request-Id": marker, **auth_headers("one")}) as answer,
    ):
        await answer.read()
    async with asyncio.timeout(10):
        while marker not in gateway.stdout:
            await asyncio.sleep(0.002)


async def _becomes_idle(gateway: GatewayProcess) -> bool:
    with contextlib.suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(_IDLE_TIMEOUT), aiohttp.ClientSession() as session:
            while gateway.exit_code is None:
                if not await _unfinished_runs(gateway, session):
                    return True
                await asyncio.sleep(0.02)
    return False


async def _unfinished_runs(gateway: GatewayProcess, session: aiohttp.ClientSession) -> float:
    """Return the number of waiting clients and of queued or running stored runs; refusals count too."""
    count = metric_sum(await gateway.metrics(), "runward_requests_in_flight")
    for client in CLIENT_KEYS:
        for status in ("queued", "running"):
            url = f"{gateway.url}/runs?status={status}"
            async with session.get(url, headers=auth_headers(client)) as answer:
                count += len((await answer.json())["runs"]) if answer.status == 200 else 1
    return count
