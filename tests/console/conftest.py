"""A browser, and the console of a demo. Without chromium the tests are skipped, unless it is required."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.support.demo import demo
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp

    from providers.contract import JsonValue
    from tests.support.process import GatewayProcess

REQUIRED = "RUNWARD_REQUIRE_CHROMIUM"
"""Set where chromium must be there: then its absence is a failure."""
expect.set_options(timeout=WAIT_TIMEOUT * 1000)

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def chromium_path() -> str:
    """Return the path of the program; the test is skipped if there is none."""
    found = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    if found is None:
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"none of {', '.join(PROGRAMS)} is installed, and {REQUIRED} is set")
        pytest.skip(f"none of {', '.join(PROGRAMS)} is installed")
    return found


@dataclass(slots=True)
class Console:
    """The console of a gateway in a browser. `errors`: what the browser reported, such as refusals by the CSP."""

    browser: Browser
    gateway: GatewayProcess
    session: aiohttp.ClientSession
    errors: list[str] = field(default_factory=list)

    async def open(self, path: str = "", *, width: int = 1280, scheme: str = "light") -> Page:
        """Open a page of the console in a new tab without stored data."""
        context = await self.browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        page = await context.new_page()
        page.set_default_timeout(WAIT_TIMEOUT * 1000)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self._note(message.type, message.text))
        await page.goto(f"{self.gateway.ops_url}/console{path}")
        return page

    async def run(self, workflow: str, key: str, **members: JsonValue) -> dict[str, JsonValue]:
        """Request a durable run of the demo with an idempotency key, and return the document of the response."""
        [client_key, *_] = re.findall(r"\brw_\w+", self.gateway.stdout)
        body = {"workflow": workflow, "input": {"message": "hello", "prompt": "hello"}, **members}
        headers = {"Authorization": f"Bearer {client_key}", "Idempotency-Key": key}
        async with self.session.post(f"{self.gateway.url}/run", json=body, headers=headers) as response:
            document: dict[str, JsonValue] = await response.json()
            return document

    async def list_runs(self, **conditions: str) -> list[dict[str, JsonValue]]:
        """Return the runs with these conditions, as the operations API lists them."""
        async with self.session.get(f"{self.gateway.ops_url}/api/runs", params=conditions) as response:
            runs: list[dict[str, JsonValue]] = (await response.json())["runs"]
            return runs

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "Failed to load resource" not in text:  # refusals are shown by the page
            self.errors.append(text)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Start chromium."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
        try:
            yield running
        finally:
            await running.close()


@pytest.fixture
async def console(session: aiohttp.ClientSession) -> AsyncIterator[Console]:
    """The console of a demo. Afterwards no script has failed, and the policy of the page has refused nothing."""
    chromium_path()
    async with demo() as running, browser() as started:
        opened = Console(started, running, session)
        yield opened
        assert [] == opened.errors
