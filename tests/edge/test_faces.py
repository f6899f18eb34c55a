"""The providers' own APIs, what is passed through, hints and the WebSocket hold what `POST /run` does (R67 to R95)."""

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
from tests.configuration import KEYS, SECRETS
from tests.edge.raw import JSON, ask, calling, get, head
from tests.edge.world import World, leaks, serving
from tests.faults.answers import reply
from tests.faults.provider_answers import LAYER_RESULTS, STUDIO_RUN, node, prompt_studio_reply, promptlayer_done

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary-5e1f0ffee"
LISTED: JsonValue = ["POST /log-request", "GET /prompt-templates/*", "PUT /raw"]
RUNS = ("/workflows/layer/run", "//workflows/studio/run", "/v1/workflows/studio/run", "/api/v1/instructions/layer/run")
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One gateway with every face open."""
    folder: Path = tmp_path_factory.mktemp("faces")
    clients: JsonValue = {"one": {"passthrough": {"promptlayer": LISTED}}}
    server: JsonValue = {"public_url": "https://gateway.test"}
    async with serving(folder, clients=clients, server=server) as world:
        yield world


@pytest.fixture
def faces(shared: World) -> World:
    """The same, with nothing that another test left."""
    shared.begin()
    return shared


def sent(
    target: str,
    body: bytes | JsonValue = b"",
    method: str = "POST",
    fields: Mapping[str, str] | None = None,
    client: str | None = "one",
) -> bytes:
    """A request with a body, JSON unless `fields` say otherwise."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {**JSON, "Content-Length": str(len(content)), **(fields or {})}
    return head(method, target, given, client=client) + content


def noise(chance: random.Random) -> bytes:
    """A request to one of the faces with random names, methods and fields."""
    word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.~%;:", k=chance.randint(1, 60)))
    number = str(chance.randint(-(10**20), 10**20))
    method = chance.choice(["GET", "PUT", "POST", "DELETE", "OPTIONS"])
    kinds = [
        sent(f"/workflows/{word}/run", {"input_variables": {word: word}, "channel_name_suffix": word}),
        sent(f"/workflows/layer/run?{word}", {"workflow_label_name": word, "metadata": {word: word}}),
        sent(f"/v1/workflows/{word}/run", {"input": {word: word}}, fields={"Idempotency-Key": word}),
        sent(f"/api/v1/instructions/promptlayer/{word}/run", {}),
        head("GET", f"/workflow-version-execution-results?workflow_version_execution_id={number}"),
        head("GET", f"/workflows/{word}?version={number}"),
        sent(f"/ws-token-request-library?capability=workflows:{word}:run:{word}"),
        sent(f"/hints/{word}.{word}", client=None),
        head("GET", f"/{word}/connection/websocket", HANDSHAKE | {"Sec-WebSocket-Protocol": word}, client=None),
        head(method, f"/prompt-templates/{word}?{word}", {"Content-Length": "0", "X-" + word.strip("%~.;:"): word}),
        head(method, f"/library-{word}", {"Content-Length": "0"}, client=None),
        sent("/log-request", {"api_key": word}, client=None),
        head(method, f"/rest/{word}", {"Content-Length": "0", "API_KEY": word}),
    ]
    return chance.choice(kinds)


async def test_the_number_of_series_depends_on_nobody(faces: World) -> None:
    """R93: 1 000 random requests to the faces: not one series more than after the first hundreds."""
    chance = random.Random(93)
    await faces.gateway.metrics()  # the scrape is counted, too
    series = []
    for count in (300, 1000):
        for number in range(count):
            assert (await ask(faces.url, noise(chance), f"127.0.8.{number % 5 + 1}")).status < 500
        series.append({(s.name, *sorted(s.labels.items())) for s in await faces.gateway.metrics()})
    assert set() == series[1] - series[0]
    assert len(series[1]) < 600


async def test_prompts_and_results_are_not_seen(faces: World) -> None:
    """R95: what goes in and what comes out of every face stands in answers only, never in the log or metrics."""
    marked: JsonValue = {CANARY: [CANARY]}
    errors = [reply(status, {"message": CANARY}) for status in (400, 404, 422, 500)]
    faces.upstream.script("POST", STUDIO_RUN, [prompt_studio_reply(marked), *errors])
    faces.upstream.always("GET", LAYER_RESULTS, promptlayer_done({CANARY: node(marked)}))
    faces.upstream.always("PUT", "/raw", reply(500, CANARY.encode(), {"Content-Type": CANARY, "Retry-After": CANARY}))
    body: dict[str, JsonValue] = {
        "input": {CANARY: CANARY},
        "input_variables": {CANARY: CANARY},
        "metadata": {CANARY: CANARY},
        CANARY: CANARY,
    }
    fields = {"User-Agent": CANARY, "Cookie": CANARY, "X-Any": CANARY}
    asked = [
        *(sent(target, body, fields=fields) for target in RUNS for _ in range(3)),
        sent(RUNS[0], {**body, "channel_name_suffix": CANARY}),
        sent(RUNS[0], {**body, "callback_url": f"https://{CANARY}.invalid/"}),
        sent(RUNS[0], {**body, "workflow_version_number": CANARY}),
        sent(RUNS[2], {"input": CANARY}),
        sent("/raw", CANARY.encode(), "PUT", fields),
        sent("/log-request", CANARY.encode()),
        sent("/log-request", {"api_key": CANARY}, client=None),
        sent(f"/ws-token-request-library?capability=workflows:{CANARY}:run:{CANARY}"),
        sent(f"/hints/{CANARY}", body, client=None),
        head("GET", f"/{CANARY}/connection/websocket?{CANARY}", HANDSHAKE | {"Sec-WebSocket-Protocol": CANARY}),
        head("GET", f"/prompt-templates/{CANARY}?{CANARY}", fields),
        head("GET", f"/workflow-version-execution-results?workflow_version_execution_id={CANARY}"),
    ]
    answers = [await ask(faces.url, data) for data in asked]
    assert any(CANARY.encode() in answer.body for answer in answers)
    await faces.lines("prompt_studio_run", 6)
    scraped = (await ask(faces.gateway.ops_url, get("/metrics"))).body.decode()
    assert "runward_runs_total" in scraped
    assert (False, False) == (CANARY in faces.said, CANARY in scraped)


