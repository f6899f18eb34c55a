"""Log-in with operations keys: what a viewer sees, and that a wrong key and the end of a session are shown."""

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
VIEWER, OPERATOR, TEAM_VIEWER = (new_key(CLOCK) for _ in range(3))
SERVER: JsonValue = {
    "ops_keys": [
        {"hash": hash_key(VIEWER), "role": "viewer", "name": "dashboard"},
        {"hash": hash_key(OPERATOR), "name": "oncall"},
        {"hash": hash_key(TEAM_VIEWER), "role": "viewer", "name": "lead", "team": "shop"},
    ]
}
TEAMS: JsonValue = {"shop": {}}


async def test_a_viewer_reads_everything_and_sees_why_nothing_can_be_changed(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    running = await gateway(server=SERVER, teams=TEAMS)
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
        await expect(suspend).to_have_attribute("title", "You have the role viewer: you cannot change anything.")
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
    running = await gateway(server=SERVER, teams=TEAMS)
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


async def test_a_viewer_of_a_team_sees_the_pages_of_the_team_only(
    gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    running = await gateway(server=SERVER, teams=TEAMS)
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/")
        await page.get_by_label("Operations key").fill(TEAM_VIEWER)
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("lead, viewer of team shop")).to_be_visible()
        await expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        links = page.get_by_role("navigation", name="Pages").get_by_role("link")
        await expect(links).to_have_text(["Runs", "Clients and limits", "Spend"])
        await page.keyboard.press("g")
        await page.keyboard.press("m")
        await expect(page.get_by_role("heading", name="Spend")).to_be_visible()
        await page.goto(f"{running.ops_url}/console/providers")
        await expect(page.get_by_text("Your key may read what belongs to the team shop only")).to_be_visible()
        assert [] == console.errors
