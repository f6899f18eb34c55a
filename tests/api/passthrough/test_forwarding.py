"""Passthrough: listed paths are forwarded with the provider's key, all other unknown paths are refused."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode

import pytest

from gateway.auth.keys import new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.conftest import StartGateway
from tests.support.configuration import CLIENT_KEYS, MAX_RESPONSE, PROVIDER_SECRETS
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.responses import redirect, reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port
from tests.support.process import GatewayProcess, metric_sum
from tests.support.raw_client import build_head, raw_connection, send_request

pytestmark = pytest.mark.shared_gateway

LAYER_KEY = PROVIDER_SECRETS["PROMPTLAYER_API_KEY"]
ALLOWED_ROUTES: JsonValue = {
    "promptlayer": [
        "POST /log-request",
        "GET /prompt-templates/*",
        "POST /library-track-*",
        "DELETE /rest/x",
        "PUT /raw",
    ],
    "prompt_studio": ["GET /api/v1/other"],
}
CLIENT_SETTINGS: dict[str, JsonValue] = {"clients": {"one": {"passthrough": ALLOWED_ROUTES}}}
OK = reply(200, {"success": True})


def build_request(method: str, target: str, body: bytes = b"", client: str | None = "one", **fields: str) -> bytes:
    """A request; header names are written with underscores."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    length = {"Content-Length": str(len(body))} if body or method != "GET" else {}
    return build_head(method, target, {**headers, **length}, client=client) + body


def build_json_post(target: str, body: JsonValue, client: str | None = "one") -> bytes:
    """A POST of JSON."""
    return build_request("POST", target, json.dumps(body).encode(), client, Content_Type="application/json")


