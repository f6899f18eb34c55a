"""The command palette, the keys of the pages, and saved views."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.test_accessibility import violations

if TYPE_CHECKING:
    from tests.console.conftest import Console


async def test_pages_runs_and_actions_are_reached_by_keyboard_alone(console: Console) -> None:
    run = await console.run("always-fails", "order-4711")
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("Control+k")
    field = page.get_by_role("combobox", name="Command, page, or id of a run")
    await expect(field).to_be_focused()
    assert [] == await violations(page)
    for key in ("Tab", "Shift+Tab"):  # the focus does not leave it
        await page.keyboard.press(key)
        await expect(field).to_be_focused()
    await page.keyboard.type("go prov")
    await expect(page.locator("#commands > li").first).to_contain_text("Providers")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Providers", level=1)).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)

    await page.keyboard.press("Control+k")
    await expect(field).to_be_focused()
    await page.keyboard.type("order-4711")
    await page.keyboard.press("ArrowUp")
    chosen = page.locator("[role=option][aria-selected=true]")
    await expect(chosen).to_contain_text("Run with the idempotency key order-4711 of demo")
    assert await chosen.get_attribute("id") == await field.get_attribute("aria-activedescendant")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("idempotency_key=order-4711&client=demo$"))
    await expect(page.locator("[data-row]")).to_have_count(1)

    await page.keyboard.press("Control+k")
    await page.keyboard.type(str(run["run_id"]))
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(f"/console/runs/{run['run_id']}$"))
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("failed")
    await page.keyboard.press("Control+k")
    await page.keyboard.type("judge")
    await expect(page.locator("#commands > li").first).to_have_attribute("aria-disabled", "true")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Control+k")
    await page.keyboard.type("replay this")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog", name="Replay this run")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)


async def test_a_key_of_a_page_is_not_taken_for_the_second_of_a_sequence(console: Console) -> None:
    run = await console.run("always-fails", "r")
    page = await console.open(f"/runs/{run['run_id']}")
    await expect(page.get_by_role("region", name="Facts")).to_be_visible()
    await page.keyboard.press("r")
    await expect(page.get_by_role("dialog", name="Replay this run")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("g")
    await page.keyboard.press("r")
    await expect(page.get_by_role("heading", name="Runs", level=1)).to_be_visible()
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.keyboard.press("g")
    await page.keyboard.press("l")
    await expect(page.get_by_role("heading", name="Live")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("p")
    await expect(page.get_by_role("heading", name="Providers", level=1)).to_be_visible()


async def test_a_view_is_saved_with_its_columns_and_removed(console: Console) -> None:
    await console.run("always-fails", "a")
    page = await console.open("/runs?status=failed&workflow=always-fails")
    await expect(page.locator("[data-row]")).to_have_count(1)
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_label("Attempts").check()
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_role("button", name="Save this view…").click()
    await page.get_by_label("Name").fill("My failures")
    assert [] == await violations(page)
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_role("button", name="Default columns").click()
    await page.reload()
    await page.get_by_role("link", name="All", exact=True).click()
    headers = page.locator("thead th")
    await expect(headers.filter(has_text="Attempts")).to_have_count(0)
    view = page.get_by_role("link", name="My failures")
    await view.click()
    await expect(page).to_have_url(re.compile(r"\?status=failed&workflow=always-fails$"))
    await expect(view).to_have_attribute("aria-current", "page")
    await expect(headers.filter(has_text="Attempts")).to_have_count(1)
    await page.keyboard.press("Control+k")
    await page.keyboard.type("my fail")
    await expect(page.locator("#commands > li").first).to_contain_text("Runs: My failures")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await page.get_by_role("button", name="Remove the view My failures").click()
    await expect(view).to_have_count(0)
    await page.evaluate("localStorage.setItem('runward.views', '[1, {\"name\": 2}]')")
    await page.reload()
    await expect(page.get_by_role("link", name="Retrying")).to_be_visible()


async def test_the_configuration_is_shown_without_secrets(console: Console) -> None:
    page = await console.open("/configuration")
    await expect(page.get_by_text("The last reload was accepted.")).to_be_visible()
    row = page.locator("[data-row='providers.promptlayer.api_key']")
    await expect(row).to_contain_text("set, hidden")
    await page.get_by_label("Setting").fill("server.grace")
    await expect(page.get_by_text("No value matches.")).to_be_visible()
    await page.get_by_label("Configured values only").uncheck()
    await expect(page.locator("[data-row]")).to_contain_text(["default"])
