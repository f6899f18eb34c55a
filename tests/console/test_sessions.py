"""Login with operations keys: what a viewer sees, and that a wrong key and the end of a session are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.console.conftest import Console, browser, chromium_path

if TYPE_CHECKING:
    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway

CLOCK = SystemClock()
VIEWER, OPERATOR = new_key(CLOCK), new_key(CLOCK)
SERVER: JsonValue = {
    "ops_keys": [
        {"hash": hash_key(VIEWER), "role": "viewer", "name": "dashboard"},
        {"hash": hash_key(OPERATOR), "name": "oncall"},
    ]
}


async def test_a_viewer_reads_everything_and_sees_why_nothing_can_be_changed(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    running = await gateway(server=SERVER)
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/providers")
        await page.get_by_label("Operations key").fill("rw_wrong")
        await page.get_by_role("button", name="Open the console").click()
        await expect(page.get_by_role("alert")).to_contain_text("The console was not opened.")
        await page.get_by_label("Operations key").fill(VIEWER)
        await page.keyboard.press("Enter")
        suspend = page.get_by_role("button", name="Suspend…").first
        await expect(suspend).to_have_attribute("aria-disabled", "true")
        await expect(suspend).to_have_attribute("title", "Your key is a viewer's: it cannot change anything.")
        await suspend.click(force=True)
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(page.get_by_text("dashboard, viewer")).to_be_visible()
        assert "/console/providers" in page.url
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_label("Operations key")).to_be_visible()
        assert [] == console.errors


async def test_an_operator_changes_something_and_the_end_of_the_session_leads_to_the_login(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    running = await gateway(server=SERVER)
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/providers")
        await page.get_by_label("Operations key").fill(OPERATOR)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Suspend…").first.click()
        await page.get_by_role("button", name="Suspend", exact=True).click()
        await expect(page.get_by_text("suspended").first).to_be_visible()
        await page.context.clear_cookies()
        await page.get_by_role("link", name="Runs", exact=True).first.click()
        await expect(page.get_by_label("Operations key")).to_be_visible()
        assert [] == console.errors
