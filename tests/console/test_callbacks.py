"""Callbacks that were given up are delivered again from the console, and callback URLs are tested."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.conftest import Console, browser, chromium_path
from tests.console.test_accessibility import violations
from tests.support.callback_receiver import CALLBACK_PATH, deliveries
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream


async def test_a_callback_that_was_given_up_is_delivered_again(
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    tmp_path: Path,
) -> None:
    chromium_path()
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "done"}))
    receiver.script("POST", CALLBACK_PATH, [reply(500)])
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    running = await restartable.start(callbacks={"schedule": ["0s"]})
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH})
    await restartable.wait_for_callback(run_id)
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/callbacks")
        await page.get_by_role("button", name=f"Deliver again… {run_id}").click()
        await page.get_by_role("dialog").get_by_role("button", name="Deliver again").click()
        await expect(page.get_by_text("No callback is given up.")).to_be_visible()
        await restartable.wait_for_callback(run_id)
        await page.get_by_role("link", name="Delivered", exact=True).click()
        await page.locator("[data-row] a").first.click()
        timeline = page.get_by_role("region", name="Timeline")
        await expect(timeline.locator("tbody tr", has_text="callback, attempt")).to_have_count(2)
        assert 2 == len(deliveries(receiver))
        assert [] == console.errors


async def test_callbacks_are_recovered_by_receiver_after_a_count_and_a_url_is_tested(
    gateway: StartGateway,
    session: aiohttp.ClientSession,
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    tmp_path: Path,
) -> None:
    chromium_path()
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply({"completion": "done"}))
    receiver.script("POST", CALLBACK_PATH, [reply(500), reply(204), reply(503)])
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    running = await restartable.start(callbacks={"schedule": ["0s"]})
    url = receiver.url + CALLBACK_PATH
    run_id = await restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": url})
    await restartable.wait_for_callback(run_id)
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/callbacks", width=360)
        await page.get_by_role("button", name="Recover since…").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Count them").click()
        await expect(dialog).to_contain_text("1 callback was given up since")
        await expect(dialog.locator("tbody tr")).to_contain_text(["127.0.0.1"])
        assert [] == await violations(page)
        assert 1 == len(deliveries(receiver))
        await dialog.get_by_role("button", name="Deliver to 127.0.0.1").click()
        await expect(dialog).to_contain_text("1 callback is due now.")
        await restartable.wait_for_callback(run_id)
        await page.keyboard.press("Escape")
        await expect(page.get_by_text("No callback is given up.")).to_be_visible()
        await page.get_by_role("button", name="Test delivery…").click()
        await dialog.get_by_label("Callback URL").fill(url)
        await dialog.get_by_role("button", name="Send").click()
        await expect(dialog).to_contain_text("The receiver did not accept it.")
        await expect(dialog).to_contain_text("503")
        assert [] == await violations(page)
        await dialog.get_by_label("Callback URL").fill("http://10.0.0.1/hook")
        await dialog.get_by_role("button", name="Send").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("callback_url_refused")
        assert 3 == len(deliveries(receiver))
        assert [] == console.errors
