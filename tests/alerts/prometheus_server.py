"""Prometheus server on loopback with the configuration of docs/alerts.md and accelerated rules."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import aiohttp
import yaml

from tests.alerts.alert_rules import PAGE, RULES, accelerated
from tests.alerts.prometheus_tools import find_program

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0

_SCRAPE_INTERVAL = "500ms"
_LISTENING = re.compile(rb'msg="Listening on" address=(\S+)')


class Alert(TypedDict):
    """Alert as reported by the server; `state` is "pending" or "firing"."""

    labels: dict[str, str]
    annotations: dict[str, str]
    state: str


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """Running Prometheus server."""

    url: str
    session: aiohttp.ClientSession

    async def alerts(self) -> list[Alert]:
        """Return every alert that is pending or firing."""
        return list((await self._get("alerts"))["alerts"])

    async def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        return {alert["labels"]["alertname"] for alert in await self.alerts() if alert["state"] == "firing"}

    async def unhealthy_rules(self) -> list[str]:
        """Return rules that failed to evaluate, or were not evaluated yet."""
        rules = [rule for group in (await self._get("rules"))["groups"] for rule in group["rules"]]
        assert rules
        return [rule["name"] for rule in rules if rule["health"] != "ok"]

    async def value(self, query: str) -> float:
        """Return the current value of a scalar query; 0 if it has no result."""
        result = (await self._get("query", query=query))["result"]
        return float(result[0]["value"][1]) if result else 0.0

    async def samples(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Return the current result of a query: labels and value of each series."""
        result = (await self._get("query", query=query))["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    async def _get(self, what: str, **query: str) -> Any:
        async with self.session.get(f"{self.url}/api/v1/{what}", params=query) as answer:
            answer.raise_for_status()
            return (await answer.json())["data"]


@contextlib.asynccontextmanager
async def running_prometheus(
    directory: Path, session: aiohttp.ClientSession, ops_url: str
) -> AsyncIterator[PrometheusServer]:
    """Run a server that scrapes this operations port until the block ends; the first scrape is complete."""
    write_configuration(directory, ops_url.removeprefix("http://"))
    process = await asyncio.create_subprocess_exec(
        find_program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        "--web.listen-address=127.0.0.1:0",
        cwd=directory, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    reading = None
    try:
        server = PrometheusServer(await _url(process.stderr), session)
        reading = asyncio.create_task(process.stderr.read())  # so that its log never fills the pipe
        await _wait_for_first_scrape(server)
        yield server
    finally:
        await _stop(process)
        if reading is not None:
            await reading


def configuration() -> dict[str, Any]:
    """Return the configuration that docs/alerts.md recommends."""
    found = re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    loaded = yaml.safe_load(found[1])
    assert isinstance(loaded, dict)
    return loaded


def write_configuration(directory: Path, target: str) -> None:
    """Write that configuration with short intervals and another target, and the accelerated rules."""
    config = configuration()
    [job] = config["scrape_configs"]
    job |= {
        "scrape_interval": _SCRAPE_INTERVAL,
        "scrape_timeout": _SCRAPE_INTERVAL,
        "static_configs": [{"targets": [target]}],
    }
    config["global"] = {"evaluation_interval": _SCRAPE_INTERVAL}
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    (directory / RULES.name).write_text(accelerated())


async def _url(log: asyncio.StreamReader) -> str:
    """Return the URL of the server once it is ready."""
    seen = b""
    async with asyncio.timeout(START_TIMEOUT):
        while line := await log.readline():
            seen += line
            if b"Server is ready" in line and (found := _LISTENING.search(seen)):
                return f"http://{found[1].decode()}"
    raise AssertionError(seen.decode())


async def _wait_for_first_scrape(server: PrometheusServer) -> None:
    """Wait for the first scrape, which may take several seconds (minutes for an accelerated rule)."""
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            down = [alert for alert in await server.alerts() if alert["labels"]["alertname"] == "RunwardDown"]
            if await server.value("sum(up)") == 1 and not down:
                return
            await asyncio.sleep(0.2)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Send SIGTERM, then SIGKILL after a timeout."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_TIMEOUT):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
