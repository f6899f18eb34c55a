"""Every page: no violation found by axe-core in either colour scheme, and no horizontal scrolling at 360 pixels."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.console.conftest import Console

AXE = gzip.decompress((Path(__file__).parent / "vendor" / "axe.min.js.gz").read_bytes()).decode()
PATHS = (
    "",
    "/attention",
    "/runs",
    "/runs?status=unknown&judged=false",
    "/runs?status=nonsense",
    "/live",
    "/providers",
    "/clients",
    "/configuration",
    "/keys",
    "/start",
    "/start?client=demo&workflow=report",
    "/workflows",
    "/spend",
    "/spend?days=365&by=workflow&client=demo",
    "/spend?by=tag&workflow=answer",
    "/callbacks",
    "/audit",
    "/audit?result=refused&actor=unknown-name",
    "/audit?from=yesterday",
    "/problems",
    "/problems/run_failed",
    "/nothing-here",
)


async def violations(page: Page) -> list[str]:
    """Return the rules that elements of the page violate, and the elements."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [f"{page.url} {rule['id']}: {[node['target'] for node in rule['nodes']]}" for rule in found["violations"]]


async def loaded(page: Page) -> None:
    """Wait until the page has loaded its data."""
    await expect(page.locator("h1")).to_be_visible()
    await expect(page.get_by_text("Loading…")).to_have_count(0)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")])
async def test_every_page_is_accessible(console: Console, width: int, scheme: str) -> None:
    await asyncio.gather(
        *(console.run(name, f"key-{name}") for name in ("answer", "falls-back", "always-fails", "never-answers"))
    )
    runs = [f"/runs/{run['id']}" for run in await console.list_runs() if run["status"] != "succeeded"]
    page = await console.open("", width=width, scheme=scheme)
    found = []
    for path in (*PATHS, *runs):
        await page.goto(f"{console.gateway.ops_url}/console{path}")
        await loaded(page)
        found += await violations(page)
        if (extent := await page.evaluate("document.documentElement.scrollWidth")) > width:
            found.append(f"{path}: {extent} pixels wide")
    assert [] == found


@pytest.mark.parametrize("width", [1280, 360])
async def test_dialogs_are_accessible(console: Console, width: int) -> None:
    await console.run("never-answers", "lost")
    [run] = await console.list_runs()
    page = await console.open(f"/runs/{run['id']}", width=width)
    found = []
    for name in ("Replay…", "Judge…"):
        await page.get_by_role("button", name=name).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        found += await violations(page)
        await page.keyboard.press("Escape")
    await page.goto(f"{console.gateway.ops_url}/console/start")
    await page.get_by_text("Label, version").click()
    await page.get_by_role("button", name="Start the run…").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    found += await violations(page)
    await page.keyboard.press("Escape")
    if width == 360:
        await page.get_by_role("button", name="Menu").click()
        await expect(page.get_by_role("link", name="Providers")).to_be_visible()
        found += await violations(page)
    assert [] == found
