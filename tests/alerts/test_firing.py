"""Alerts on a real Prometheus and a real gateway: each alert fires under its fault, none fires without faults.

The rules are the shipped ones, accelerated (`alert_rules.accelerated`): ten minutes of a fault take ten seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from gateway.audit.recorder import MAX_WAITING
from gateway.auth.stored_keys.terms import KeyTerms
from gateway.clock import SystemClock
from gateway.runs.history import _MAX_PENDING
from gateway.store import factory
from gateway.store.client_key import StoredKey
from tests.alerts import fault_scenario, faulty_adapter
from tests.alerts.alert_rules import alerts
from tests.alerts.prometheus_server import Alert, PrometheusServer, running_prometheus
from tests.alerts.prometheus_tools import find_program
from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, auth_headers, post_run
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.gateway_restarts import CALLBACK_SECRETS
from tests.support.load_generator import concurrently
from tests.support.operations_port import set_mode
from tests.support.process import metric_sum

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.process import GatewayProcess

pytestmark = pytest.mark.slow

TEST_TIMEOUT = 58.0  # seconds per test, twice the time needed on an idle machine
FIRING_TIMEOUT = 40.0  # seconds for alerts to fire
WORKER_ALERT = "RunwardWorkersDying"  # needs a gateway with several workers
STORE_ALERT = "RunwardStoreUnavailable"  # needs a store that can be lost
CONTENT_ALERT = "RunwardContentUnreadable"  # needs a gateway without its key
HISTORY_ALERT = "RunwardHistoryDropped"  # needs more records than wait for a store that was lost
ATTENTION_ALERT = "RunwardAttentionGrowing"  # needs a list that is read before and after it grows
AUDIT_ALERT = "RunwardAuditRecordsDropped"  # needs more audit records than wait for a store that was lost
KEYS_ALERT = "RunwardKeysExpiring"  # needs a key that was made long ago
SEPARATE = {WORKER_ALERT, STORE_ALERT, CONTENT_ALERT, HISTORY_ALERT, ATTENTION_ALERT, AUDIT_ALERT, KEYS_ALERT}
"""Alerts with a test of their own."""
HEALTHY_SECONDS = 17.0  # the windows' ten seconds, the five of the longest `for`, and two to start


async def test_every_alert_fires_under_its_fault(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: with a fault of each kind, and finally with a stopped gateway."""
    find_program("prometheus")
    faulty_adapter.install(tmp_path)
    fault_scenario.script_all(upstream)
    seen: dict[str, Alert] = {}
    async with asyncio.timeout(TEST_TIMEOUT), FakeUpstream() as plain:
        fault_scenario.speaks_no_tls(plain)
        config = gateway_config(upstream.url, upstream.url, **fault_scenario.configuration(upstream.url, plain.url))
        running = await gateway(config, {**PROVIDER_SECRETS, **CALLBACK_SECRETS, "PYTHONPATH": str(tmp_path)})
        async with running_prometheus(tmp_path, session, running.ops_url) as server:
            running.config.write_text("server: {")
            async with repeat_every(lambda: run_fault_round(running, run), every=0.5):
                await send_unknown_keys(session, running)
                await set_mode(session, running.ops_url, "promptlayer", "suspended")
                await run(running, {**PROMPT_STUDIO_BODY, "callback_url": upstream.url + fault_scenario.RECEIVER})
                await collect_alerts(server, seen, {alert.name for alert in alerts()} - {"RunwardDown", *SEPARATE})
                codes = {s.labels["code"] for s in await running.metrics() if s.name == "runward_refusals_total"}
            assert (False, []) == ("RunwardDown" in seen, await server.unhealthy_rules())
            await running.kill()
            await collect_alerts(server, seen, {"RunwardDown"})
    assert set() == fault_scenario.expected_codes() - codes
    assert {alert.name: alert.severity for alert in alerts() if alert.name not in SEPARATE} == {
        name: alert["labels"]["severity"] for name, alert in seen.items()
    }
    assert [] == [text for alert in seen.values() for text in alert["annotations"].values() if not is_filled_in(text)]


