"""`GET /api/attention` of a whole gateway, and its webhook."""

from __future__ import annotations

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from structlog.testing import LogCapture

from gateway.app import factories
from gateway.app.bootstrap import start_gateway
from gateway.app.components import build_components
from gateway.clock import SystemClock
from gateway.settings import Settings, SettingsError
from tests.support.callback_receiver import CALLBACK_PATH, deliveries, verify_signature
from tests.support.client import PROMPT_STUDIO_BODY
from tests.support.fake_upstream.faults import rst_after_request
from tests.support.fake_upstream.provider_responses import STUDIO_RUN
from tests.support.fake_upstream.responses import reply
from tests.support.operations_port import set_mode

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.upstream import FakeUpstream

SECRET = "whsec_" + "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


async def get_items(session: aiohttp.ClientSession, ops_url: str) -> dict[tuple[str, str], dict[str, Any]]:
    """GET /api/attention; returns the items by kind and subject."""
    async with session.get(f"{ops_url}/api/attention") as answer:
        assert 200 == answer.status, await answer.text()
        items: list[dict[str, Any]] = (await answer.json())["items"]
    return {(each["kind"], each["subject"]): each for each in items}


async def test_what_needs_an_operator_is_listed(
    gateway: StartGateway, upstream: FakeUpstream, run: PostRun, session: aiohttp.ClientSession
) -> None:
    """From the store, the metrics and the configuration of one gateway."""
    upstream.script("POST", STUDIO_RUN, [rst_after_request, reply(401, {"message": "no"})])
    soon = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="seconds")
    key: JsonValue = {"hash": "sha256:" + 64 * "0", "expires": soon}
    running = await gateway(clients={"three": {"keys": [key], "workflows": ["*"]}})
    assert {"store_not_durable"} == {kind for kind, _ in await get_items(session, running.ops_url)} - {"keys_expiring"}
    outcomes = [(await run(running, PROMPT_STUDIO_BODY)).json["outcome"] for _ in range(2)]
    assert ["unknown", "not_run"] == outcomes
    await set_mode(session, running.ops_url, "promptlayer", "suspended", "ticket")
    running.config.write_text("server: {")
    wanted = {
        ("unknown_outcomes", "prompt_studio"),
        ("credentials_refused", "prompt_studio"),
        ("provider_overridden", "promptlayer"),
        ("keys_expiring", "clients.three"),
        ("store_not_durable", "store"),
        ("config_refused", "configuration"),
    }
    async with asyncio.timeout(20):
        while wanted - (items := await get_items(session, running.ops_url)).keys():
            await asyncio.sleep(0.2)
    assert wanted == items.keys()
    assert 1 == items["unknown_outcomes", "prompt_studio"]["count"]
    assert all(each["since"] and each["summary"] and each["action"] for each in items.values())
    assert len({each["id"] for each in items.values()}) == len(items)
    search = items["unknown_outcomes", "prompt_studio"]["action"].removeprefix("GET ")
    async with session.get(running.ops_url + search) as answer:
        assert (200, 1) == (answer.status, len((await answer.json())["runs"]))


def settings_with(url: str, upstream_url: str, **more: Any) -> Settings:
    """Return settings with a webhook."""
    given: Mapping[str, Any] = {
        "server": {"port": 0, "ops_port": 0, "drain": 0, "grace": "1s"},
        "store": {"url": "memory://"},
        "providers": {"prompt_studio": {"base_url": upstream_url, "api_key": "ps_not_a_secret", "allow_http": True}},
        "callbacks": {"secrets": [SECRET], "allow": ["127.0.0.1/32"]},
        "attention": {"webhook": url},
        **more,
    }
    return Settings.model_validate(given)


async def test_new_items_are_sent_to_the_webhook(upstream: FakeUpstream, receiver: FakeUpstream) -> None:
    """Signed with the first secret of the callbacks; what was sent is not sent again."""
    log = structlog.wrap_logger(None, processors=[LogCapture()])
    application = await start_gateway(settings_with(receiver.url + CALLBACK_PATH, upstream.url), SystemClock(), log)
    try:
        for _ in range(2):
            await application.components.attention.check()
    finally:
        await application.close()
    (delivery,) = deliveries(receiver)
    verify_signature(delivery, SECRET)
    assert ["store_not_durable"] == [each["kind"] for each in json.loads(delivery.body)["data"]["items"]]


async def test_the_gateway_does_not_call_itself(upstream: FakeUpstream) -> None:
    """Its own ports are no receivers, although their addresses are allowed."""
    captured = LogCapture()
    log = structlog.wrap_logger(None, processors=[captured])
    application = await start_gateway(settings_with("http://127.0.0.1:1/", upstream.url), SystemClock(), log)
    try:
        attention = application.components.attention
        config = factories.attention_config(settings_with(f"{application.ops.url}/hook", upstream.url))
        attention.reconfigure(config)
        await attention.check()
    finally:
        await application.close()
    assert ["refused"] == [each["why"] for each in captured.entries if each["event"] == "attention_not_announced"]


@pytest.mark.parametrize("url", ["http://example.com/hook", "https://10.0.0.1/hook", "https://alerts.internal/hook"])
async def test_a_webhook_must_be_public_or_allowed(upstream: FakeUpstream, url: str) -> None:
    """As a callback_url; it is refused at the start, and by a reload."""
    settings = settings_with(url, upstream.url, callbacks={"secrets": [SECRET]})
    with pytest.raises(SettingsError) as refused:
        build_components(settings, SystemClock(), structlog.get_logger())
    assert ["attention.webhook"] == [place for place, _ in refused.value.errors]


async def test_a_key_that_never_expires_needs_no_attention(upstream: FakeUpstream) -> None:
    """Nor does one that another key will replace."""
    later, soon = "2099-01-01", "2026-01-01"
    numbers = itertools.count()

    def keys(*expiries: str | None) -> dict[str, Any]:
        made = [{"hash": f"sha256:{next(numbers):064x}", "expires": each} for each in expiries]
        return {"keys": made, "workflows": ["*"]}

    clients = {"a": keys(soon, None), "b": keys(soon, later), "c": keys(soon), "d": keys()}
    config = factories.attention_config(settings_with("https://example.com/", upstream.url, clients=clients))
    assert {"clients.b": datetime(2099, 1, 1, tzinfo=UTC), "clients.c": datetime(2026, 1, 1, tzinfo=UTC)} == {
        owner: datetime.fromtimestamp(at, UTC) for owner, at in config.key_expiries.items()
    }


async def test_an_unreachable_store_is_no_empty_list(
    gateway: StartGateway, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Its sources are items."""
    store = tmp_path / "runward.db"
    running = await gateway(store={"url": f"sqlite:///{store}"})
    assert {} == await get_items(session, running.ops_url)
    await asyncio.to_thread(store.unlink)
    async with session.post(f"{running.ops_url}/providers/override/promptlayer", json={"mode": "open"}) as answer:
        assert 503 == answer.status
    await asyncio.sleep(2.1)  # a list answers further requests for two seconds
    items = await get_items(session, running.ops_url)
    assert ("store_unavailable", "store") in items
