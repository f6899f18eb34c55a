"""What no route is for is passed through where it is listed, with the provider's key, and refused everywhere else."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode

import pytest

from gateway.access.keys import new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.configuration import KEYS, MAX_RESPONSE, SECRETS
from tests.conftest import StartGateway
from tests.edge.raw import ask, calling, head
from tests.faults import faults
from tests.faults.answers import redirect, reply
from tests.faults.faults import Script
from tests.faults.upstream import Upstream, closed_port
from tests.process import Gateway, total

LAYER_KEY = SECRETS["PROMPTLAYER_API_KEY"]
LISTED: JsonValue = {
    "promptlayer": [
        "POST /log-request",
        "GET /prompt-templates/*",
        "POST /library-track-*",
        "DELETE /rest/x",
        "PUT /raw",
    ],
    "prompt_studio": ["GET /api/v1/other"],
}
ALLOWED: dict[str, JsonValue] = {"clients": {"one": {"passthrough": LISTED}}}
OK = reply(200, {"success": True})


def sent(method: str, target: str, body: bytes = b"", client: str | None = "one", **fields: str) -> bytes:
    """A request; header names are written with underscores."""
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    length = {"Content-Length": str(len(body))} if body or method != "GET" else {}
    return head(method, target, {**headers, **length}, client=client) + body


def posted(target: str, body: JsonValue, client: str | None = "one") -> bytes:
    """A POST of JSON."""
    return sent("POST", target, json.dumps(body).encode(), client, Content_Type="application/json")


async def test_a_listed_request_goes_through_with_the_providers_key(gateway: StartGateway, upstream: Upstream) -> None:
    """Method, path, query and body; of the header what is about them; and the provider's answer as it is."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = reply(
        404, {"message": "no such prompt"}, {"X-Own": "1", "Retry-After": "7", "Set-Cookie": "a=b"}
    )
    told = await ask(
        here.url,
        sent("GET", "/prompt-templates/a%2Fb%20c?label=prod&x=%20", Accept="text/x-any", Cookie="a=b", X_Own="2"),
    )
    assert (404, {"message": "no such prompt"}) == (told.status, told.json)
    assert ("7", None, None) == (told.header("Retry-After"), told.header("X-Own"), told.header("Set-Cookie"))
    [request] = upstream.log
    assert "/prompt-templates/a%2Fb%20c?label=prod&x=%20" == request.target
    assert [
        ("Host", upstream.url.removeprefix("http://")),
        ("X-API-KEY", LAYER_KEY),
        ("Accept-Encoding", "identity"),
        ("Accept", "text/x-any"),
    ] == [(name, value) for name, value in request.headers if name != "User-Agent"]
    samples = await here.metrics()
    called = {"provider": "promptlayer", "operation": "passthrough", "result": "ok"}
    assert 1 == total(samples, "runward_upstream_calls_total", **called)
    assert 1 == total(samples, "runward_requests_total", route="passthrough", status="404")
    assert 0 == total(samples, "runward_runs_total")


async def test_any_method_and_body_that_is_listed(gateway: StartGateway, upstream: Upstream) -> None:
    """Bytes that are not JSON go as they are, and come back as they are."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = reply(201, b"\x00\xff", {"Content-Type": "application/x-any"})
    told = await ask(here.url, sent("PUT", "/raw", b"\x00\x01\xfe", Content_Type="application/x-protobuf"))
    assert (201, b"\x00\xff", "application/x-any") == (told.status, told.body, told.header("Content-Type"))
    assert 201 == (await ask(here.url, sent("DELETE", "//rest/x"))).status
    assert [("PUT", "/raw", b"\x00\x01\xfe"), ("DELETE", "/rest/x", b"")] == [
        (request.method, request.path, request.body) for request in upstream.log
    ]


async def test_an_entry_names_its_provider(gateway: StartGateway, upstream: Upstream) -> None:
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = OK
    assert 200 == (await ask(here.url, sent("GET", "/api/v1/other"))).status
    [request] = upstream.log
    assert (SECRETS["PROMPT_STUDIO_API_KEY"], None) == (request.header("API_KEY"), request.header("X-API-KEY"))


@pytest.mark.parametrize("client", ["one", None])
async def test_the_key_in_the_body_is_as_good_and_never_goes_up(
    gateway: StartGateway, upstream: Upstream, client: str | None
) -> None:
    """The SDKs' older calls have `api_key` in the body, and some have no header."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = OK
    told = await ask(here.url, posted("/library-track-score", {"api_key": KEYS["one"], "score": 7}, client))
    assert 200 == told.status
    [request] = upstream.log
    assert {"api_key": LAYER_KEY, "score": 7} == json.loads(request.body)
    assert not any(key in request.head + request.body for key in (k.encode() for k in KEYS.values()))