async def test_keys_in_the_wrong_places_go_nowhere(faces: World) -> None:
    """R79, R80: neither up, nor into an answer or the log; a client's key stands in no request to a provider."""
    key = KEYS["two"]  # which "one" should not even know
    asked = [
        sent("/log-request", {"api_key": KEYS["one"], "b": key}),
        sent(f"/log-request?api_key={key}", {}),
        sent("/log-request", ('{"api_key":"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"}').encode()),
        sent("/log-request", ('{"api_key":"x","api_key":"' + key + '"}').encode(), client=None),
        sent("/raw", f"api_key={key}".encode(), "PUT", {"Content-Type": "text/plain"}),
        head("GET", f"/prompt-templates/{key}"),
        head("GET", "/prompt-templates/" + "".join(f"%{ord(c):02x}" for c in key)),
        head("GET", "/prompt-templates/x", {"API_KEY": key, "Cookie": key, "User-Agent": key, "X-SDK-Version": "1"}),
        head("GET", "/prompt-templates/x", {"Accept": key}),
        sent(f"/workflows/{key}/run", {}),
        sent(f"/v1/workflows/{key}/run", {}, fields={"API_KEY": KEYS["one"]}),
        sent(f"/hints/{key}", client=None),
        sent(f"/ws-token-request-library?capability={key}"),
        head("GET", f"/{key}/connection/websocket", HANDSHAKE | {"Sec-WebSocket-Protocol": key}),
    ]
    answers = [await ask(faces.url, data) for data in asked]
    held = (*SECRETS.values(), *KEYS.values())
    assert [] == [leaks(answer.raw.decode("latin-1"), held) for answer in answers if leaks(str(answer.raw), held)]
    up = [f"{r.target} {r.headers} {r.body!r}" for r in faces.upstream.log]
    assert up
    assert [] == [told for told in up if leaks(told, KEYS.values())]
    assert [] == leaks(faces.said, held)


def bombs() -> Iterable[tuple[str, bytes]]:
    """What is costly to read, by what it is."""
    yield "deep", b"[" * 200_000
    yield "wide", b'{"input":{' + b",".join(b'"%d":1' % n for n in range(60_000)) + b"}}"
    yield "digits", b'{"input":{"a":' + b"1" * 5000 + b"}}"
    yield "doubled", b'{"input":{},"input":{"a":1}}'
    yield "members", b'{"metadata":{' + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}}"


@pytest.mark.parametrize("target", [*RUNS, "/log-request"])
@pytest.mark.parametrize(("name", "body"), [*bombs()])
async def test_costly_bodies_cost_little(faces: World, target: str, name: str, body: bytes) -> None:
    """R67: whatever its kind, it is answered, and never as a mistake of ours."""
    for client in ("one", None):
        answer = await ask(faces.url, sent(target, body, client=client))
        assert answer.status not in {500, 502}, (name, answer.body)


async def test_a_stranger_learns_nothing_of_runs(faces: World) -> None:
    """Hints: 204 for whatever the token is; a number of another client's run and one of nobody's are the same 404."""
    number = json.loads((await ask(faces.url, sent(RUNS[0], {}))).body)["workflow_version_execution_id"]
    own = f"/workflow-version-execution-results?workflow_version_execution_id={number}"
    other = f"/workflow-version-execution-results?workflow_version_execution_id={number + 1}"
    found = [await ask(faces.url, head("GET", target, client="two")) for target in (own, other)]
    assert [404, 404] == [answer.status for answer in found]
    assert found[0].shape == found[1].shape
    tokens = ("x", "run_x." + "A" * 43, secrets.token_urlsafe(100), "%2e%2e%2f", "x" * 5000)
    assert {204} == {(await ask(faces.url, sent(f"/hints/{token}", client=None))).status for token in tokens}


async def test_what_follows_a_refused_upgrade_is_not_kept(faces: World) -> None:
    """R65: bytes behind a request that wanted another protocol do not pile up, whatever answers it."""
    targets = ("/healthz", "/prompt-templates/x", "/connection/websocket", "/hints/x")
    with faces.growth_below(20_000_000):
        for target in targets:
            fields = HANDSHAKE | {"Sec-WebSocket-Version": "1"}
            async with calling(faces.url) as caller:
                await caller.send(head("GET", target, fields))
                for _ in range(300):
                    try:
                        await asyncio.wait_for(caller.send(b"x" * 100_000), 0.05)
                    except (TimeoutError, ConnectionError):
                        break
    await faces.check()
