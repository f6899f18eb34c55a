"""`make soak`: the gateway under mixed faults for minutes, at up to half a core. No resource may grow.

python -m bench.soak [SECONDS]      three minutes by default; at least 40 s

The fake upstream injects all of its faults, outages included; clients disconnect, set short timeouts and send invalid
requests. The slope of the memory is fitted after a warm-up. When the load has ended, descriptors, threads and runs in
flight must be as before it. Exit code 1: they are not, or the memory grows by more than 1 MB in 10 minutes beyond its
noise.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import aiohttp
import uvloop

from bench.leak_detection import ProcessProbe, ResourceSample, report
from bench.soak_workload import CONFIG, provider_script, request_body, request_headers
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess, metric_sum, start_gateway

SHARE, OWN_SHARE = 0.5, 0.4  # shares of a core: of the gateway, and of the clients and the provider of the soak
CALIBRATION_SECONDS = 6.0  # seconds to measure the rate that this allows, and to confirm it
OUTAGE, BETWEEN = 1.5, 20.0


class ClientLoad:
    """Open-loop load with varied requests; `seen` counts the responses."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.seen: Counter[str] = Counter()
        self._session = session
        self._url = url + "/run"
        self._rng = random.Random(34)
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, seconds: float) -> None:
        """Send `rate` requests per second for a time, then wait for pending ones."""
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            task = asyncio.create_task(self._one())
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)
        await asyncio.gather(*self._in_flight)

    async def _one(self) -> None:
        timeout = self._rng.uniform(0.0, 0.2) if self._rng.random() < 0.05 else 30.0
        try:
            async with asyncio.timeout(timeout):
                post = self._session.post(self._url, data=request_body(self._rng), headers=request_headers(self._rng))
                async with post as answer:
                    await answer.read()
                    self.seen[str(answer.status)] += 1
        except TimeoutError:
            self.seen["left"] += 1
        except aiohttp.ClientError as error:
            self.seen[type(error).__name__] += 1


async def outages(upstream: FakeUpstream) -> None:
    """Stop and start the provider repeatedly; never ends."""
    while True:
        await asyncio.sleep(BETWEEN)
        await upstream.stop()
        await asyncio.sleep(OUTAGE)
        await upstream.start()


async def clear_upstream_log(upstream: FakeUpstream) -> None:
    """Discard the record of requests, so that the memory of the fake does not grow."""
    while True:
        await asyncio.sleep(1)
        upstream.received.clear()
        upstream.connections.clear()


async def calibrate_rate(gateway: GatewayProcess, clients: ClientLoad) -> float:
    """Requests per second that use half of one core, bounded by the load generator's own capacity."""
    watch, rate = ProcessProbe(gateway.pid), 100.0
    for _ in range(2):
        before, own_before = watch.cpu_seconds(), time.process_time()
        await clients.run(rate, CALIBRATION_SECONDS)
        used, own = watch.cpu_seconds() - before, time.process_time() - own_before
        rate *= CALIBRATION_SECONDS * min(SHARE / used, OWN_SHARE / own)
    return rate


async def soak(
    gateway: GatewayProcess, upstream: FakeUpstream, seconds: float
) -> tuple[list[ResourceSample], list[ResourceSample], float]:
    """Samples under load, samples before and after it, and the rate in requests per second."""
    watch = ProcessProbe(gateway.pid)
    for _ in range(8):  # threads of scrapes stay
        await gateway.metrics()
    quiet = [await watch.sample(gateway)]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        clients = ClientLoad(session, gateway.url)
        rate = await calibrate_rate(gateway, clients)
        helpers = [asyncio.create_task(each(upstream)) for each in (outages, clear_upstream_log)]
        load = asyncio.create_task(clients.run(rate, seconds))
        samples = []
        while not load.done():
            samples.append(await watch.sample(gateway))
            await asyncio.sleep(1)
        for helper in helpers:
            helper.cancel()
            with suppress(asyncio.CancelledError):
                await helper
    await upstream.stop()
    for _ in range(20):
        await asyncio.sleep(0.5)
        quiet[1:] = [await watch.sample(gateway)]
        if quiet[0].not_above(quiet[1]):
            break
    print(f"{sum(clients.seen.values())} requests: {dict(clients.seen.most_common())}")
    return samples, quiet, rate


async def main(seconds: float) -> int:
    """Run the soak; returns the exit code."""
    async with FakeUpstream() as upstream:
        upstream.default = provider_script(random.Random(21))
        config = gateway_config(upstream.url, upstream.url, **CONFIG)
        with tempfile.TemporaryDirectory() as directory:
            gateway = await start_gateway(Path(directory), config, PROVIDER_SECRETS)
            try:
                samples, quiet, rate = await soak(gateway, upstream, seconds)
                calls = metric_sum(await gateway.metrics(), "runward_upstream_calls_total")
            finally:
                code = await gateway.stop()
    print(f"{seconds:.0f} s at {rate:.0f} requests/s, {calls:.0f} calls upstream; the gateway ended with {code}")
    return report(samples, quiet) or code


if __name__ == "__main__":
    sys.exit(uvloop.run(main(max(40.0, float(sys.argv[1]) if len(sys.argv) > 1 else 180.0))))
