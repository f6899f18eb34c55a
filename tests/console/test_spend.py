"""The page Spend: what runs cost, by day and group, from the gateway's own report."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.conftest import Console, browser, chromium_path
from tests.support.waiting import WAIT_TIMEOUT

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway


async def counted(console: Console, runs: int) -> None:
    """Wait until the usage has this number of runs."""
    async with asyncio.timeout(WAIT_TIMEOUT):
        while True:
            async with console.session.get(f"{console.gateway.ops_url}/api/usage?group_by=") as response:
                if (await response.json())["total"]["runs"] >= runs:
                    return
            await asyncio.sleep(0.05)


async def test_spend_is_shown_by_day_and_group(console: Console) -> None:
    await asyncio.gather(
        console.run("answer", "one", tags=["nightly"]),
        console.run("report", "two"),
        console.run("never-answers", "three"),
    )
    await counted(console, 3)
    page = await console.open("/spend")
    figures = page.locator("dl.figures")
    await expect(figures).to_contain_text("0.06")
    await expect(figures).to_contain_text("0.02")
    table = page.get_by_role("region", name="Usage by client")
    await expect(table.locator("tbody tr")).to_have_text([r"demo30.060.02"])
    await expect(page.locator("svg rect")).to_have_count(2)
    await page.get_by_label("Group by").select_option("workflow")
    rows = page.get_by_role("region", name="Usage by workflow").locator("tbody tr")
    await expect(rows).to_have_text(["report10.040", "answer10.020", "never-answers100.02"])
    chart = page.get_by_role("region", name="Cost by day and workflow")
    await chart.get_by_role("button", name="Table").click()
    await expect(chart.locator("tbody tr")).to_have_count(1)
    await expect(chart.locator("thead th")).to_have_text(["Day (UTC)", "report", "answer", "may have been paid"])


async def test_conditions_are_in_the_url_and_can_be_removed(console: Console) -> None:
    await asyncio.gather(console.run("answer", "one", tags=["nightly"]), console.run("report", "two"))
    await counted(console, 2)
    page = await console.open("/spend?by=workflow&days=7")
    await expect(page.get_by_role("button", name="7 days")).to_have_attribute("aria-pressed", "true")
    await page.get_by_label("Condition", exact=True).select_option("provider")
    await page.get_by_label("Value", exact=True).fill("prompt_studio")
    await page.get_by_role("button", name="Add", exact=True).click()
    rows = page.get_by_role("region", name="Usage by workflow").locator("tbody tr")
    await expect(rows).to_have_text(["answer10.020"])
    assert page.url.endswith("/spend?days=7&by=workflow&provider=prompt_studio")
    await page.get_by_label("Group by").select_option("tag")
    await expect(page.get_by_role("alert")).to_contain_text("A tag can be combined with client, team and outcome only")
    await page.get_by_role("button", name="Remove provider prompt_studio").click()
    await expect(page.get_by_role("region", name="Usage by tag").locator("tbody tr")).to_have_text(["nightly10.020"])
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download CSV").click()
    path = await (await download.value).path()
    assert path.read_text().splitlines()[0] == "day,tag,runs,spent,unknown"
    await page.get_by_role("link", name="nightly").click()
    await expect(page.locator("[data-row]")).to_have_count(1)


async def test_without_runs_the_page_says_so(console: Console) -> None:
    page = await console.open("/spend")
    await expect(page.get_by_text("No run was created in these days.")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("o")
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("m")
    await expect(page.get_by_role("heading", name="Spend")).to_be_visible()


async def test_budgets_show_what_is_used_of_them(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    chromium_path()
    running = await gateway(
        budgets={"lab": {"amount": 0.04, "per": "month", "workflow": "studio"}},
        workflows={"studio": {"provider": "prompt_studio", "name": "d1", "price": 0.03}},
    )
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/spend")
        row = page.get_by_role("region", name="Budgets").locator("tbody tr")
        await expect(row).to_contain_text(["lab"])
        await expect(row).to_contain_text(["workflow studio"])
        await expect(row).to_contain_text(["0 %"])
        assert [] == console.errors