async def test_a_lost_store_raises_the_alert(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: the file of the store is deleted while the gateway runs; requests without a key are still served."""
    find_program("prometheus")
    upstream.default = fault_scenario.DONE
    store = tmp_path / "runward.db"
    running = await gateway(store={"url": f"sqlite:///{store}"})
    seen: dict[str, Alert] = {}

    async def keyed_run() -> None:
        await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="one")

    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await keyed_run()
        assert [] == await server.alerts()
        await asyncio.to_thread(store.unlink)
        async with repeat_every(keyed_run, every=0.5):
            await collect_alerts(server, seen, {STORE_ALERT})
        assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    assert (["critical"], {STORE_ALERT}) == ([seen[STORE_ALERT]["labels"]["severity"]], set(seen))
    assert [] == [text for text in seen[STORE_ALERT]["annotations"].values() if not is_filled_in(text)]


async def test_a_missing_content_key_raises_the_alert(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: a gateway is started without the key of its predecessor; other requests are served."""
    find_program("prometheus")
    upstream.default = fault_scenario.DONE
    store: dict[str, JsonValue] = {"url": f"sqlite:///{tmp_path}/runward.db"}
    (tmp_path / "key").write_text(b64encode(bytes(range(32))).decode())
    before = await gateway(store=store, content={"encrypt": {"key": {"file": str(tmp_path / "key")}}})
    assert 200 == (await run(before, PROMPT_STUDIO_BODY, Idempotency_Key="one")).status
    await before.stop()
    running = await gateway(store=store)
    seen: dict[str, Alert] = {}
    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        assert 503 == (await run(running, PROMPT_STUDIO_BODY, Idempotency_Key="one")).status
        await collect_alerts(server, seen, {CONTENT_ALERT})
        assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    assert (["critical"], {CONTENT_ALERT}) == ([seen[CONTENT_ALERT]["labels"]["severity"]], set(seen))
    assert [] == [text for text in seen[CONTENT_ALERT]["annotations"].values() if not is_filled_in(text)]


async def test_dropped_records_of_runs_raise_the_alert(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: the file of the store is deleted, and more runs end than wait for it."""
    find_program("prometheus")
    upstream.default = fault_scenario.DONE
    store = tmp_path / "runward.db"
    # Runs of a suspended provider are refused at once, and recorded.
    running = await gateway(store={"url": f"sqlite:///{store}"})
    await set_mode(session, running.ops_url, "prompt_studio", "suspended")
    seen: dict[str, Alert] = {}

    async def many_runs() -> None:
        for _ in range(_MAX_PENDING // 50 + 1):
            assert {503} == {each.status for each in await concurrently(50, lambda: run(running, PROMPT_STUDIO_BODY))}

    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await asyncio.to_thread(store.unlink)
        await many_runs()
        async with repeat_every(lambda: _await(run(running, PROMPT_STUDIO_BODY)), every=0.5):
            await collect_alerts(server, seen, {HISTORY_ALERT})
    assert "warning" == seen[HISTORY_ALERT]["labels"]["severity"]
    assert [] == [text for text in seen[HISTORY_ALERT]["annotations"].values() if not is_filled_in(text)]


async def test_a_growing_attention_list_raises_the_alert(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R96: an operator suspends three providers one after the other."""
    find_program("prometheus")
    more: JsonValue = {
        "third": {"adapter": "prompt_studio", "base_url": upstream.url, "api_key": {"env": "PROMPT_STUDIO_API_KEY"}}
    }
    running = await gateway(providers=more)
    seen: dict[str, Alert] = {}

    async def read_list() -> None:
        async with session.get(running.ops_url + "/api/attention") as answer:
            assert 200 == answer.status

    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await read_list()
        while not await server.samples("runward_attention_items offset 8s"):
            await asyncio.sleep(0.2)
        for provider in ("promptlayer", "prompt_studio", "third"):
            await set_mode(session, running.ops_url, provider, "suspended")
        async with repeat_every(read_list, every=1.0):
            await collect_alerts(server, seen, {ATTENTION_ALERT})
    assert "warning" == seen[ATTENTION_ALERT]["labels"]["severity"]
    assert [] == [text for text in seen[ATTENTION_ALERT]["annotations"].values() if not is_filled_in(text)]


async def test_dropped_audit_records_raise_the_alert(
    tmp_path: Path, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R96: the file of the store is deleted, and the level of the log, which needs no store, is set many times."""
    find_program("prometheus")
    store = tmp_path / "runward.db"
    running = await gateway(store={"url": f"sqlite:///{store}"})
    seen: dict[str, Alert] = {}

    async def set_level() -> None:
        async with session.put(f"{running.ops_url}/logs/level", json={"level": "info"}) as answer:
            assert 200 == answer.status

    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await asyncio.to_thread(store.unlink)
        for _ in range(MAX_WAITING // 2 + 1):
            await set_level()
        async with repeat_every(set_level, every=0.5):
            await collect_alerts(server, seen, {AUDIT_ALERT})
    assert "warning" == seen[AUDIT_ALERT]["labels"]["severity"]
    assert [] == [text for text in seen[AUDIT_ALERT]["annotations"].values() if not is_filled_in(text)]


async def test_a_stored_key_that_expires_soon_raises_the_alert(
    tmp_path: Path, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """R96: one that was made two months ago; not one of last week."""
    find_program("prometheus")
    clock = SystemClock()
    url, now = f"sqlite:///{tmp_path}/runward.db", clock.now().timestamp()
    store = factory.create_store(url, clock)
    await store.open()
    for number, days in enumerate((60, 7)):
        terms, made_at = KeyTerms("app").encode(), now - days * 86_400.0
        key = StoredKey(f"key_{number}", "one", bytes([number]) * 32, terms, made_at, now + 3 * 86_400.0)
        assert await store.client_keys.add(key, most=9)
    await store.close()
    running = await gateway(store={"url": url})
    seen: dict[str, Alert] = {}
    async with asyncio.timeout(TEST_TIMEOUT), running_prometheus(tmp_path, session, running.ops_url) as server:
        await collect_alerts(server, seen, {KEYS_ALERT})
    assert ("warning", {KEYS_ALERT}) == (seen[KEYS_ALERT]["labels"]["severity"], set(seen))
    assert "within 14 days: 1." in seen[KEYS_ALERT]["annotations"]["summary"]


async def test_a_healthy_gateway_raises_no_alert(
    tmp_path: Path, upstream: FakeUpstream, gateway: StartGateway, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """R96: single failed, throttled and lost runs and one invalid key are normal operation."""
    find_program("prometheus")
    upstream.default = fault_scenario.DONE
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    running = await gateway(store={"url": f"sqlite:///{tmp_path}/runward.db"})
    fired: set[str] = set()

    async def a_few_runs() -> None:
        await asyncio.gather(
            run(running, PROMPT_STUDIO_BODY),
            run(running, PROMPTLAYER_BODY),
            run(running, PROMPT_STUDIO_BODY, client="two"),
        )

    async with (
        asyncio.timeout(TEST_TIMEOUT),
        running_prometheus(tmp_path, session, running.ops_url) as server,
        repeat_every(a_few_runs, every=0.4),
    ):
        until = time.monotonic() + HEALTHY_SECONDS
        upstream.script("POST", STUDIO_RUN, [reply(500, {}), reply(429, {}, {"Retry-After": "0"}), rst_after_request])
        await post_run(session, running.url, PROMPT_STUDIO_BODY, {"Authorization": "Bearer rw_no"})
        while time.monotonic() < until:
            fired |= await server.firing()
            await asyncio.sleep(0.5)
        counted = await server.value('sum(runward:runs:increase10m{outcome="succeeded"})')
        assert ([], []) == (await server.alerts(), await server.unhealthy_rules())
    samples = await running.metrics()
    assert [1, 1, 1] == [
        metric_sum(samples, "runward_runs_total", outcome="failed"),
        metric_sum(samples, "runward_runs_total", outcome="unknown"),
        metric_sum(samples, "runward_retries_total"),
    ]
    assert set() == fired
    assert counted > 20


async def run_fault_round(gateway: GatewayProcess, run: PostRun) -> None:
    """Cause every fault once."""
    runs = [(client, workflow) for client, workflow, count in fault_scenario.LOAD for _ in range(count)]
    await asyncio.gather(
        *(run(gateway, {**PROMPT_STUDIO_BODY, "workflow": name}, client=client) for client, name in runs)
    )


async def send_unknown_keys(session: aiohttp.ClientSession, gateway: GatewayProcess) -> None:
    """Send sixty requests with unknown keys."""
    for number in range(60):
        key = auth_headers("one")["Authorization"][:-6] + f"{number:06}"
        answered = await post_run(session, gateway.url, PROMPT_STUDIO_BODY, {"Authorization": key})
        assert answered.status in {401, 429}


async def collect_alerts(server: PrometheusServer, seen: dict[str, Alert], wanted: set[str]) -> None:
    """Record firing alerts until all of `wanted` have fired; fail after `PATIENCE` with the missing ones."""
    until = time.monotonic() + FIRING_TIMEOUT
    while wanted - set(seen):
        assert time.monotonic() < until, f"never fired: {sorted(wanted - set(seen))}"
        await asyncio.sleep(0.5)
        for alert in await server.alerts():
            if alert["state"] == "firing":
                seen.setdefault(alert["labels"]["alertname"], alert)


@contextlib.asynccontextmanager
async def repeat_every(action: Callable[[], Awaitable[None]], *, every: float) -> AsyncIterator[None]:
    """Start the task at a fixed interval, without waiting for the previous one, until the block ends."""

    async def forever() -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(_await(action()))
                await asyncio.sleep(every)

    task = asyncio.create_task(forever())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _await(work: Awaitable[object]) -> None:
    await work


def is_filled_in(text: str) -> bool:
    """Return True if the template left no empty place and no error in the text."""
    return not any(bad in text for bad in ("<no value>", "<error", "{{", "  ", " .", "%!"))
