"""Benchmark of poll hints: polls per run and delay of its result, with and without PromptLayer's callback.

python -m bench.poll_hints        Two gateways, one of them with `server.public_url`, and one emulated PromptLayer.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import tempfile
import time
from contextlib import ExitStack

import aiohttp

from bench.processes import KEY, ServerProcess, free_port
from gateway import sandbox
from gateway.auth.keys import hash_key
from gateway.clock import SystemClock
from gateway.sandbox.canned_outputs import echo
from gateway.sandbox.model import requested_delay

CASES = ((1.0, 0.3), (4.0, 0.15), (4.0, 0.3), (4.0, 0.6))  # median of the durations in seconds, and their spread
RUNS = 150
WARM = 20
CONCURRENCY = 50
MODES = ("hints", "none")
_KEYS = sandbox.SandboxKeys("pl_bench_key_0123", "ps_bench_key_0123")


def _workflow(number: int, name: str) -> sandbox.SandboxWorkflow:
    return sandbox.SandboxWorkflow(
        number, name, (sandbox.Node("Echo", echo, is_output=True),), duration=requested_delay
    )


def _names() -> list[str]:
    return [f"{mode}-{median}-{spread}" for mode in MODES for median, spread in CASES]


def _start_gateway(provider: str, *, with_hints: bool, core: int) -> ServerProcess:
    port = free_port()
    config = {
        "server": {"port": port, "ops_port": 0, **({"public_url": f"http://127.0.0.1:{port}"} if with_hints else {})},
        "logs": {"format": "json"},
        "store": {"url": "memory://"},
        "providers": {"promptlayer": {"base_url": provider, "api_key": {"env": "BENCH_KEY"}}},
        "workflows": {name: {"provider": "promptlayer", "timeout": "120s"} for name in _names()},
        "clients": {"bench": {"keys": [{"hash": hash_key(KEY)}], "workflows": ["*"]}},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(config, file)  # JSON is YAML
        file.flush()
        return ServerProcess(
            ["-m", "gateway", "serve", "--config", file.name], core=core, env={"BENCH_KEY": _KEYS.promptlayer}
        )


async def _lag(session: aiohttp.ClientSession, url: str, workflow: str, seconds: float) -> float:
    """Run a workflow; returns the seconds from its end at the provider to the response, the start included."""
    began = time.perf_counter()
    body = {"workflow": workflow, "input": {"seconds": seconds}}
    async with session.post(f"{url}/run", json=body, headers={"Authorization": f"Bearer {KEY}"}) as answer:
        if answer.status != 200:
            raise SystemExit(f"not answered with 200: {await answer.text()}")
        await answer.read()
    return time.perf_counter() - began - seconds


async def _round(session: aiohttp.ClientSession, url: str, workflow: str, durations: list[float]) -> list[float]:
    semaphore = asyncio.Semaphore(CONCURRENCY)

    async def one(seconds: float) -> float:
        async with semaphore:
            return await _lag(session, url, workflow, seconds)

    return await asyncio.gather(*(one(seconds) for seconds in durations))


async def _compare(session: aiohttp.ClientSession, urls: dict[str, str], calls: sandbox.CallCounts) -> None:
    for median, spread in CASES:
        rng = random.Random(f"{median}/{spread}")
        durations = [median * rng.lognormvariate(0, spread) for _ in range(WARM + RUNS)]
        names = {way: f"{way}-{median}-{spread}" for way in MODES}
        await asyncio.gather(*(_round(session, urls[way], names[way], durations[:WARM]) for way in MODES))
        before = {way: calls.promptlayer.workflows[names[way]].polls for way in MODES}
        lags = await asyncio.gather(*(_round(session, urls[way], names[way], durations[WARM:]) for way in MODES))
        for mode, found in zip(MODES, lags, strict=True):
            polls = (calls.promptlayer.workflows[names[mode]].polls - before[mode]) / RUNS
            p50, p95 = statistics.median(found), statistics.quantiles(found, n=20)[-1]
            print(
                f"{median:6g} {spread:6g}  {mode:>6}  {1 + polls:8.2f}  {p50 * 1000:8.0f} {p95 * 1000:8.0f}", flush=True
            )


async def main() -> None:
    """Print a table: requests a run that reached the provider (its start included), lag in ms at p50 and p95."""
    print("median spread    with  requests   lag p50      p95")
    made = [_workflow(number, name) for number, name in enumerate(_names(), 1)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call_back(url: str, body: bytes) -> None:
            async with session.post(url, data=body) as answer:
                await answer.read()

        served = sandbox.create_application(
            SystemClock(), keys=_KEYS, workflows=sandbox.SandboxCatalog(tuple(made)), post_callback=call_back
        )
        provider = await sandbox.serve(served, "127.0.0.1", 0)
        with ExitStack() as processes:
            gateways = {
                mode: processes.enter_context(_start_gateway(provider.url, with_hints=mode == "hints", core=0))
                for mode in MODES
            }
            urls = {way: f"http://127.0.0.1:{server.port}" for way, server in gateways.items()}
            await _compare(session, urls, served[sandbox.CALL_COUNTS])
        await provider.close()


if __name__ == "__main__":
    asyncio.run(main())
