"""A run that an operator starts on behalf of a client from the console."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from tests.console.conftest import Console


async def test_a_run_is_started_for_a_client_after_a_confirmation_and_followed(console: Console) -> None:
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("s")
    form = page.get_by_role("form", name="Run")
    await form.get_by_label("Workflow").fill("report")
    await form.get_by_label("Input, a JSON object").fill('{"seconds": 3')
    await form.get_by_role("button", name="Start the run…").click()
    await expect(form.get_by_role("alert")).to_contain_text("not valid JSON")
    await form.get_by_label("Input, a JSON object").fill('{"seconds": 3}')
    key = await form.get_by_label("Idempotency key").input_value()
    command = await form.get_by_text("curl", exact=False).first.text_content()
    assert json.dumps({"seconds": 3}, separators=(",", ":")) in str(command)
    await form.get_by_role("button", name="Start the run…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("may cost money")
    assert [] == await console.list_runs()
    await dialog.get_by_role("button", name="Start it, and pay for it").click()
    await expect(page).to_have_url(re.compile("/console/runs/run_"))
    facts = page.get_by_role("region", name="Facts")
    await expect(facts).to_contain_text("following (poll")
    await expect(facts).to_contain_text("succeeded")
    [run] = await console.list_runs(idempotency_key=key, client="demo")
    assert ("report", "demo") == (run["workflow"], run["client"])
    await page.get_by_role("link", name="Run the workflow…").click()
    await expect(form.get_by_label("Workflow")).to_have_value("report")
    assert key != await form.get_by_label("Idempotency key").input_value()


async def test_a_refusal_is_shown_and_the_form_is_kept(console: Console) -> None:
    page = await console.open("/start?workflow=nothing")
    await page.get_by_role("button", name="Start the run…").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("button", name="Start it, and pay for it").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("The run was not started.")
    await expect(dialog.get_by_role("alert")).to_contain_text("workflow_not_found")
    await page.keyboard.press("Escape")
    await expect(page.get_by_label("Workflow")).to_have_value("nothing")
