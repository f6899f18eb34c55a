"""The page of audit records: what the console has changed, with conditions and pages in the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page

    from tests.console.conftest import Console


def rows(page: Page) -> Locator:
    """Rows of the table."""
    return page.get_by_role("region", name="Audit records").locator("tbody tr")


async def suspend(page: Page, console: Console) -> None:
    """Suspend a provider by the console, and undo it by the API without a page."""
    await page.goto(f"{console.gateway.ops_url}/console/providers")
    origin = {"X-Runward-Console": "1", "Origin": console.gateway.ops_url}
    for mode in ("suspended", "auto"):
        url = f"{console.gateway.ops_url}/providers/override/promptlayer"
        async with console.session.post(url, json={"mode": mode}, headers=origin) as answer:
            assert 200 == answer.status
    async with console.session.post(f"{console.gateway.ops_url}/callbacks/replay/run_none", json={}) as answer:
        assert 404 == answer.status


@pytest.mark.parametrize("width", [1280, 360])
async def test_what_was_changed_is_listed_once_and_found_by_conditions(console: Console, width: int) -> None:
    page = await console.open("", width=width)
    await suspend(page, console)
    await page.goto(f"{console.gateway.ops_url}/console/audit")
    newest = rows(page).first
    await expect(newest).to_contain_text("callbacks.redeliver")
    await expect(newest).to_contain_text("run_none")
    await expect(newest).to_contain_text("refused")
    await expect(rows(page).filter(has_text="providers.override")).to_have_count(2)  # not the beginnings
    await expect(rows(page).filter(has_text="gateway.start")).to_have_count(1)
    await page.get_by_label("Action").fill("providers.override")
    await page.get_by_label("Result").select_option("succeeded")
    await page.get_by_role("button", name="Search").click()
    await expect(rows(page)).to_have_count(2)
    await expect(rows(page).first).to_contain_text("mode auto, mode before suspended")
    assert "action=providers.override&result=succeeded" in page.url
    await expect(page.get_by_label("Action")).to_have_value("providers.override")
    await page.reload()
    await expect(rows(page)).to_have_count(2)
    await page.get_by_label("From").fill("yesterday")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("alert")).to_contain_text("must be a time")
    await page.get_by_role("link", name="All records").click()
    await expect(rows(page).filter(has_text="gateway.start")).to_have_count(1)


async def test_pages_follow_each_other(console: Console) -> None:
    page = await console.open("")
    await suspend(page, console)
    await page.goto(f"{console.gateway.ops_url}/console/audit?limit=2")
    await expect(rows(page)).to_have_count(1)
    await expect(rows(page)).to_contain_text("callbacks.redeliver")
    await page.get_by_role("link", name="Next page").click()
    await expect(rows(page)).to_contain_text("mode auto")
    await page.get_by_role("link", name="First page").click()
    await expect(rows(page)).to_contain_text("callbacks.redeliver")
    await page.keyboard.press("g")
    await page.keyboard.press("u")
    await expect(rows(page).filter(has_text="providers.override")).to_have_count(2)
