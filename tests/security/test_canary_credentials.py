"""Credentials in URLs, of proxies and of the store are in no log line, metric or problem document (R79)."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from tests.support.callback_receiver import CALLBACK_PATH
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers, post_run
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import closed_port
from tests.support.gateway_restarts import CALLBACK_SECRETS, CALLBACK_SETTINGS
from tests.support.process import GatewayExitedError
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

CANARY = "canary" + secrets.token_hex(8)
ENVIRONMENT = {**PROVIDER_SECRETS, **CALLBACK_SECRETS, "PROXY_AUTH": f"proxy-user:{CANARY}", "STORE_PASSWORD": CANARY}


@pytest.fixture
def closed() -> Iterator[str]:
    """Return a URL where every connection is refused."""
    with closed_port() as url:
        yield url


def shows_canary(text: str) -> bool:
    """Return whether the canary is in a text, plain or as the credentials of a proxy are encoded."""
    encoded = b64encode(f"proxy-user:{CANARY}".encode()).decode()
    return CANARY in text or encoded in text


async def test_credentials_of_callbacks_and_proxies_are_not_seen(
    gateway: StartGateway, upstream: FakeUpstream, receiver: FakeUpstream, session: aiohttp.ClientSession, closed: str
) -> None:
    """At the level debug: a callback is given up, a URL is refused, a key is in the query, and a proxy is lost."""
    upstream.default = prompt_studio_reply({"completion": CANARY})
    upstream.script("POST", STUDIO_RUN, [prompt_studio_reply({"completion": CANARY})] * 3)
    receiver.script("POST", CALLBACK_PATH, [reply(410, {"error": CANARY})])
    proxy: dict[str, JsonValue] = {"proxy": closed, "proxy_auth": {"env": "PROXY_AUTH"}}
    running = await gateway(None, ENVIRONMENT, callbacks=dict(CALLBACK_SETTINGS), providers={"promptlayer": proxy})
    problems = []
    callback_urls = [
        f"{receiver.url}{CALLBACK_PATH}?token={CANARY}",
        receiver.url.replace("http://", f"http://user:{CANARY}@") + CALLBACK_PATH,
        f"https://{CANARY}.invalid/?{CANARY}",
    ]
    bodies: list[dict[str, JsonValue]] = [
        {**PROMPT_STUDIO_BODY, "input": {"secret": CANARY}, "callback_url": url} for url in callback_urls
    ]
    bodies.append({"workflow": "layer", "input": {"secret": CANARY}})
    for body in bodies:
        asynchronous = {"Prefer": "respond-async"} if "callback_url" in body else {}
        answered = await post_run(session, running.url, body, auth_headers("one") | asynchronous)
        problems.append(answered.body.decode())
    for path in (f"/runs?key={CLIENT_KEYS['one']}&tag={CANARY}", f"/runs?unknown={CANARY}", f"/runs/{CANARY}"):
        async with session.get(running.url + path, headers=auth_headers("one")) as answer:
            problems.append(await answer.text())
    await wait_until(lambda: running.logs("callback_given_up"))
    async with session.get(running.ops_url + "/metrics") as answer:
        exposition = await answer.text()
    assert any(CANARY in request.target for request in receiver.received)  # positive control
    assert [] == [text for text in (running.stdout, running.stderr, exposition) if shows_canary(text)]
    assert [] == [text for text in problems if shows_canary(text)]


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_the_password_of_the_store_is_not_seen(gateway: StartGateway, scheme: str, closed: str) -> None:
    """Where its server cannot be reached at the start."""
    url = f"{scheme}://store-user@{closed.removeprefix('http://')}/0"
    store: dict[str, JsonValue] = {"url": url, "password": {"env": "STORE_PASSWORD"}}
    with pytest.raises(GatewayExitedError) as refused:
        await gateway(None, ENVIRONMENT, store=store)
    assert "runward: store: " in str(refused.value)
    assert not shows_canary(str(refused.value))
