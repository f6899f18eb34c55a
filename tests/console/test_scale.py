"""The console with many runs, over two replicas, and over a restart of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING

from playwright.async_api import expect

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.store import factory
from gateway.store.history import SuccessRecord
from tests.console.conftest import Console, browser, chromium_path

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.valkey import ValkeyServer

RUNS = 100_000
CLOCK = SystemClock()
OPERATOR = new_key(CLOCK)
SERVER: JsonValue = {"ops_keys": [{"hash": hash_key(OPERATOR), "name": "oncall"}]}


async def record_runs(url: str) -> None:
    """Record 100 000 runs of the last day; the provider's ids are their numbers."""
    store = factory.create_store(url, CLOCK)
    await store.open()
    first = CLOCK.now().timestamp() - 86_400
    for begin in range(0, RUNS, 500):
        group = []
        for number in range(begin, begin + 500):
            at = first + number * 0.8
            run_id = f"run_{int(at):08x}{number:024x}"
            group.append(
                SuccessRecord(at, run_id, "one", "studio", "prompt_studio", at + 60, 1, str(number), at + 1, b"{}", b"")
            )
        await store.add_successes(group)
    await store.close()


async def test_one_run_of_a_hundred_thousand_is_found(
    tmp_path: Path, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    url = f"sqlite:///{tmp_path}/runward.db"
    await record_runs(url)
    running = await gateway(store={"url": url})
    async with browser() as started:
        console = Console(started, running, session)
        page = await console.open("/runs")
        await expect(page.locator("[data-row]")).to_have_count(50)
        await page.get_by_label("Look up by").select_option("provider_run_id")
        await page.locator("[data-search]").fill("4711")
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-row]")).to_have_count(1)
        await page.locator("[data-row] a").first.click()
        await expect(page.locator("dl.facts").first).to_contain_text("4711")
        assert [] == console.errors


async def test_a_session_and_its_pages_work_at_every_replica(
    valkey: ValkeyServer, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    """Cookies do not depend on the port, as behind a load balancer without affinity."""
    chromium_path()
    one, two = [await gateway(server=SERVER, store={"url": valkey.url}) for _ in range(2)]
    async with browser() as started:
        console = Console(started, one, session)
        page = await console.open("/providers")
        await page.get_by_label("Operations key").fill(OPERATOR)
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Suspend…").first.click()
        await page.get_by_role("button", name="Suspend", exact=True).click()
        await expect(page.get_by_text("suspended").first).to_be_visible()
        await page.goto(f"{two.ops_url}/console/providers")
        await expect(page.get_by_text("oncall, operator")).to_be_visible()
        await expect(page.get_by_text("suspended").first).to_be_visible()
        assert [] == console.errors


async def test_an_open_page_goes_on_after_a_restart(
    tmp_path: Path, gateway: StartGateway, session: aiohttp.ClientSession
) -> None:
    chromium_path()
    store: JsonValue = {"url": f"sqlite:///{tmp_path}/runward.db"}
    first = await gateway(server=SERVER, store=store)
    port = int(first.ops_url.rpartition(":")[2])
    async with browser() as started:
        console = Console(started, first, session)
        page = await console.open("/")
        await page.get_by_label("Operations key").fill(OPERATOR)
        await page.keyboard.press("Enter")
        state = page.locator(".connection")
        await expect(state).to_have_text("live")
        await first.stop()
        await expect(state).to_have_text("not connected")
        again: JsonValue = {"ops_keys": [{"hash": hash_key(OPERATOR), "name": "oncall"}], "ops_port": port}
        await gateway(server=again, store=store)
        await expect(state).to_have_text("live")
        await page.get_by_role("link", name="Runs", exact=True).first.click()
        await expect(page.get_by_text("oncall, operator")).to_be_visible()
