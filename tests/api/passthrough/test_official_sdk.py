"""Passthrough of the unmodified official SDK, with the gateway's base URL and key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from promptlayer import PromptLayer
from promptlayer.exceptions import PromptLayerAPIError, PromptLayerError

from providers.contract import JsonValue
from tests.conftest import StartGateway
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

ALLOWED_ROUTES: JsonValue = [
    "POST /prompt-templates/*", "POST /log-request", "POST /library-track-*", "POST /track-group", "POST /create-group",
]  # fmt: skip
CHAT: JsonValue = {"type": "chat", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
TEMPLATE: JsonValue = {"id": 1, "prompt_name": "a/b c", "version": 1, "prompt_template": CHAT, "metadata": None}

SdkCall = Callable[[PromptLayer], Any]


def log_request(app: PromptLayer) -> Any:
    """Send one `log_request` call of the SDK."""
    times = {"request_start_time": 1.0, "request_end_time": 2.0}
    return app.log_request(provider="openai", model="gpt", input=CHAT, output=CHAT, **times)


SDK_CALLS: dict[str, tuple[SdkCall, str, int, JsonValue, object]] = {
    "template": (lambda app: app.templates.get("a/b c"), "/prompt-templates/a%2Fb%20c", 200, TEMPLATE, TEMPLATE),
    "log": (log_request, "/log-request", 201, {"id": 5}, {"id": 5}),
    "score": (lambda app: app.track.score(5, 90), "/library-track-score", 200, {"success": True}, True),
    "metadata": (
        lambda app: app.track.metadata(5, {"a": "b"}),
        "/library-track-metadata",
        200,
        {"success": True},
        True,
    ),
    "prompt": (lambda app: app.track.prompt(5, "p", {}), "/library-track-prompt", 200, {"success": True}, True),
    "new group": (lambda app: app.group.create(), "/create-group", 200, {"success": True, "id": 3}, 3),
    "group": (lambda app: app.track.group(5, 3), "/track-group", 200, {"success": True}, True),
}


async def sdk_client(gateway: StartGateway, **client: JsonValue) -> PromptLayer:
    """SDK client of a gateway."""
    running = await gateway(None, PROVIDER_SECRETS, clients={"one": client})
    return PromptLayer(api_key=CLIENT_KEYS["one"], base_url=running.url)


async def test_what_is_listed_works(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """The provider receives its own key in header and body, never the gateway's key."""
    app = await sdk_client(gateway, passthrough={"promptlayer": ALLOWED_ROUTES})
    for name, (use, path, status, body, expected) in SDK_CALLS.items():
        upstream.received.clear()
        upstream.always("POST", path, reply(status, body))
        assert (name, expected) == (name, await asyncio.to_thread(use, app))
        [request] = upstream.received
        assert PROVIDER_SECRETS["PROMPTLAYER_API_KEY"] == request.header("X-API-KEY")
        assert CLIENT_KEYS["one"].encode() not in request.head + request.body
        assert json.loads(request.body).get("api_key") in {None, PROVIDER_SECRETS["PROMPTLAYER_API_KEY"]}


@pytest.mark.parametrize("name", SDK_CALLS)
async def test_what_is_not_listed_says_what_to_do(gateway: StartGateway, upstream: FakeUpstream, name: str) -> None:
    """The SDK shows the gateway's message."""
    app = await sdk_client(gateway)
    with pytest.raises((PromptLayerError, PromptLayerAPIError), match=r"must list it in clients\.<name>\.passthrough"):
        await asyncio.to_thread(SDK_CALLS[name][0], app)
    assert [] == upstream.received