KEY = KEYS["one"]
LEAKS = {
    "deeper": posted("/log-request", {"metadata": {"api_key": KEY}}),
    "in a list": posted("/log-request", {"tags": [KEY]}),
    "in a text": posted("/log-request", {"text": f"mine is {KEY}!"}),
    "another's": posted("/log-request", {"api_key": KEYS["two"]}),
    "in base64": posted("/log-request", {"text": b64encode(KEY.encode()).decode()}),
    "in a path": sent("GET", f"/prompt-templates/{KEY}"),
    "in a query": sent("GET", f"/prompt-templates/a?key={KEY}"),
    "in a field": sent("GET", "/prompt-templates/a", Accept=KEY),
    "in no JSON": sent("PUT", "/raw", KEY.encode()),
    "escaped": sent(
        "POST", "/log-request", b'{"a":"\\u0072' + KEY[1:].encode() + b'"}', Content_Type="application/json"
    ),
}


async def test_the_gateways_key_never_goes_upstream(gateway: StartGateway, upstream: Upstream) -> None:
    """R79, R80: wherever else it stands, nothing is sent; the answer does not repeat it."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = OK
    for name, request in LEAKS.items():
        told = await ask(here.url, request)
        assert (name, 422, False) == (name, told.status, KEY.encode() in told.raw)
    assert [] == upstream.log


async def test_the_providers_key_never_comes_back(gateway: StartGateway, upstream: Upstream) -> None:
    """Not in a body of any kind, nor in a header field."""
    here = await gateway(None, SECRETS, **ALLOWED)
    escaped = "".join(f"\\u{ord(character):04x}" for character in LAYER_KEY)
    for body in (LAYER_KEY.encode(), f'{{"a":"{escaped}"}}'.encode(), json.dumps({"k": LAYER_KEY}).encode()):
        upstream.default = reply(200, body, {"Content-Type": f"text/{LAYER_KEY}"})
        told = await ask(here.url, sent("GET", "/prompt-templates/a"))
        assert (200, False, True) == (told.status, LAYER_KEY.encode() in told.raw, b"[redacted]" in told.body)
        assert escaped.encode() not in told.body


KNOWN = [
    ("POST", "/log-request", "POST /log-request"),
    ("GET", "/prompt-templates/a", "GET /prompt-templates/*"),
    ("POST", "/library-track-score", "POST /library-track-score"),
    ("POST", "/rest/track-score", "POST /rest/*"),
    ("POST", "/v1/traces", "POST /v1/traces"),
]


async def test_what_is_not_listed_is_refused_and_says_how_to_list_it(gateway: StartGateway, upstream: Upstream) -> None:
    """Off by default; the SDKs show the message."""
    here = await gateway()
    for method, path, shown in KNOWN:
        told = await ask(here.url, sent(method, path, b"{}"))
        words = f"{shown} is not passed through: an operator must list it in clients.<name>.passthrough."
        assert (403, {"success": False, "message": words, "error": words}) == (told.status, told.json)
        assert "forbidden" == told.header("Runward-Problem")
    assert [] == upstream.log
    assert len(KNOWN) == total(await here.metrics(), "runward_refusals_total", client="one", code="forbidden")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/workflows/x/run/", 405, "This route has GET, HEAD."),  # it reads as the name of a workflow
        ("///workflows/x/run", 403, "Runs have routes of their own, and are never passed through."),
        ("/v1/workflows/x/run/", 404, None),
    ],
)
async def test_a_start_that_no_route_is_for_goes_nowhere(
    gateway: StartGateway, upstream: Upstream, path: str, status: int, words: str | None
) -> None:
    """It could not be listed, so nobody is told to."""
    told = await ask((await gateway()).url, sent("POST", path, b"{}"))
    assert (status, words) == (told.status, told.json.get("message"))
    assert [] == upstream.log


async def test_a_list_is_its_clients_own(gateway: StartGateway, upstream: Upstream) -> None:
    """R78: another client is not meant; and neither is another method, or what lies beside the path."""
    here = await gateway(None, SECRETS, **ALLOWED)
    others = [
        posted("/log-request", {}, "two"), sent("PUT", "/raw", b"x", "two"), sent("GET", "/log-request"),
        posted("/log-request/", {}), posted("/log-request/a", {}), sent("GET", "/prompt-templates"),
        posted("/rest/x", {}),
    ]  # fmt: skip
    assert [403] * len(others) == [(await ask(here.url, each)).status for each in others]
    assert [] == upstream.log


async def test_a_stranger_finds_nothing(gateway: StartGateway, upstream: Upstream) -> None:
    """R72, R75: without a good key the path is as unknown as any other, whatever is listed and however it is asked."""
    here = await gateway(None, SECRETS, **ALLOWED)
    nothing = await ask(here.url, sent("GET", "/none", client=None))
    assert (404, "unknown_route") == nothing.summary
    for key in (None, "hunter2", new_key(SystemClock()), KEY[:-1]):
        fields: dict[str, str] = {} if key is None else {"Authorization": f"Bearer {key}"}
        for request in (
            sent("GET", "/prompt-templates/a", b"", None, **fields),
            sent("POST", "/log-request", b"{}", None, Content_Type="application/json", **fields),
            sent("POST", "/library-track-score", b"{}", None, Content_Type="application/json", **fields),
            posted("/library-track-score", {"api_key": key}, None),
            posted("/library-track-score", [key], None),
            sent("PUT", "/raw", b"x", None, **fields),
        ):
            assert nothing.shape == (await ask(here.url, request)).shape
    assert [] == upstream.log
    assert {"unknown"} == {str(line["route"]) for line in here.logs("request")}


async def test_a_key_makes_no_other_path_known(gateway: StartGateway, upstream: Upstream) -> None:
    here = await gateway(None, SECRETS, **ALLOWED)
    for path in ("/none", "/", "/metrics", "/prompt-templates/../none", "/prompt-templates/%2e%2e/x", "/rawer", "/%00"):
        assert (404, "unknown_route") == (await ask(here.url, sent("GET", path))).summary
    assert [] == upstream.log


STARTS = [
    "/workflows/x/run", "//workflows/x/run", "/workflows/x/run/", "/Workflows/x/run", "/%77orkflows/x/run",
    "/workflows/a/b/run", "/workflows%2Fx%2Frun", "/workflows;a/x/run",
]  # fmt: skip


async def test_no_run_is_started_this_way(gateway: StartGateway, upstream: Upstream) -> None:
    """It would be paid for, and counted by nobody: not in any spelling that some server may understand."""
    listed: JsonValue = {"promptlayer": ["GET /workflows/*", "GET /w*", "POST /rest/*", "GET /api/*"]}
    here = await gateway(None, SECRETS, clients={"one": {"passthrough": listed}})
    for path in STARTS:
        for method in ("GET", "POST", "PUT"):
            assert (await ask(here.url, sent(method, path, b"{}"))).status in {403, 404, 405, 415}
    assert [] == upstream.log


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (redirect("/elsewhere"), 502, "upstream_invalid_response"),
        (faults.rst_after_request, 502, "upstream_disconnected"),
        (faults.GARBAGE, 502, "upstream_invalid_response"),
        (faults.big(MAX_RESPONSE + 1), 502, "upstream_too_large"),
        (faults.headers_then_fin, 502, "upstream_invalid_response"),
        (reply(503, {"message": "later"}), 503, None),
        (reply(429, {"message": "slowly"}), 429, None),
        (reply(500, {"message": "oops"}), 500, None),
    ],
)
async def test_what_goes_wrong_is_told_and_nothing_is_repeated(
    gateway: StartGateway, upstream: Upstream, script: Script, status: int, code: str | None
) -> None:
    """Whether it is safe to send it twice, nobody knows."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = script
    told = await ask(here.url, posted("/log-request", {}))
    assert (status, code, 1) == (told.status, told.header("Runward-Problem"), len(upstream.log))
    assert {"message"} <= told.json.keys()