async def test_a_listed_request_goes_through_with_the_providers_key(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """Method, path, query, body and their header fields are forwarded; the response is returned unchanged."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = reply(
        404, {"message": "no such prompt"}, {"X-Own": "1", "Retry-After": "7", "Set-Cookie": "a=b"}
    )
    response = await send_request(
        running.url,
        build_request(
            "GET", "/prompt-templates/a%2Fb%20c?label=prod&x=%20", Accept="text/x-any", Cookie="a=b", X_Own="2"
        ),
    )
    assert (404, {"message": "no such prompt"}) == (response.status, response.json)
    assert ("7", None, None) == (
        response.header("Retry-After"),
        response.header("X-Own"),
        response.header("Set-Cookie"),
    )
    [request] = upstream.received
    assert "/prompt-templates/a%2Fb%20c?label=prod&x=%20" == request.target
    assert [
        ("Host", upstream.url.removeprefix("http://")),
        ("X-API-KEY", LAYER_KEY),
        ("Accept-Encoding", "identity"),
        ("Accept", "text/x-any"),
    ] == [(name, value) for name, value in request.headers if name != "User-Agent"]
    samples = await running.metrics()
    called = {"provider": "promptlayer", "operation": "passthrough", "result": "ok"}
    assert 1 == metric_sum(samples, "runward_upstream_calls_total", **called)
    assert 1 == metric_sum(samples, "runward_requests_total", route="passthrough", status="404")
    assert 0 == metric_sum(samples, "runward_runs_total")


async def test_any_method_and_body_that_is_listed(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """Bodies that are not JSON are forwarded and returned unchanged."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = reply(201, b"\x00\xff", {"Content-Type": "application/x-any"})
    response = await send_request(
        running.url, build_request("PUT", "/raw", b"\x00\x01\xfe", Content_Type="application/x-protobuf")
    )
    assert (201, b"\x00\xff", "application/x-any") == (response.status, response.body, response.header("Content-Type"))
    assert 201 == (await send_request(running.url, build_request("DELETE", "//rest/x"))).status
    assert [("PUT", "/raw", b"\x00\x01\xfe"), ("DELETE", "/rest/x", b"")] == [
        (request.method, request.path, request.body) for request in upstream.received
    ]


async def test_an_entry_names_its_provider(gateway: StartGateway, upstream: FakeUpstream) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = OK
    assert 200 == (await send_request(running.url, build_request("GET", "/api/v1/other"))).status
    [request] = upstream.received
    assert (PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"], None) == (request.header("API_KEY"), request.header("X-API-KEY"))


@pytest.mark.parametrize("client", ["one", None])
async def test_the_key_in_the_body_is_as_good_and_never_goes_up(
    gateway: StartGateway, upstream: FakeUpstream, client: str | None
) -> None:
    """Older calls of the SDKs have `api_key` in the body, some without a header."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = OK
    response = await send_request(
        running.url, build_json_post("/library-track-score", {"api_key": CLIENT_KEYS["one"], "score": 7}, client)
    )
    assert 200 == response.status
    [request] = upstream.received
    assert {"api_key": LAYER_KEY, "score": 7} == json.loads(request.body)
    assert not any(key in request.head + request.body for key in (k.encode() for k in CLIENT_KEYS.values()))


KEY = CLIENT_KEYS["one"]
MISPLACED_KEYS = {
    "deeper": build_json_post("/log-request", {"metadata": {"api_key": KEY}}),
    "in a list": build_json_post("/log-request", {"tags": [KEY]}),
    "in a text": build_json_post("/log-request", {"text": f"mine is {KEY}!"}),
    "another's": build_json_post("/log-request", {"api_key": CLIENT_KEYS["two"]}),
    "in base64": build_json_post("/log-request", {"text": b64encode(KEY.encode()).decode()}),
    "in a path": build_request("GET", f"/prompt-templates/{KEY}"),
    "in a query": build_request("GET", f"/prompt-templates/a?key={KEY}"),
    "in a field": build_request("GET", "/prompt-templates/a", Accept=KEY),
    "in no JSON": build_request("PUT", "/raw", KEY.encode()),
    "escaped": build_request(
        "POST", "/log-request", b'{"a":"\\u0072' + KEY[1:].encode() + b'"}', Content_Type="application/json"
    ),
}


async def test_the_gateways_key_never_goes_upstream(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """R79, R80: a request with the key anywhere else is refused; the answer does not repeat it."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = OK
    for name, request in MISPLACED_KEYS.items():
        response = await send_request(running.url, request)
        assert (name, 422, False) == (name, response.status, KEY.encode() in response.raw)
    assert [] == upstream.received


async def test_the_providers_key_never_comes_back(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """Neither in a body of any kind nor in a header field."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    escaped = "".join(f"\\u{ord(character):04x}" for character in LAYER_KEY)
    for body in (LAYER_KEY.encode(), f'{{"a":"{escaped}"}}'.encode(), json.dumps({"k": LAYER_KEY}).encode()):
        upstream.default = reply(200, body, {"Content-Type": f"text/{LAYER_KEY}"})
        response = await send_request(running.url, build_request("GET", "/prompt-templates/a"))
        assert (200, False, True) == (
            response.status,
            LAYER_KEY.encode() in response.raw,
            b"[redacted]" in response.body,
        )
        assert escaped.encode() not in response.body


SDK_ROUTES = [
    ("POST", "/log-request", "POST /log-request"),
    ("GET", "/prompt-templates/a", "GET /prompt-templates/*"),
    ("POST", "/library-track-score", "POST /library-track-score"),
    ("POST", "/rest/track-score", "POST /rest/*"),
    ("POST", "/v1/traces", "POST /v1/traces"),
]


async def test_what_is_not_listed_is_refused_and_says_how_to_list_it(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """Off by default; the SDKs show the message."""
    running = await gateway()
    for method, path, shown in SDK_ROUTES:
        response = await send_request(running.url, build_request(method, path, b"{}"))
        words = f"{shown} is not passed through: an operator must list it in clients.<name>.passthrough."
        assert (403, {"success": False, "message": words, "error": words}) == (response.status, response.json)
        assert "forbidden" == response.header("Runward-Problem")
    assert [] == upstream.received
    assert len(SDK_ROUTES) == metric_sum(
        await running.metrics(), "runward_refusals_total", client="one", code="forbidden"
    )


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/workflows/x/run/", 405, "Allowed methods: GET, HEAD."),  # it reads as the name of a workflow
        ("///workflows/x/run", 403, "Paths that start runs are never passed through: use the routes for runs."),
        ("/v1/workflows/x/run/", 404, None),
    ],
)
async def test_a_start_that_no_route_is_for_goes_nowhere(
    gateway: StartGateway, upstream: FakeUpstream, path: str, status: int, words: str | None
) -> None:
    """Starts cannot be listed, so the response does not name the setting."""
    response = await send_request((await gateway()).url, build_request("POST", path, b"{}"))
    assert (status, words) == (response.status, response.json.get("message"))
    assert [] == upstream.received


SUBRESOURCES = [
    ("GET", "/workflows/team/triage/labels", "GET /workflows/*"),
    ("GET", "/workflows/7/external-ids", "GET /workflows/*"),
    ("POST", "/workflows/7/external-ids", "POST /workflows/7/external-ids"),
    ("DELETE", "//workflows/7/external-ids", "DELETE /workflows/7/external-ids"),
    ("GET", "/reports/5", "GET /reports/*"),
    ("PATCH", "/prompt-labels/5", "PATCH /prompt-labels/*"),
]


async def test_resources_of_workflows_can_be_listed_and_are_no_unknown_workflow(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    running = await gateway()
    for method, path, shown in SUBRESOURCES:
        response = await send_request(running.url, build_request(method, path, b"{}", Content_Type="application/json"))
        words = f"{shown} is not passed through: an operator must list it in clients.<name>.passthrough."
        assert (403, words) == (response.status, response.json["message"]), path
    listed: JsonValue = {"promptlayer": [shown for _, _, shown in SUBRESOURCES]}
    running = await gateway(None, PROVIDER_SECRETS, clients={"one": {"passthrough": listed}})
    upstream.default = OK
    for method, path, _ in SUBRESOURCES:
        request = build_request(method, path, b"{}" if method != "GET" else b"", Content_Type="application/json")
        assert 200 == (await send_request(running.url, request)).status, path
    assert [(method, path.replace("//", "/")) for method, path, _ in SUBRESOURCES] == [
        (request.method, request.path) for request in upstream.received
    ]
    assert 404 == (await send_request(running.url, build_request("GET", "/workflows/none"))).status


async def test_a_list_is_its_clients_own(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """R78: other clients, methods and neighbouring paths are not permitted."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    others = [
        build_json_post("/log-request", {}, "two"),
        build_request("PUT", "/raw", b"x", "two"),
        build_request("GET", "/log-request"),
        build_json_post("/log-request/", {}),
        build_json_post("/log-request/a", {}),
        build_request("GET", "/prompt-templates"),
        build_json_post("/rest/x", {}),
    ]
    assert [403] * len(others) == [(await send_request(running.url, each)).status for each in others]
    assert [] == upstream.received


async def test_without_a_valid_key_every_path_is_unknown(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """R72, R75: listed and unlisted paths get the same response as any unknown path."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    nothing = await send_request(running.url, build_request("GET", "/none", client=None))
    assert (404, "unknown_route") == nothing.summary
    for key in (None, "hunter2", new_key(SystemClock()), KEY[:-1]):
        fields: dict[str, str] = {} if key is None else {"Authorization": f"Bearer {key}"}
        for request in (
            build_request("GET", "/prompt-templates/a", b"", None, **fields),
            build_request("POST", "/log-request", b"{}", None, Content_Type="application/json", **fields),
            build_request("POST", "/library-track-score", b"{}", None, Content_Type="application/json", **fields),
            build_json_post("/library-track-score", {"api_key": key}, None),
            build_json_post("/library-track-score", [key], None),
            build_request("PUT", "/raw", b"x", None, **fields),
        ):
            assert nothing.comparable == (await send_request(running.url, request)).comparable
    assert [] == upstream.received
    assert {"unknown"} == {str(line["route"]) for line in running.logs("request")}


async def test_a_key_makes_no_other_path_known(gateway: StartGateway, upstream: FakeUpstream) -> None:
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    for path in ("/none", "/", "/metrics", "/prompt-templates/../none", "/prompt-templates/%2e%2e/x", "/rawer", "/%00"):
        assert (404, "unknown_route") == (await send_request(running.url, build_request("GET", path))).summary
    assert [] == upstream.received


START_PATHS = [
    "/workflows/x/run", "//workflows/x/run", "/workflows/x/run/", "/Workflows/x/run", "/%77orkflows/x/run",
    "/workflows/a/b/run", "/workflows%2Fx%2Frun", "/workflows;a/x/run",
]  # fmt: skip


async def test_no_run_is_started_this_way(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """A passed-through start would bypass limits and metrics: refused in every spelling that a server may accept."""
    listed: JsonValue = {"promptlayer": ["GET /workflows/*", "GET /w*", "POST /rest/*", "GET /api/*"]}
    running = await gateway(None, PROVIDER_SECRETS, clients={"one": {"passthrough": listed}})
    for path in START_PATHS:
        for method in ("GET", "POST", "PUT"):
            assert (await send_request(running.url, build_request(method, path, b"{}"))).status in {403, 404, 405, 415}
    assert [] == upstream.received


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (redirect("/elsewhere"), 502, "upstream_invalid_response"),
        (faults.rst_after_request, 502, "upstream_disconnected"),
        (faults.GARBAGE, 502, "upstream_invalid_response"),
        (faults.large_response(MAX_RESPONSE + 1), 502, "upstream_too_large"),
        (faults.headers_then_fin, 502, "upstream_invalid_response"),
        (reply(503, {"message": "later"}), 503, None),
        (reply(429, {"message": "slowly"}), 429, None),
        (reply(500, {"message": "oops"}), 500, None),
    ],
)
async def test_an_upstream_fault_is_reported_and_not_retried(
    gateway: StartGateway, upstream: FakeUpstream, script: ResponseScript, status: int, code: str | None
) -> None:
    """A repetition of an arbitrary request may be unsafe."""
    running = await gateway(None, PROVIDER_SECRETS, server={"max_passthrough": MAX_RESPONSE}, **CLIENT_SETTINGS)
    upstream.default = script
    response = await send_request(running.url, build_json_post("/log-request", {}))
    assert (status, code, 1) == (response.status, response.header("Runward-Problem"), len(upstream.received))
    assert {"message"} <= response.json.keys()


async def test_a_provider_that_is_not_there_is_tried_again(gateway: StartGateway) -> None:
    """A retry is safe because nothing was sent."""
    with closed_port() as closed_url:
        providers: JsonValue = {"promptlayer": {"base_url": closed_url}}
        running = await gateway(None, PROVIDER_SECRETS, providers=providers, **CLIENT_SETTINGS)
        response = await send_request(running.url, build_json_post("/log-request", {}))
        assert (502, "upstream_unreachable") == (response.status, response.header("Runward-Problem"))
        samples = await running.metrics()
    assert 2 == metric_sum(samples, "runward_upstream_calls_total", operation="passthrough", result="unreachable")
    assert 1 == metric_sum(samples, "runward_retries_total", operation="passthrough")


async def test_the_clients_limits_apply(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """Passthrough requests count in the client's limits, like runs."""
    upstream.default = OK
    clients: JsonValue = {"one": {"passthrough": ALLOWED_ROUTES, "limits": {"rate": "1/h"}}}
    running = await gateway(None, PROVIDER_SECRETS, clients=clients)
    first, second = [await send_request(running.url, build_json_post("/log-request", {})) for _ in range(2)]
    assert (200, 429, "rate_limited") == (first.status, second.status, second.header("Runward-Problem"))
    assert 0 < int(str(second.header("Retry-After"))) <= 3600
    assert 1 == len(upstream.received)


async def test_the_providers_limits_apply(gateway: StartGateway, upstream: FakeUpstream) -> None:
    upstream.default = OK
    limits: JsonValue = {"promptlayer": {"limits": {"rate": "1/h", "max_wait": 0}}}
    running = await gateway(None, PROVIDER_SECRETS, providers=limits, **CLIENT_SETTINGS)
    first, second = [await send_request(running.url, build_json_post("/log-request", {})) for _ in range(2)]
    assert (200, 503, "overloaded") == (first.status, second.status, second.header("Runward-Problem"))
    assert 1 == len(upstream.received)


async def test_the_gateways_own_routes_take_precedence(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """A path with a route is served by that route and its methods, even if it is listed."""
    listed: JsonValue = {"promptlayer": ["GET /runs", "POST /run", "PUT /run", "GET /healthz", "GET /docs*"]}
    running = await gateway(None, PROVIDER_SECRETS, clients={"one": {"passthrough": listed}})
    answered = [
        await send_request(running.url, build_request(m, p, b""))
        for m, p in (("GET", "/runs"), ("POST", "/run"), ("PUT", "/run"))
    ]
    assert [200, 415, 405] == [response.status for response in answered]
    assert b"alive" in (await send_request(running.url, build_request("GET", "/healthz"))).body
    assert [] == upstream.received


async def requests_in_flight(running: GatewayProcess) -> float:
    return metric_sum(await running.metrics(), "runward_requests_in_flight")


async def test_it_counts_as_a_request_in_flight(gateway: StartGateway, upstream: FakeUpstream) -> None:
    """R30, R97: requests over the limit are refused; a draining gateway waits for admitted requests."""
    running = await gateway(None, PROVIDER_SECRETS, server={"max_in_flight": 1}, **CLIENT_SETTINGS)
    seen: list[float] = []

    async def slowly(connection: object) -> None:
        seen.append(await requests_in_flight(running))
        response = await send_request(running.url, build_json_post("/log-request", {}))
        seen.append(response.status)
        await OK(connection)  # type: ignore[arg-type]  # a script takes a wire

    upstream.script("POST", "/log-request", [slowly])
    assert 200 == (await send_request(running.url, build_json_post("/log-request", {}))).status
    assert ([1, 503], 0) == (seen, await requests_in_flight(running))


async def test_unauthenticated_body_reads_are_limited(gateway: StartGateway) -> None:
    """R30: at most 32 without a key in the header; the slowest upload is aborted for the next one."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    begun = build_head(
        "POST", "/library-track-score", {"Content-Type": "application/json", "Content-Length": "9"}, client=None
    )
    async with contextlib.AsyncExitStack() as held:
        callers = []
        for _ in range(33):
            callers.append(await held.enter_async_context(raw_connection(running.url)))
            await callers[-1].send(begun)
        response = await callers[0].read_response()
        assert (503, "overloaded", "1") == (*response.summary, response.header("Retry-After"))
        await callers[2].send(b'{"a":"b"}')
        assert 404 == (await callers[2].read_response()).status
        await callers[0].wait_closed()


async def test_slow_unauthenticated_uploads_do_not_block_other_clients(
    gateway: StartGateway, upstream: FakeUpstream
) -> None:
    """R33: an SDK with the key in the body alone is served while unauthenticated uploads hold every slot."""
    running = await gateway(None, PROVIDER_SECRETS, **CLIENT_SETTINGS)
    upstream.default = OK
    begun = build_head("POST", "/log-request", {"Content-Type": "application/json", "Content-Length": "9"}, client=None)
    async with contextlib.AsyncExitStack() as held:
        for _ in range(40):
            caller = await held.enter_async_context(raw_connection(running.url))
            await caller.send(begun)
        response = [
            await send_request(running.url, build_json_post("/log-request", {"api_key": CLIENT_KEYS["one"]}, None))
            for _ in range(5)
        ]
    assert [200] * 5 == [each.status for each in response]
