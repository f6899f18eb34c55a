"""What operators do in the console, against a real gateway with the sandbox's providers."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from playwright.async_api import expect

if TYPE_CHECKING:
    from tests.console.conftest import Console


async def test_the_failing_provider_is_found_from_its_figures(console: Console) -> None:
    for number in range(3):
        await console.run("always-fails", f"failing-{number}")
    await console.run("answer", "works")
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("g")
    await page.keyboard.press("p")
    failing = page.get_by_role("region", name="promptlayer")
    await expect(failing.get_by_text("always-fails")).to_be_visible()
    await failing.get_by_role("link", name="Failed runs").click()
    await expect(page).to_have_url(re.compile(r"/console/runs\?provider=promptlayer&status=failed$"))
    await expect(page.locator("[data-row]")).to_have_count(3)
    await expect(page.locator("[data-row]").first).to_contain_text("run_failed")


async def test_a_run_is_found_by_its_id_and_by_its_key(console: Console) -> None:
    run = await console.run("falls-back", "order-4711")
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("/")
    await page.get_by_role("searchbox", name="Run id").fill(str(run["id"]))
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(f"/console/runs/{run['id']}$"))
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("succeeded")
    timeline = page.get_by_role("region", name="Timeline")
    await expect(timeline).to_contain_text("fell back to triage-studio at prompt_studio")
    assert await timeline.locator("rect.mark").count() == await timeline.locator("tbody tr").count()

    await page.goto(f"{console.gateway.ops_url}/console/runs")
    await page.get_by_label("Look up by").select_option("idempotency_key")
    await page.get_by_role("searchbox", name="Idempotency key").fill("order-4711")
    await page.get_by_label("Client that used the key").fill("demo")
    await page.get_by_role("button", name="Look up").click()
    await expect(page.locator("[data-row]")).to_have_count(1)
    await page.keyboard.press("Escape")
    await page.locator("h1").click()
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(f"/console/runs/{run['id']}$"))


async def test_an_unknown_run_is_judged(console: Console) -> None:
    await console.run("never-answers", "lost")
    page = await console.open("/attention")
    await page.get_by_role("link", name="Show").click()
    await page.locator("[data-row] a").first.click()
    await page.get_by_role("button", name="Judge…").click()
    await page.get_by_label("The run was not executed").check()
    await page.get_by_label("Note").fill("not in the provider's list")
    await page.get_by_role("button", name="Judge", exact=True).click()
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("found not run")
    [run] = await console.list_runs(status="unknown")
    judgement = run["judgement"]
    assert isinstance(judgement, dict)
    assert ("found_not_run", "not in the provider's list") == (judgement["verdict"], judgement["note"])
    await page.goto(f"{console.gateway.ops_url}/console/attention")
    await expect(page.get_by_text("Nothing to do.")).to_be_visible()


async def test_a_provider_is_suspended_with_a_note(console: Console) -> None:
    page = await console.open("/providers")
    provider = page.get_by_role("region", name="promptlayer")
    await provider.get_by_role("button", name="Suspend… promptlayer").click()
    await page.get_by_label("Note for other operators").fill("incident 12")
    await page.get_by_role("dialog").get_by_role("button", name="Suspend", exact=True).click()
    await expect(provider).to_contain_text("incident 12")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    refused = await console.run("always-fails", "suspended", timeout=1)
    assert ("provider_suspended", "not_run") == (refused["code"], refused["outcome"])
    await provider.get_by_role("button", name="Automatic… promptlayer").click()
    await page.get_by_role("button", name="Return to automatic").click()
    await expect(provider).not_to_contain_text("incident 12")


async def test_a_live_run_is_followed_until_its_end(console: Console) -> None:
    page = await console.open("/live")
    await expect(page.get_by_text("Waiting for runs")).to_be_visible()
    task = asyncio.create_task(console.run("report", "live", input={"seconds": 5}))
    row = page.locator("[data-row]").first
    await expect(row).to_contain_text("report")
    await row.get_by_role("link").first.click()
    facts = page.get_by_role("region", name="Facts")
    await expect(facts).to_contain_text("following (poll")
    await task
    await expect(facts).to_contain_text("succeeded")
    await expect(facts).to_contain_text("Cost")

    await page.keyboard.press("g")
    await page.keyboard.press("l")
    await expect(page.get_by_role("heading", name="Live")).to_be_visible()
    await page.keyboard.press("p")
    await expect(page.get_by_text("Paused.")).to_be_visible()
    await console.run("answer", "while-paused")
    await expect(page.get_by_role("status").filter(has_text="since then")).to_contain_text("change")
    await expect(page.locator("[data-row]", has_text="answer")).to_have_count(0)
    await page.keyboard.press("p")
    await expect(page.locator("[data-row]", has_text="answer")).to_have_count(1)


async def test_a_run_is_replayed_after_its_plan(console: Console) -> None:
    await console.run("always-fails", "replayed")
    [run] = await console.list_runs(status="failed")
    page = await console.open(f"/runs/{run['id']}")
    await page.get_by_role("button", name="Replay…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The plan starts 1 run.")
    assert 1 == len(await console.list_runs())
    await dialog.get_by_role("button", name="Start 1 run").click()
    await expect(dialog).to_contain_text("1 started")
    await dialog.get_by_role("button", name="Close").last.click()
    await page.get_by_role("link", name="Its replays").click()
    await expect(page.locator("[data-row]")).to_have_count(1)


async def test_selected_runs_are_replayed_and_those_with_an_unknown_outcome_left_out(console: Console) -> None:
    await asyncio.gather(console.run("never-answers", "unknown"), console.run("always-fails", "failed"))
    page = await console.open("/runs")
    await page.get_by_label("Select all of this page").check()
    await page.get_by_role("button", name="Replay 2 selected runs…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("1 have an unknown outcome")
    await dialog.get_by_label("Include runs whose outcome is unknown").check()
    await expect(dialog).to_contain_text("Each of these runs may be paid for twice.")
    await expect(dialog).to_contain_text("The plan starts 2 runs.")
    await expect(dialog).to_contain_text("Declared price if all are executed")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    assert 2 == len(await console.list_runs())


async def test_conditions_are_chips_and_in_the_url(console: Console) -> None:
    await asyncio.gather(console.run("answer", "a"), console.run("always-fails", "b"))
    page = await console.open("/runs")
    await expect(page.locator("[data-row]")).to_have_count(2)
    await page.get_by_label("Condition", exact=True).select_option("workflow")
    await page.get_by_label("Value of Workflow").fill("answer")
    await page.get_by_role("button", name="Add").click()
    await expect(page.locator("[data-row]")).to_have_count(1)
    assert page.url.endswith("/runs?workflow=answer")
    await page.get_by_role("link", name="Failed").click()
    await expect(page.locator("[data-row]")).to_contain_text(["always-fails"])
    await page.get_by_role("button", name="Remove the condition Status: failed").click()
    await expect(page.locator("[data-row]")).to_have_count(2)
    await page.go_back()
    await expect(page.locator("[data-row]")).to_have_count(1)
    await page.goto(f"{console.gateway.ops_url}/console/runs?limit=1")
    await page.get_by_role("link", name="Next page").click()
    await expect(page.locator("[data-row]")).to_have_count(1)
    await expect(page.get_by_role("link", name="First page")).to_be_visible()


async def test_columns_are_kept(console: Console) -> None:
    await console.run("answer", "a")
    page = await console.open("/runs")
    await page.get_by_text("Columns", exact=True).click()
    await page.get_by_label("Attempts").check()
    await page.get_by_label("Client", exact=True).uncheck()
    await page.reload()
    headers = page.locator("thead th")
    await expect(headers.filter(has_text="Attempts")).to_have_count(1)
    await expect(headers.filter(has_text="Client")).to_have_count(0)


async def test_an_error_is_never_shown_as_no_result(console: Console) -> None:
    page = await console.open("/runs?status=nonsense")
    await expect(page.get_by_role("alert")).to_contain_text("The runs could not be loaded.")
    await expect(page.get_by_role("alert")).to_contain_text("must be one of")
    await expect(page.get_by_text("No run matches")).to_have_count(0)
    await page.route("**/api/runs*", lambda route: route.abort())
    await page.get_by_role("link", name="All", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("The gateway cannot be reached.")
    await expect(page.get_by_text("No run is recorded")).to_have_count(0)
    await page.unroute("**/api/runs*")
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("No run is recorded yet.")).to_be_visible()


async def test_every_chart_has_a_table_and_a_range_leads_to_its_runs(console: Console) -> None:
    await console.run("answer", "a")
    page = await console.open()
    charts = page.locator(".chart")
    await expect(charts).to_have_count(4)
    box = await charts.first.locator(".u-over").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 20)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 20, steps=5)
    await page.mouse.up()
    await page.get_by_role("link", name="Runs created in this range").click()
    await expect(page).to_have_url(re.compile("created_after=.*&created_before="))
    await page.go_back()
    for index in range(4):
        await charts.nth(index).get_by_role("button").click()
        await expect(charts.nth(index).locator("thead")).to_contain_text("Time (UTC)")


async def test_keys_and_colours(console: Console) -> None:
    page = await console.open()
    await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    for key, title in (("a", "Needs attention"), ("r", "Runs"), ("c", "Clients and limits"), ("o", "Overview")):
        await page.keyboard.press("g")
        await page.keyboard.press(key)
        await expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
    background = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    for _ in range(2):
        await page.get_by_role("button", name="Colours").click()
    assert light != await page.evaluate(background)
    await page.reload()
    await expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()


async def test_a_hidden_tab_has_no_stream(console: Console) -> None:
    page = await console.open("/live")
    await expect(page.locator(".connection")).to_contain_text("live")
    hide = "value => { Object.defineProperty(document, 'hidden', { value, configurable: true });"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    await page.evaluate(hide, True)
    await expect(page.locator(".connection")).to_contain_text("not connected")
    await page.evaluate(hide, False)
    await expect(page.locator(".connection")).to_have_text("live")