async def test_a_provider_that_is_not_there_is_tried_again(gateway: StartGateway) -> None:
    """Nothing was sent, so that is safe."""
    with closed_port() as nowhere:
        providers: JsonValue = {"promptlayer": {"base_url": nowhere}}
        here = await gateway(None, SECRETS, providers=providers, **ALLOWED)
        told = await ask(here.url, posted("/log-request", {}))
        assert (502, "upstream_unreachable") == (told.status, told.header("Runward-Problem"))
        samples = await here.metrics()
    assert 2 == total(samples, "runward_upstream_calls_total", operation="passthrough", result="unreachable")
    assert 1 == total(samples, "runward_retries_total", operation="passthrough")


async def test_the_limits_hold(gateway: StartGateway, upstream: Upstream) -> None:
    """The client's own, as for runs."""
    upstream.default = OK
    clients: JsonValue = {"one": {"passthrough": LISTED, "limits": {"rate": "1/h"}}}
    here = await gateway(None, SECRETS, clients=clients)
    first, second = [await ask(here.url, posted("/log-request", {})) for _ in range(2)]
    assert (200, 429, "rate_limited") == (first.status, second.status, second.header("Runward-Problem"))
    assert 0 < int(str(second.header("Retry-After"))) <= 3600
    assert 1 == len(upstream.log)


