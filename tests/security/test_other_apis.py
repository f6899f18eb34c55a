"""The providers' APIs, passthrough, hints and the WebSocket have the guarantees of `POST /run` (R67 to R95)."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, find_leaks, running_gateway
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
)
from tests.support.fake_upstream.responses import reply
from tests.support.raw_client import JSON, build_get, build_head, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary-5e1f0ffee"
ALLOWED_ROUTES: JsonValue = ["POST /log-request", "GET /prompt-templates/*", "PUT /raw"]
RUN_PATHS = (
    "/workflows/layer/run",
    "//workflows/studio/run",
    "/v1/workflows/studio/run",
    "/api/v1/instructions/layer/run",
)
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[GatewayHarness]:
    """One gateway with every API enabled."""
    folder: Path = tmp_path_factory.mktemp("faces")
    clients: JsonValue = {"one": {"passthrough": {"promptlayer": ALLOWED_ROUTES}}}
    server: JsonValue = {"public_url": "https://gateway.test"}
    async with running_gateway(folder, clients=clients, server=server) as harness:
        yield harness


@pytest.fixture
def harness(shared: GatewayHarness) -> GatewayHarness:
    """Harness of the shared gateway with reset state."""
    shared.reset()
    return shared


def build_request(
    target: str,
    body: bytes | JsonValue = b"",
    method: str = "POST",
    fields: Mapping[str, str] | None = None,
    client: str | None = "one",
) -> bytes:
    """A request with a body, JSON unless `fields` say otherwise."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**JSON, "Content-Length": str(len(content)), **(fields or {})}
    return build_head(method, target, given, client=client) + content


def random_request(rng: random.Random) -> bytes:
    """A request to one of the APIs with random names, methods and fields."""
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.~%;:", k=rng.randint(1, 60)))
    number = str(rng.randint(-(10**20), 10**20))
    method = rng.choice(["GET", "PUT", "POST", "DELETE", "OPTIONS"])
    kinds = [
        build_request(f"/workflows/{text}/run", {"input_variables": {text: text}, "channel_name_suffix": text}),
        build_request(f"/workflows/layer/run?{text}", {"workflow_label_name": text, "metadata": {text: text}}),
        build_request(f"/v1/workflows/{text}/run", {"input": {text: text}}, fields={"Idempotency-Key": text}),
        build_request(f"/api/v1/instructions/promptlayer/{text}/run", {}),
        build_head("GET", f"/workflow-version-execution-results?workflow_version_execution_id={number}"),
        build_head("GET", f"/workflows/{text}?version={number}"),
        build_request(f"/ws-token-request-library?capability=workflows:{text}:run:{text}"),
        build_request(f"/hints/{text}.{text}", client=None),
        build_head("GET", f"/{text}/connection/websocket", HANDSHAKE | {"Sec-WebSocket-Protocol": text}, client=None),
        build_head(
            method, f"/prompt-templates/{text}?{text}", {"Content-Length": "0", "X-" + text.strip("%~.;:"): text}
        ),
        build_head(method, f"/library-{text}", {"Content-Length": "0"}, client=None),
        build_request("/log-request", {"api_key": text}, client=None),
        build_head(method, f"/rest/{text}", {"Content-Length": "0", "API_KEY": text}),
    ]
    return rng.choice(kinds)


async def test_the_number_of_series_does_not_depend_on_requests(harness: GatewayHarness) -> None:
    """R93: 1 000 random requests add no series after the first hundreds."""
    rng = random.Random(93)
    await harness.gateway.metrics()  # the scrape is counted, too
    series = []
    for count in (300, 1000):
        for number in range(count):
            assert (await send_request(harness.url, random_request(rng), f"127.0.8.{number % 5 + 1}")).status < 500
        series.append({(s.name, *sorted(s.labels.items())) for s in await harness.gateway.metrics()})
    assert set() == series[1] - series[0]
    assert len(series[1]) < 600


async def test_prompts_and_results_are_not_seen(harness: GatewayHarness) -> None:
    """R95: inputs and outputs of every API are in responses only, never in the log or metrics."""
    marked: JsonValue = {CANARY: [CANARY]}
    errors = [reply(status, {"message": CANARY}) for status in (400, 404, 422, 500)]
    harness.upstream.script("POST", STUDIO_RUN, [prompt_studio_reply(marked), *errors])
    harness.upstream.always("GET", LAYER_RESULTS, promptlayer_done({CANARY: node(marked)}))
    harness.upstream.always("PUT", "/raw", reply(500, CANARY.encode(), {"Content-Type": CANARY, "Retry-After": CANARY}))
    body: dict[str, JsonValue] = {
        "input": {CANARY: CANARY},
        "input_variables": {CANARY: CANARY},
        "metadata": {CANARY: CANARY},
        CANARY: CANARY,
    }
    fields = {"User-Agent": CANARY, "Cookie": CANARY, "X-Any": CANARY}
    asked = [
        *(build_request(target, body, fields=fields) for target in RUN_PATHS for _ in range(3)),
        build_request(RUN_PATHS[0], {**body, "channel_name_suffix": CANARY}),
        build_request(RUN_PATHS[0], {**body, "callback_url": f"https://{CANARY}.invalid/"}),
        build_request(RUN_PATHS[0], {**body, "workflow_version_number": CANARY}),
        build_request(RUN_PATHS[2], {"input": CANARY}),
        build_request("/raw", CANARY.encode(), "PUT", fields),
        build_request("/log-request", CANARY.encode()),
        build_request("/log-request", {"api_key": CANARY}, client=None),
        build_request(f"/ws-token-request-library?capability=workflows:{CANARY}:run:{CANARY}"),
        build_request(f"/hints/{CANARY}", body, client=None),
        build_head("GET", f"/{CANARY}/connection/websocket?{CANARY}", HANDSHAKE | {"Sec-WebSocket-Protocol": CANARY}),
        build_head("GET", f"/prompt-templates/{CANARY}?{CANARY}", fields),
        build_head("GET", f"/workflow-version-execution-results?workflow_version_execution_id={CANARY}"),
    ]
    answers = [await send_request(harness.url, data) for data in asked]
    assert any(CANARY.encode() in answer.body for answer in answers)
    await harness.access_log("prompt_studio_run", 6)
    scraped = (await send_request(harness.gateway.ops_url, build_get("/metrics"))).body.decode()
    assert "runward_runs_total" in scraped
    assert (False, False) == (CANARY in harness.log_output, CANARY in scraped)


