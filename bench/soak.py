"""`make soak`: the gateway under mixed faults for minutes, at up to half of what one core can do. Nothing may grow.

python -m bench.soak [SECONDS]      three minutes by default; at least 40 s

Everything goes wrong here that the fake upstream knows, outages too, and clients leave, hurry and err. After a warm-up
the memory's slope is fitted; at the end everybody leaves, and descriptors, threads and runs in flight must be what
they were at the start. Exits with 1 where they are not, or where the memory grows by more than 1 MB in 10 minutes
beyond what its own noise explains.
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

from bench.growth import Sample, Watch, report
from bench.mixture import CONFIG, bodies, headers, script
from tests.configuration import SECRETS, gateway_config
from tests.faults.upstream import Upstream
from tests.process import Gateway, start_gateway, total

SHARE, OWN_SHARE = 0.5, 0.4  # of a core: the gateway's, and what the clients and the provider here may need for it
PROBING = 6.0  # seconds, to find out how many requests that is; a few more at that rate, to be sure
OUTAGE, BETWEEN = 1.5, 20.0


class Clients:
    """An open loop of clients, no two alike; `seen` counts what they saw."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.seen: Counter[str] = Counter()
        self._session = session
        self._url = url + "/run"
        self._chance = random.Random(34)
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, rate: float, seconds: float) -> None:
        """So many requests a second, for so long; then wait for those that are out."""
        began = time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            task = asyncio.create_task(self._one())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        await asyncio.gather(*self._asking)

    async def _one(self) -> None:
        patience = self._chance.uniform(0.0, 0.2) if self._chance.random() < 0.05 else 30.0
        try:
            async with asyncio.timeout(patience):
                post = self._session.post(self._url, data=bodies(self._chance), headers=headers(self._chance))
                async with post as answer:
                    await answer.read()
                    self.seen[str(answer.status)] += 1
        except TimeoutError:
            self.seen["left"] += 1
        except aiohttp.ClientError as error:
            self.seen[type(error).__name__] += 1


async def outages(upstream: Upstream) -> None:
    """Take the provider away now and then, for ever."""
    while True:
        await asyncio.sleep(BETWEEN)
        await upstream.down()
        await asyncio.sleep(OUTAGE)
        await upstream.up()


async def forget(upstream: Upstream) -> None:
    """The fake's memory is not what is measured."""
    while True:
        await asyncio.sleep(1)
        upstream.log.clear()
        upstream.connections.clear()


async def half_load(gateway: Gateway, clients: Clients) -> float:
    """How many requests a second take half of one core, or as many as can be sent without being late here."""
    watch, rate = Watch(gateway.pid), 100.0
    for _ in range(2):
        before, own_before = watch.cpu_seconds(), time.process_time()
        await clients.ask(rate, PROBING)
        used, own = watch.cpu_seconds() - before, time.process_time() - own_before
        rate *= PROBING * min(SHARE / used, OWN_SHARE / own)
    return rate


async def soak(gateway: Gateway, upstream: Upstream, seconds: float) -> tuple[list[Sample], list[Sample], float]:
    """Samples under load, samples of before and after it, and the rate in requests a second."""
    watch = Watch(gateway.pid)
    for _ in range(8):  # scrapes have threads of their own, which stay
        await gateway.metrics()
    quiet = [await watch.sample(gateway)]
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        clients = Clients(session, gateway.url)
        rate = await half_load(gateway, clients)
        helpers = [asyncio.create_task(each(upstream)) for each in (outages, forget)]
        load = asyncio.create_task(clients.ask(rate, seconds))
        samples = []
        while not load.done():
            samples.append(await watch.sample(gateway))
            await asyncio.sleep(1)
        for helper in helpers:
            helper.cancel()
            with suppress(asyncio.CancelledError):
                await helper
    await upstream.down()
    for _ in range(20):
        await asyncio.sleep(0.5)
        quiet[1:] = [await watch.sample(gateway)]
        if quiet[0].returned(quiet[1]):
            break
    print(f"{sum(clients.seen.values())} requests: {dict(clients.seen.most_common())}")
    return samples, quiet, rate


async def main(seconds: float) -> int:
    """The exit code."""
    async with Upstream() as upstream:
        upstream.default = script(random.Random(21))
        config = gateway_config(upstream.url, upstream.url, **CONFIG)
        with tempfile.TemporaryDirectory() as directory:
            gateway = await start_gateway(Path(directory), config, SECRETS)
            try:
                samples, quiet, rate = await soak(gateway, upstream, seconds)
                calls = total(await gateway.metrics(), "runward_upstream_calls_total")
            finally:
                code = await gateway.stop()
    print(f"{seconds:.0f} s at {rate:.0f} requests/s, {calls:.0f} calls upstream; the gateway ended with {code}")
    return report(samples, quiet) or code


if __name__ == "__main__":
    sys.exit(uvloop.run(main(max(40.0, float(sys.argv[1]) if len(sys.argv) > 1 else 180.0))))
