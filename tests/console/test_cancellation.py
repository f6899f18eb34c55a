"""A run that an operator cancels from its page: what the dialog says before and after, by what the run does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.conftest import Console, browser, chromium_path
from tests.console.test_accessibility import violations
from tests.console.test_sessions import OPERATOR, SERVER, VIEWER
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run

if TYPE_CHECKING:
    import aiohttp
    from playwright.async_api import Page, Route

    from providers.contract import JsonValue
    from tests.conftest import StartGateway


async def post(console: Console, path: str, body: JsonValue) -> dict[str, JsonValue]:
    """POST to the operations port; returns the document."""
    async with console.session.post(console.gateway.ops_url + path, json=body) as answer:
        assert answer.ok
        document: dict[str, JsonValue] = await answer.json()
        return document


async def start(console: Console, workflow: str, **run_input: JsonValue) -> str:
    """Start a run of the demo's client in the background; returns its id."""
    order: JsonValue = {
        "client": "demo",
        "idempotency_key": f"cancel-{workflow}",
        "run": {"workflow": workflow, "input": run_input},
    }
    return str((await post(console, "/api/run", order))["id"])


async def test_a_queued_run_is_cancelled_and_its_page_names_the_operator(console: Console) -> None:
    await post(console, "/providers/override/promptlayer", {"mode": "suspended"})
    run_id = await start(console, "report", seconds=1)
    page = await console.open(f"/runs/{run_id}")
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("queued")
    await page.keyboard.press("c")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("it ends as not run, and nothing is paid")
    assert [] == await violations(page)
    await dialog.get_by_role("button", name="Let it run").click()
    await expect(dialog).to_have_count(0)
    await page.get_by_role("button", name="Cancel…").click()
    await dialog.get_by_role("button", name="Cancel the run").click()
    await expect(dialog).to_contain_text("The run was cancelled.")
    await expect(dialog).to_contain_text("Its status is not run.")
    assert [] == await violations(page)
    await dialog.get_by_role("button", name="Close").last.click()
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("An operator cancelled the run.")
    await expect(page.get_by_role("region", name="Events")).to_contain_text("an operator asked to cancel")
    cancel = page.get_by_role("button", name="Cancel…")
    await expect(cancel).to_have_attribute("title", "The run has ended.")
    await page.keyboard.press("c")
    await expect(dialog).to_have_count(0)
    [run] = await console.list_runs()
    assert ("not_run", 0) == (run["status"], run["attempts"])


async def let_stop(page: Page) -> None:
    """Let the page read that PromptLayer can stop runs."""

    async def answer(route: Route) -> None:
        document = json.loads(await (await route.fetch()).text())
        assert {False} == {each["can_stop_runs"] for each in document["providers"]}
        await route.fulfill(json={"providers": [{**each, "can_stop_runs": True} for each in document["providers"]]})

    await page.route("**/api/providers", answer)


async def test_a_started_run_is_paid_for_where_its_provider_cannot_stop_it(console: Console) -> None:
    """The dialog also knows providers that can, and is told if the run ends before the answer."""
    run_id = await start(console, "report", seconds=6)
    page = await console.open(f"/runs/{run_id}")
    await expect(page.get_by_role("region", name="Facts")).to_contain_text("following (poll")
    await let_stop(page)
    await page.get_by_role("button", name="Cancel…").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("promptlayer is asked to stop it")
    await page.keyboard.press("Escape")
    await page.unroute("**/api/providers")
    await page.keyboard.press("c")
    await expect(dialog).to_contain_text("promptlayer cannot stop it: it is paid for anyway")
    await dialog.get_by_role("button", name="Cancel the run").click()
    await expect(dialog).to_contain_text("The run goes on.")
    await page.keyboard.press("Escape")
    await page.keyboard.press("c")
    await expect(dialog).to_contain_text("The run has ended meanwhile: succeeded.")
    await expect(dialog.get_by_role("button", name="Cancel the run")).to_have_count(0)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("region", name="Events")).to_contain_text("an operator asked to cancel")


async def test_a_viewer_sees_why_a_run_is_not_cancelled(gateway: StartGateway, session: aiohttp.ClientSession) -> None:
    chromium_path()
    running = await gateway(server=SERVER, teams={"shop": {}})
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    override = f"{running.ops_url}/providers/override/prompt_studio"
    async with session.post(override, json={"mode": "suspended"}, headers=headers) as answer:
        assert 200 == answer.status
    accepted = await post_run(
        session, running.url, PROMPT_STUDIO_BODY, {**auth_headers("one"), "Prefer": "respond-async"}
    )
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open(f"/runs/{accepted.json['id']}")
        await page.get_by_label("Operations key").fill(VIEWER)
        await page.keyboard.press("Enter")
        cancel = page.get_by_role("button", name="Cancel…")
        await expect(cancel).to_have_attribute("aria-disabled", "true")
        await expect(cancel).to_have_attribute("title", "You have the role viewer: you cannot change anything.")
        await page.keyboard.press("c")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert [] == console.errors
