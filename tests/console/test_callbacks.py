"""Callbacks that were given up are delivered again from the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from tests.console.conftest import Console, browser, chromium_path
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
