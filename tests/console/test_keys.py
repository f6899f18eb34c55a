"""Keys of clients in the console: one is created, tried, rotated with a grace and revoked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.console.test_accessibility import violations

if TYPE_CHECKING:
    from playwright.async_api import Locator

    from tests.console.conftest import Console

pytest.importorskip("gateway.api.admin.keys", reason="this gateway has no stored keys")


async def text_of_new_key(dialog: Locator) -> str:
    """Return the key that a dialog shows, and close the dialog."""
    text = await dialog.get_by_label("Key of demo").input_value()
    await dialog.get_by_role("button", name="I have copied it").click()
    await expect(dialog).to_have_count(0)
    return text


async def status_with(console: Console, key: str) -> int:
    """Request a run with a key; returns the status of the response."""
    body = {"workflow": "answer", "input": {"prompt": "hello"}}
    headers = {"Authorization": f"Bearer {key}"}
    async with console.session.post(f"{console.gateway.url}/run", json=body, headers=headers) as answer:
        return answer.status


async def test_a_key_is_created_tried_rotated_and_revoked(console: Console) -> None:
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("e")
    await expect(page.get_by_text("No key was created here yet.")).to_be_visible()
    dialog = page.get_by_role("dialog")

    await page.get_by_role("button", name="New key…").click()
    await dialog.get_by_label("What it is for").fill("checkout")
    assert [] == await violations(page)
    await dialog.get_by_role("button", name="Create the key").click()
    await expect(dialog).to_contain_text("cannot show it again")
    assert [] == await violations(page)
    first = await text_of_new_key(dialog)
    row = page.locator("[data-row]", has_text="checkout")
    await expect(row).to_contain_text("active")
    assert first not in await page.content()
    assert 200 == await status_with(console, first)

    tried = page.get_by_role("form", name="Try a key")
    await tried.get_by_label("Try a key").fill(first)
    await tried.get_by_role("button", name="Try").click()
    await expect(tried.get_by_role("status")).to_contain_text("A key of demo.")
    await expect(tried.get_by_label("Try a key")).to_have_value("")

    await row.get_by_role("button", name="Rotate… checkout").click()
    await dialog.get_by_label("The present text stays valid for").select_option("1h")
    await dialog.get_by_role("button", name="Rotate", exact=True).click()
    await expect(dialog).to_contain_text("The previous text is valid until")
    second = await text_of_new_key(dialog)
    await expect(row).to_contain_text("previous text until")
    assert (200, 200) == (await status_with(console, first), await status_with(console, second))

    await row.get_by_role("button", name="Rotate… checkout").click()
    await dialog.get_by_label("the previous text; the present one was never given to an app").check()
    assert [] == await violations(page)
    await dialog.get_by_role("button", name="Rotate", exact=True).click()
    third = await text_of_new_key(dialog)
    assert (200, 401, 200) == tuple([await status_with(console, each) for each in (first, second, third)])

    await row.get_by_role("button", name="Expiry… checkout").click()
    await dialog.get_by_label("It is to expire").select_option("1")
    await dialog.get_by_role("button", name="Set the expiry").click()
    await expect(row).to_contain_text(re.compile("in 2[34] h"))

    await row.get_by_role("button", name="Revoke… checkout").click()
    await dialog.get_by_role("button", name="Revoke", exact=True).click()
    await expect(row).to_contain_text("revoked")
    assert (401, 401) == (await status_with(console, first), await status_with(console, third))
    await tried.get_by_label("Try a key").fill(third)
    await page.keyboard.press("Enter")
    await expect(tried.get_by_role("status")).to_contain_text("Refused. It was revoked.")
    await expect(row.get_by_role("button", name="Rotate…")).to_have_attribute("aria-disabled", "true")


async def test_the_list_of_keys_is_usable_on_a_phone(console: Console) -> None:
    async with console.session.post(
        f"{console.gateway.ops_url}/api/keys", json={"client": "demo", "name": "phone"}
    ) as answer:
        assert 201 == answer.status
    page = await console.open("/keys?client=demo", width=360, scheme="dark")
    await expect(page.locator("[data-row]", has_text="phone")).to_be_visible()
    assert [] == await violations(page)
    assert 360 >= await page.evaluate("document.documentElement.scrollWidth")
    await page.goto(f"{console.gateway.ops_url}/console/keys?client=nothing!")
    await expect(page.get_by_role("alert")).to_contain_text("The keys could not be loaded.")
