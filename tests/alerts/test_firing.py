"""A real Prometheus watches a real gateway: every alert fires under its fault, and none does where all is well.

The rules are the shipped ones with a second for each minute (`rules.hurried`): ten minutes of trouble take ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from tests.alerts import clumsy, trouble
from tests.alerts.programs import program
from tests.alerts.prometheus import Alert, Prometheus, prometheus
from tests.alerts.rules import alerts
from tests.client import LAYER, STUDIO, bearer, post_run
from tests.configuration import SECRETS, gateway_config
from tests.durable.lives import CALLBACK_SECRETS
from tests.faults.answers import reply
from tests.faults.faults import rst_after_request
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    promptlayer_done,
    promptlayer_started,
)
from tests.faults.upstream import Upstream
from tests.process import total

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.client import RunWorkflow
    from tests.conftest import StartGateway
    from tests.process import Gateway

BOUND = 58.0  # seconds for a test; half of them are enough on an idle machine
PATIENCE = 40.0  # seconds for alerts to fire
OF_WORKERS = "RunwardWorkersDying"  # what a gateway of one process does not know
HEALTHY_SECONDS = 17.0  # the windows' ten seconds, the five of the longest `for`, and two to start


async def test_every_alert_fires_under_its_fault(
    tmp_path: Path, upstream: Upstream, gateway: StartGateway, run: RunWorkflow, session: aiohttp.ClientSession
) -> None:
    """R96: with a fault of each kind, and at last without the gateway."""
    program("prometheus")
    clumsy.install(tmp_path)
    trouble.script_all(upstream)
    seen: dict[str, Alert] = {}
    async with asyncio.timeout(BOUND), Upstream() as plain:
        trouble.speaks_no_tls(plain)
        config = gateway_config(upstream.url, upstream.url, **trouble.configuration(upstream.url, plain.url))
        running = await gateway(config, {**SECRETS, **CALLBACK_SECRETS, "PYTHONPATH": str(tmp_path)})
        async with prometheus(tmp_path, session, running.ops_url) as server:
            running.config.write_text("server: {")
            async with load(lambda: in_trouble(running, run), every=0.5):
                await guess_keys(session, running)
                await run(running, {**STUDIO, "callback_url": upstream.url + trouble.RECEIVER})
                await collect(server, seen, {alert.name for alert in alerts()} - {"RunwardDown", OF_WORKERS})
                codes = {s.labels["code"] for s in await running.metrics() if s.name == "runward_refusals_total"}
            assert (False, []) == ("RunwardDown" in seen, await server.unhealthy_rules())
            await running.kill()
            await collect(server, seen, {"RunwardDown"})
    assert set() == trouble.expected_codes() - codes
    assert {alert.name: alert.severity for alert in alerts() if alert.name != OF_WORKERS} == {
        name: alert["labels"]["severity"] for name, alert in seen.items()
    }
    assert [] == [text for alert in seen.values() for text in alert["annotations"].values() if not readable(text)]


async def test_a_healthy_gateway_is_silent(
    tmp_path: Path, upstream: Upstream, gateway: StartGateway, run: RunWorkflow, session: aiohttp.ClientSession
) -> None:
    """R96: with the mishaps of every day: one run each that failed, was throttled, or got lost; and one bad key."""
    program("prometheus")
    upstream.default = trouble.DONE
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    running = await gateway(store={"url": f"sqlite:///{tmp_path}/runward.db"})
    fired: set[str] = set()

    async def a_few_runs() -> None:
        await asyncio.gather(run(running, STUDIO), run(running, LAYER), run(running, STUDIO, client="two"))

    async with (
        asyncio.timeout(BOUND),
        prometheus(tmp_path, session, running.ops_url) as server,
        load(a_few_runs, every=0.4),
    ):
        until = time.monotonic() + HEALTHY_SECONDS
        upstream.script("POST", STUDIO_RUN, [reply(500, {}), reply(429, {}, {"Retry-After": "0"}), rst_after_request])
        await post_run(session, running.url, STUDIO, {"Authorization": "Bearer rw_no"})
        while time.monotonic() < until:
            fired |= await server.firing()
            await asyncio.sleep(0.5)
        counted = await server.value('sum(runward:runs:increase10m{outcome="succeeded"})')
        assert ([], []) == (await server.alerts(), await server.unhealthy_rules())
    samples = await running.metrics()
    assert [1, 1, 1] == [
        total(samples, "runward_runs_total", outcome="failed"),
        total(samples, "runward_runs_total", outcome="unknown"),
        total(samples, "runward_retries_total"),
    ]
    assert set() == fired
    assert counted > 20


async def in_trouble(gateway: Gateway, run: RunWorkflow) -> None:
    """One round of every fault."""
    runs = [(client, workflow) for client, workflow, count in trouble.LOAD for _ in range(count)]
    await asyncio.gather(*(run(gateway, {**STUDIO, "workflow": name}, client=client) for client, name in runs))


async def guess_keys(session: aiohttp.ClientSession, gateway: Gateway) -> None:
    """Sixty requests with keys that are nobody's."""
    for number in range(60):
        key = bearer("one")["Authorization"][:-6] + f"{number:06}"
        answered = await post_run(session, gateway.url, STUDIO, {"Authorization": key})
        assert answered.status in {401, 429}


async def collect(server: Prometheus, seen: dict[str, Alert], wanted: set[str]) -> None:
    """Note every alert that fires, until all of `wanted` did; fail after `PATIENCE` with those that did not."""
    until = time.monotonic() + PATIENCE
    while wanted - set(seen):
        assert time.monotonic() < until, f"never fired: {sorted(wanted - set(seen))}"
        await asyncio.sleep(0.5)
        for alert in await server.alerts():
            if alert["state"] == "firing":
                seen.setdefault(alert["labels"]["alertname"], alert)


@contextlib.asynccontextmanager
async def load(once: Callable[[], Awaitable[None]], *, every: float) -> AsyncIterator[None]:
    """Do it every so many seconds, without waiting for the last round, as long as the block lasts."""

    async def forever() -> None:
        async with asyncio.TaskGroup() as rounds:
            while True:
                rounds.create_task(_await(once()))
                await asyncio.sleep(every)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _await(work: Awaitable[None]) -> None:
    await work


def readable(text: str) -> bool:
    """Whether every place in a text was filled: no word missing, no error of the template's."""
    return not any(bad in text for bad in ("<no value>", "<error", "{{", "  ", " .", "%!"))