async def test_the_providers_limits_hold(gateway: StartGateway, upstream: Upstream) -> None:
    upstream.default = OK
    limits: JsonValue = {"promptlayer": {"limits": {"rate": "1/h", "max_wait": 0}}}
    here = await gateway(None, SECRETS, providers=limits, **ALLOWED)
    first, second = [await ask(here.url, posted("/log-request", {})) for _ in range(2)]
    assert (200, 503, "overloaded") == (first.status, second.status, second.header("Runward-Problem"))
    assert 1 == len(upstream.log)


async def test_bodies_are_bounded(gateway: StartGateway, upstream: Upstream) -> None:
    """Whoever sends them: those of strangers are read only where they may hold a key."""
    here = await gateway(None, SECRETS, server={"max_body": 1000}, **ALLOWED)
    large = b'{"a":"' + b"x" * 1000 + b'"}'
    for client in ("one", None):
        told = await ask(here.url, sent("POST", "/log-request", large, client, Content_Type="application/json"))
        assert 413 == told.status
    told = await ask(here.url, sent("PUT", "/raw", b"x" * 1001))
    assert (413, "payload_too_large") == (told.status, told.header("Runward-Problem"))
    told = await ask(here.url, sent("PUT", "/raw", b"x", Content_Encoding="gzip"))
    assert 415 == told.status
    told = await ask(here.url, sent("POST", "/log-request", b"{", Content_Type="application/json"))
    assert (400, "malformed_json") == (told.status, told.header("Runward-Problem"))
    assert [] == upstream.log


async def test_our_own_routes_win(gateway: StartGateway, upstream: Upstream) -> None:
    """Whatever is listed: a path that has a route is that route's, with its methods."""
    listed: JsonValue = {"promptlayer": ["GET /runs", "POST /run", "PUT /run", "GET /healthz", "GET /docs*"]}
    here = await gateway(None, SECRETS, clients={"one": {"passthrough": listed}})
    answered = [await ask(here.url, sent(m, p, b"")) for m, p in (("GET", "/runs"), ("POST", "/run"), ("PUT", "/run"))]
    assert [200, 415, 405] == [told.status for told in answered]
    assert b"alive" in (await ask(here.url, sent("GET", "/healthz"))).body
    assert [] == upstream.log


async def look(here: Gateway) -> float:
    return total(await here.metrics(), "runward_requests_in_flight")


async def test_it_counts_as_a_request_in_flight(gateway: StartGateway, upstream: Upstream) -> None:
    """R30, R97: the surplus is refused; a draining gateway waits for what it has let in."""
    here = await gateway(None, SECRETS, server={"max_in_flight": 1}, **ALLOWED)
    seen: list[float] = []

    async def slowly(wire: object) -> None:
        seen.append(await look(here))
        told = await ask(here.url, posted("/log-request", {}))
        seen.append(told.status)
        await OK(wire)  # type: ignore[arg-type]  # a script takes a wire

    upstream.script("POST", "/log-request", [slowly])
    assert 200 == (await ask(here.url, posted("/log-request", {}))).status
    assert ([1, 503], 0) == (seen, await look(here))


async def test_few_strangers_bodies_are_read_at_once(gateway: StartGateway) -> None:
    """R30: 32, with no header that says whose they are; whoever takes longest makes room for the next."""
    here = await gateway(None, SECRETS, **ALLOWED)
    begun = head(
        "POST", "/library-track-score", {"Content-Type": "application/json", "Content-Length": "9"}, client=None
    )
    async with contextlib.AsyncExitStack() as held:
        callers = []
        for _ in range(33):
            callers.append(await held.enter_async_context(calling(here.url)))
            await callers[-1].send(begun)
        told = await callers[0].reply()
        assert (503, "overloaded", "1") == (*told.summary, told.header("Retry-After"))
        await callers[2].send(b'{"a":"b"}')
        assert 404 == (await callers[2].reply()).status
        await callers[0].closed()


async def test_strangers_that_send_slowly_lock_nobody_out(gateway: StartGateway, upstream: Upstream) -> None:
    """R33: an SDK whose key stands in the body alone is served while strangers hold every place."""
    here = await gateway(None, SECRETS, **ALLOWED)
    upstream.default = OK
    begun = head("POST", "/log-request", {"Content-Type": "application/json", "Content-Length": "9"}, client=None)
    async with contextlib.AsyncExitStack() as held:
        for _ in range(40):
            caller = await held.enter_async_context(calling(here.url))
            await caller.send(begun)
        told = [await ask(here.url, posted("/log-request", {"api_key": KEYS["one"]}, None)) for _ in range(5)]
    assert [200] * 5 == [each.status for each in told]