async def test_misplaced_keys_are_not_forwarded_or_disclosed(harness: GatewayHarness) -> None:
    """R79, R80: neither upstream nor in a response or the log."""
    key = CLIENT_KEYS["two"]  # which "one" should not even know
    asked = [
        build_request("/log-request", {"api_key": CLIENT_KEYS["one"], "b": key}),
        build_request(f"/log-request?api_key={key}", {}),
        build_request("/log-request", ('{"api_key":"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"}').encode()),
        build_request("/log-request", ('{"api_key":"x","api_key":"' + key + '"}').encode(), client=None),
        build_request("/raw", f"api_key={key}".encode(), "PUT", {"Content-Type": "text/plain"}),
        build_head("GET", f"/prompt-templates/{key}"),
        build_head("GET", "/prompt-templates/" + "".join(f"%{ord(c):02x}" for c in key)),
        build_head(
            "GET", "/prompt-templates/x", {"API_KEY": key, "Cookie": key, "User-Agent": key, "X-SDK-Version": "1"}
        ),
        build_head("GET", "/prompt-templates/x", {"Accept": key}),
        build_request(f"/workflows/{key}/run", {}),
        build_request(f"/v1/workflows/{key}/run", {}, fields={"API_KEY": CLIENT_KEYS["one"]}),
        build_request(f"/hints/{key}", client=None),
        build_request(f"/ws-token-request-library?capability={key}"),
        build_head("GET", f"/{key}/connection/websocket", HANDSHAKE | {"Sec-WebSocket-Protocol": key}),
    ]
    answers = [await send_request(harness.url, data) for data in asked]
    held = (*PROVIDER_SECRETS.values(), *CLIENT_KEYS.values())
    assert [] == [
        find_leaks(answer.raw.decode("latin-1"), held) for answer in answers if find_leaks(str(answer.raw), held)
    ]
    up = [f"{r.target} {r.headers} {r.body!r}" for r in harness.upstream.received]
    assert up
    assert [] == [request_text for request_text in up if find_leaks(request_text, CLIENT_KEYS.values())]
    assert [] == find_leaks(harness.log_output, held)


def costly_bodies() -> Iterable[tuple[str, bytes]]:
    """Expensive bodies, by kind."""
    yield "deep", b"[" * 200_000
    yield "wide", b'{"input":{' + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}}"
    yield "digits", b'{"input":{"a":' + b"1" * 5000 + b"}}"
    yield "doubled", b'{"input":{},"input":{"a":1}}'
    yield "members", b'{"metadata":{' + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}}"


@pytest.mark.parametrize("target", [*RUN_PATHS, "/log-request"])
@pytest.mark.parametrize(("name", "body"), [*costly_bodies()])
async def test_costly_bodies_cost_little(harness: GatewayHarness, target: str, name: str, body: bytes) -> None:
    """R67: each kind is answered, never with `internal`."""
    for client in ("one", None):
        answer = await send_request(harness.url, build_request(target, body, client=client))
        assert answer.status not in {500, 502}, (name, answer.body)


async def test_other_clients_learn_nothing_of_runs(harness: GatewayHarness) -> None:
    """Hints: 204 for every token; execution ids of other clients get the 404 of unused ones."""
    number = json.loads((await send_request(harness.url, build_request(RUN_PATHS[0], {}))).body)[
        "workflow_version_execution_id"
    ]
    own = f"/workflow-version-execution-results?workflow_version_execution_id={number}"
    other = f"/workflow-version-execution-results?workflow_version_execution_id={number + 1}"
    found = [await send_request(harness.url, build_head("GET", target, client="two")) for target in (own, other)]
    assert [404, 404] == [answer.status for answer in found]
    assert found[0].comparable == found[1].comparable
    tokens = ("x", "run_x." + "A" * 43, secrets.token_urlsafe(100), "%2e%2e%2f", "x" * 5000)
    assert {204} == {
        (await send_request(harness.url, build_request(f"/hints/{token}", client=None))).status for token in tokens
    }


async def test_what_follows_a_refused_upgrade_is_not_kept(harness: GatewayHarness) -> None:
    """R65: bytes after a refused upgrade request are not buffered."""
    targets = ("/healthz", "/prompt-templates/x", "/connection/websocket", "/hints/x")
    with harness.memory_growth_below(20_000_000):
        for target in targets:
            fields = HANDSHAKE | {"Sec-WebSocket-Version": "1"}
            async with raw_connection(harness.url) as caller:
                await caller.send(build_head("GET", target, fields))
                for _ in range(300):
                    try:
                        await asyncio.wait_for(caller.send(b"x" * 100_000), 0.05)
                    except (TimeoutError, ConnectionError):
                        break
    await harness.assert_healthy()
