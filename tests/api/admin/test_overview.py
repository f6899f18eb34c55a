"""Figures of the console: over time, and of the configured providers, clients and workflows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gateway.clock import SystemClock
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.runs_port import RunsPort, runs_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream
    from tests.support.process import GatewayProcess

HASH = "sha256:" + "5" * 64
CONFIG = {
    "providers": {"studio": {"adapter": "prompt_studio", "api_key": "ps_4f9a8b7c6d5e"}},
    "workflows": {
        "triage": {"provider": "studio", "name": "dep_1", "timeout": "30s", "fallback": ["other"]},
        "other": {"provider": "studio"},
    },
    "clients": {
        "checkout": {
            "keys": [{"hash": HASH, "expires": "2027-12-31"}],
            "workflows": ["tri*"],
            "limits": {"rate": "100/m", "daily": 5000},
        }
    },
}


@pytest.fixture(params=[False, True], ids=["one process", "workers"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    async with runs_port(SystemClock(), supervised=request.param, config=CONFIG) as running:
        yield running


async def read(session: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with session.get(url) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.parametrize(
    ("query", "window", "step"),
    [
        ("", 900, 15),
        ("?window=5m", 300, 5),
        ("?window=15m", 900, 15),
        ("?window=1h", 3600, 60),
        ("?window=6h", 21600, 300),
    ],
)
async def test_each_window_has_its_steps(
    port: RunsPort, session: aiohttp.ClientSession, query: str, window: int, step: int
) -> None:
    status, document = await read(session, f"{port.url}/api/overview{query}")
    assert (200, window, step) == (status, document["window_seconds"], document["step_seconds"])
    assert {0} == {len(values) for values in document["series"].values()}
    assert {"runs": 0, "p50_ms": None}.items() <= document["totals"].items()
    assert not document["gateway"]["draining"]
    assert 1 == document["gateway"]["workers"]


@pytest.mark.parametrize("window", ["", "7h", "15M", "15m,1h", "x" * 5000, "%00"])
async def test_other_windows_are_refused(port: RunsPort, session: aiohttp.ClientSession, window: str) -> None:
    status, document = await read(session, f"{port.url}/api/overview?window={window}")
    assert (422, "?window") == (status, document["errors"][0]["pointer"])


async def test_the_configuration_is_shown_without_secrets(port: RunsPort, session: aiohttp.ClientSession) -> None:
    clients = (await read(session, port.url + "/api/clients"))[1]["clients"]
    assert [
        {
            "client": "checkout",
            "team": None,
            "workflows": ["tri*"],
            "limits": {"rate": "100/m", "daily": 5000},
            "keys": [{"name": None, "expires": "2027-12-31T00:00:00.000Z"}],
            "runs": 0,
            "refused": 0,
        }
    ] == clients
    workflows = (await read(session, port.url + "/api/workflows"))[1]["workflows"]
    assert ["other", "triage"] == [each["workflow"] for each in workflows]
    assert {
        "workflow": "triage",
        "provider": "studio",
        "name": "dep_1",
        "fallback": ["other"],
        "label": None,
        "version": None,
        "timeout": 30.0,
        "p95_ms": None,
        "runs": 0,
    } == workflows[1]
    (provider,) = (await read(session, port.url + "/api/providers"))[1]["providers"]
    assert {"provider": "studio", "mode": "auto", "starts": 0, "error_share": 0.0, "p95_ms": None}.items() <= (
        provider.items()
    )


async def check_figures(session: aiohttp.ClientSession, running: GatewayProcess, *, workers: int) -> None:
    """Check the figures of three runs that succeeded and a client that was refused once."""
    async with asyncio.timeout(30):
        while (overview := (await read(session, running.ops_url + "/api/overview?window=5m"))[1])["totals"]["runs"] < 3:
            await asyncio.sleep(0.2)
    assert {"runs": 3, "succeeded": 3, "failed": 0}.items() <= overview["totals"].items()
    assert overview["totals"]["p50_ms"] <= overview["totals"]["p95_ms"] <= overview["totals"]["p99_ms"]
    assert 3 == sum(overview["series"]["succeeded"])
    assert overview["store"]["available"]
    state = overview["gateway"]
    assert (workers, True, False) == (state["workers"], state["last_reload_ok"], state["draining"])
    assert state["started_at"]
    assert state["last_reload_at"]
    providers = (await read(session, running.ops_url + "/api/providers"))[1]["providers"]
    figures = {each["provider"]: each for each in providers}
    assert (3, 3, 0, 0.0) == tuple(
        figures["prompt_studio"][name] for name in ("starts", "runs", "errors", "error_share")
    )
    assert figures["prompt_studio"]["p95_ms"] > 0
    assert 0 == figures["promptlayer"]["starts"]
    clients = (await read(session, running.ops_url + "/api/clients"))[1]["clients"]
    assert (3, 0) == next((each["runs"], each["refused"]) for each in clients if each["client"] == "one")
    workflows = (await read(session, running.ops_url + "/api/workflows"))[1]["workflows"]
    shown = {each["workflow"]: each["runs"] for each in workflows}
    assert 3 == shown[str(PROMPT_STUDIO_BODY["workflow"])]


async def test_one_process_counts_its_runs(
    gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("because"))
    running = await gateway()
    for _ in range(3):
        assert 200 == (await run(running, PROMPT_STUDIO_BODY)).status
    await check_figures(session, running, workers=1)
