"""The exporter: the standard variables, a collector that is away, and what is paid without tracing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
import yaml
from opentelemetry import trace

from gateway.observability.tracing.otel_tracer import _caller
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.configuration import PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.otlp_receiver import TRACES, OtlpReceiver
from tests.support.process import GatewayProcess, inherited_environment
from tests.support.waiting import WAIT_TIMEOUT, wait_until
from tests.tracing.test_spans import CALLER

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.tracing.test_spans import StartTraced

DONE = prompt_studio_reply({"completion": "because"})


async def test_the_standard_variables_apply(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """Name, resource and header fields; a value of the gateway's own is replaced."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway(
        {
            "OTEL_SERVICE_NAME": "shop-gateway",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.instance.id=pod-1",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=abc",
        }
    )
    assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    await collector.wait_for("POST /run")
    resource = collector.resources[0]
    assert ("shop-gateway", "test", "pod-1") == tuple(
        resource[name] for name in ("service.name", "deployment.environment.name", "service.instance.id")
    )
    assert {"abc"} == {request.header("x-collector-key") for request in collector.server.received}


async def test_an_unsampled_trace_is_propagated_but_not_sent(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """The provider gets the caller's trace with the flag of the decision."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway({"OTEL_TRACES_SAMPLER": "always_off"})
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, traceparent=CALLER)).status
    [sent] = upstream.received
    carried = sent.header("traceparent") or ""
    assert (CALLER[:36], "00", True) == (carried[:36], carried[53:], carried != CALLER)
    assert 0 == await running.stop()
    assert [] == collector.server.requests("POST", TRACES)


async def test_the_sdk_can_be_disabled(
    upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """Then the context is passed on as without tracing."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await traced_gateway({"OTEL_SDK_DISABLED": "true"})
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, traceparent=CALLER)).status
    assert CALLER == upstream.received[0].header("traceparent")
    assert 0 == await running.stop()
    assert [] == collector.server.received


@pytest.mark.parametrize("away", ["refused", "silent"])
async def test_a_collector_that_is_away_delays_nothing(
    away: str, upstream: FakeUpstream, traced_gateway: StartTraced, collector: OtlpReceiver, run: PostRun
) -> None:
    """Runs succeed, the queue is bounded, and the process ends within a few seconds."""
    upstream.always("POST", STUDIO_RUN, DONE)
    if away == "refused":
        await collector.server.stop()
    else:
        collector.server.default = faults.hang
    running = await traced_gateway({"OTEL_BSP_MAX_QUEUE_SIZE": "64", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"})
    for _ in range(60):  # 180 spans
        assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    started = time.monotonic()
    assert 0 == await running.stop()
    assert time.monotonic() - started < 10  # 0.2 s to drain, at most 2 s for the exporter; a busy machine
    await collector.server.stop()


async def test_without_tracing_nothing_is_sent(
    upstream: FakeUpstream, gateway: StartGateway, collector: OtlpReceiver, run: PostRun
) -> None:
    """Variables alone enable nothing."""
    upstream.always("POST", STUDIO_RUN, DONE)
    running = await gateway(None, collector.environment)
    assert 200 == (await run(running, PROMPT_STUDIO_BODY, traceparent=CALLER)).status
    assert CALLER == upstream.received[0].header("traceparent")
    assert 0 == await running.stop()
    assert [] == collector.server.received
    [line] = running.logs("request")
    assert (CALLER[3:35], False) == (line["trace_id"], "span_id" in line)


@pytest.mark.process
@pytest.mark.parametrize(
    ("missing", "variables", "text"),
    [
        (True, {}, "tracing.enabled: needs the OpenTelemetry SDK: install runward[otel]"),
        (False, {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many"}, "tracing: a variable of OpenTelemetry is not valid"),
    ],
)
def test_what_prevents_tracing_is_said_at_the_start(
    *, missing: bool, variables: dict[str, str], text: str, tmp_path: Path
) -> None:
    """The optional dependency is needed by a configuration with tracing alone."""
    (tmp_path / "gateway.yaml").write_text("tracing: {enabled: true}")
    code = f"""
import sys
if {missing}:
    sys.modules["opentelemetry"] = None
from pathlib import Path
from gateway.app.tracing import create_tracer
from gateway.clock import SystemClock
from gateway.settings import Settings, load
assert create_tracer(Settings(), SystemClock()) is None
try:
    create_tracer(load(Path(sys.argv[1])), SystemClock())
except Exception as refused:
    print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gateway.yaml")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**inherited_environment(), **PROVIDER_SECRETS, **variables},
    )
    assert done.stdout.strip().startswith(text), done.stdout


async def test_every_worker_is_an_instance_of_its_own(
    upstream: FakeUpstream, collector: OtlpReceiver, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Each process counts for itself, so each one has another `service.instance.id`."""
    upstream.always("POST", STUDIO_RUN, DONE)
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(gateway_config(upstream.url, upstream.url, tracing={"enabled": True})))
    command = [sys.executable, "-m", "tests.supervisor.run_supervisor", str(path), "2"]
    workers = GatewayProcess(command, tmp_path, collector.environment)
    try:
        await workers.wait_until_listening()
        await wait_until(lambda: len(workers.logs("ready")) >= 2)
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len({resource["service.instance.id"] for resource in collector.resources}) < 2:
                headers = auth_headers("one") | {"Connection": "close"}
                assert 200 == (await post_run(session, workers.url, PROMPT_STUDIO_BODY, headers)).status
        assert {"runward"} == {resource["service.name"] for resource in collector.resources}
    finally:
        await workers.stop()


def test_a_long_tracestate_is_left_out() -> None:
    """It is text of the caller, and kept with every span of the trace."""
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for size, kept in ((512, True), (513, False)):
        state = "a=" + "x" * 200 + ",b=" + "x" * 200 + ",c=" + "x" * (size - 408)
        assert size == len(state)
        context = trace.get_current_span(_caller([traceparent], [state])).get_span_context()
        assert (traceparent[3:35], kept) == (f"{context.trace_id:032x}", bool(context.trace_state))
