"""Isolation of data: headers, cookies, keys and upstream messages do not cross sides."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.client import PROMPT_STUDIO_BODY, PROMPTLAYER_BODY, post_run
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from providers.contract import JsonValue
    from tests.conftest import StartGateway
    from tests.support.client import PostRun
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway


UPSTREAM_HEADERS = {"host", "accept", "accept-encoding", "content-length", "content-type", "user-agent"}
TRACE_HEADERS = {"traceparent", "tracestate"}
CLIENT_HEADERS = {
    "content-type", "content-length", "date", "server", "connection", "x-request-id", "retry-after", "cache-control",
    "ratelimit", "ratelimit-policy", "x-content-type-options",
}  # fmt: skip
HOSTILE_HEADERS = {
    "API_KEY": "client-api-key",
    "Cookie": "session=client-cookie",
    "Forwarded": "for=192.0.2.60",
    "X-Forwarded-For": "192.0.2.60",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Real-IP": "192.0.2.60",
    "Host": "evil.example",
    "Proxy-Authorization": "Basic client",
    "Baggage": "client=1",
    "X-Whatever": "client-whatever",
}


async def script_both_providers(upstream: FakeUpstream) -> None:
    """Script successful runs at both providers."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))


@pytest.mark.parametrize("key", [{"Authorization": f"Bearer {CLIENT_KEYS['one']}"}, {"X-API-KEY": CLIENT_KEYS["one"]}])
async def test_a_clients_headers_do_not_go_upstream(
    upstream: FakeUpstream, gateway: StartGateway, session: aiohttp.ClientSession, key: dict[str, str]
) -> None:
    """R80: the upstream receives a fixed list of headers, with the gateway's key and nothing of the client's."""
    await script_both_providers(upstream)
    running = await gateway()
    for body in (PROMPT_STUDIO_BODY, PROMPTLAYER_BODY):
        assert 200 == (await post_run(session, running.url, body, HOSTILE_HEADERS | key)).status
    own_keys = {"/v1/": ("API_KEY", "PROMPT_STUDIO_API_KEY"), "/wor": ("X-API-KEY", "PROMPTLAYER_API_KEY")}
    assert 3 <= len(upstream.received)
    for request in upstream.received:
        name, variable = own_keys[request.path[:4]]
        names = [header.lower() for header, _ in request.headers]
        assert set() == set(names) - UPSTREAM_HEADERS - TRACE_HEADERS - {name.lower()}
        assert len(set(names)) == len(names)
        assert (PROVIDER_SECRETS[variable], upstream.url) == (request.header(name), f"http://{request.header('host')}")
        raw = request.head + request.body
        assert [] == [word for word in (*HOSTILE_HEADERS.values(), *CLIENT_KEYS.values()) if word.encode() in raw]


async def test_an_upstreams_cookies_are_forgotten(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R27: a cookie set for one client is not sent for any client, and reaches none."""
    done = prompt_studio_reply({"completion": "because"})
    upstream.default = done.with_headers(("Set-Cookie", "session=of-client-one; Path=/"))
    named = upstream.url.replace("127.0.0.1", "localhost")  # cookie jars may ignore a bare address
    running = await gateway(gateway_config(named, named))
    answers = [await run(running, PROMPT_STUDIO_BODY, client=name) for name in ("one", "two", "one")]
    assert [(200, None)] * 3 == [(a.status, a.headers.get("Set-Cookie")) for a in answers]
    assert [None] * 3 == [request.header("cookie") for request in upstream.received]


@pytest.mark.parametrize("body", [PROMPT_STUDIO_BODY, PROMPTLAYER_BODY], ids=["studio", "layer"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 502, 503])
async def test_upstream_error_texts_are_not_relayed(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun, body: Mapping[str, JsonValue], status: int
) -> None:
    """R81, R14: neither quoted keys nor stack traces nor upstream headers, and never a 401."""

    async def talkative(connection: UpstreamConnection) -> None:
        assert connection.request is not None
        key = connection.request.header("API_KEY") or connection.request.header("X-API-KEY")
        text = f"bad key {key}\nTraceback (most recent call last):\n  File 'secret_module.py', line 1"
        document: JsonValue = {"message": text, "error": text, "detail": [{"loc": ["body"], "msg": text}]}
        own = {"X-Upstream": "internal-7", "X-Powered-By": "internal-8", "WWW-Authenticate": "Basic"}
        await reply(status, document, own)(connection)

    upstream.default = talkative
    running = await gateway()
    answered = await run(running, body)
    assert answered.status != 401
    assert answered.headers["Content-Type"].startswith("application/problem+json")
    said = answered.body.decode() + json.dumps(dict(answered.headers)) + running.stdout + running.stderr
    bad = (*PROVIDER_SECRETS.values(), "Traceback", "secret_module", "internal-7", "internal-8")
    assert [] == [word for word in bad if word in said]
    assert set() == {name.lower() for name in answered.headers} - CLIENT_HEADERS


async def test_error_texts_of_failed_nodes_are_redacted(
    upstream: FakeUpstream, gateway: StartGateway, run: PostRun
) -> None:
    """R81: PromptLayer's failed runs are 200s whose errors quote stack traces and possibly the key."""
    key = PROVIDER_SECRETS["PROMPTLAYER_API_KEY"]
    text = f"Code execution failed {key}: Traceback (most recent call last): secret_module"
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Code": node(None, "FAILED", error=text)}))
    answered = await run(await gateway(), {**PROMPTLAYER_BODY, "return_all_outputs": True})
    assert (502, "run_failed", "failed") == answered.summary
    bad = (*PROVIDER_SECRETS.values(), "Traceback", "secret_module")
    assert [] == [word for word in bad if word in answered.body.decode()]


async def test_a_good_answers_headers_are_ours(upstream: FakeUpstream, gateway: StartGateway, run: PostRun) -> None:
    """R81: responses have headers of a fixed list, not those of the upstream."""
    done = prompt_studio_reply({"completion": "because"})
    upstream.default = done.with_headers(("Server", "internal-9"), ("X-Upstream", "internal-7"), ("Cache-Control", "x"))
    answered = await run(await gateway(), PROMPT_STUDIO_BODY)
    assert 200 == answered.status
    assert set() == {name.lower() for name in answered.headers} - CLIENT_HEADERS
    assert "internal" not in str(dict(answered.headers))
