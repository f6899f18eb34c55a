"""HTTP protocol: methods, paths, media types, versions, Expect, pipelining (R72)."""

from __future__ import annotations

import asyncio
import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.support.configuration import CLIENT_KEYS
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.raw_client import JSON, RUN, build_get, build_head, build_run, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "TRACE", "OPTIONS", "DELETE", "PATCH", "PROPFIND"])
@pytest.mark.parametrize("client", ["one", None])
async def test_other_methods_are_a_405_that_names_the_right_one(
    harness: GatewayHarness, method: str, client: str | None
) -> None:
    """R72: with and without a key; the content of a TRACE is not echoed."""
    reply = await send_request(harness.url, build_head(method, "/run", {"X-Canary": "echo-me"}, client=client))
    assert (405, "POST") == (reply.status, reply.header("Allow"))
    assert b"echo-me" not in reply.raw
    if method == "HEAD":
        assert (b"", "application/problem+json") == (reply.body, reply.header("Content-Type"))
    else:
        assert_problem(reply, 405, "method_not_allowed")


@pytest.mark.parametrize("target", ["/healthz", "/readyz", "/docs"])
async def test_what_can_be_read_has_a_head(harness: GatewayHarness, target: str) -> None:
    """R72: HEAD is GET without the body (RFC 9110, 9.3.2), and the connection stays in step; POST is a 405."""
    async with raw_connection(harness.url) as caller:
        await caller.send(build_head("HEAD", target, client=None) + build_get(target))
        short, whole = await caller.read_response(method="HEAD"), await caller.read_response()
    assert (200, 200, b"") == (short.status, whole.status, short.body)
    assert short.header("Content-Length") == str(len(whole.body))
    refused = await send_request(harness.url, build_head("POST", target, {"Content-Length": "0"}))
    assert (405, "GET, HEAD") == (refused.status, refused.header("Allow"))


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/none",
        "/run/",
        "///run",
        "//run/",
        "/RUN",
        "/./run",
        "/x/../run",
        "/r%75n",
        "/run%2f",
        "/%zz",
        "/run;a",
        "/metrics",
    ],
)
async def test_an_unknown_path_is_a_404(harness: GatewayHarness, target: str) -> None:
    """R72, R83: no other spelling leads to /run, and the operations routes are not on this port."""
    for data in (build_head("GET", target), build_run().replace(b"/run", target.encode(), 1)):
        assert_problem(await send_request(harness.url, data), 404, "unknown_route")
    assert [] == harness.upstream.received


async def test_a_doubled_leading_slash_is_one(harness: GatewayHarness) -> None:
    """A base URL may end in a slash, as on PromptLayer's and Prompt Studio's API."""
    assert 200 == (await send_request(harness.url, build_run().replace(b"/run", b"//run", 1))).status
    assert 200 == (await send_request(harness.url, build_head("GET", "//runs"))).status
    assert_problem(await send_request(harness.url, build_head("GET", "//runs/run_none")), 404, "not_found")
    assert_problem(await send_request(harness.url, build_head("PUT", "//run")), 405, "method_not_allowed")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text;q=0", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=0.0.4;q=0.3,*/*;q=0.2", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/OpenMetrics-Text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
async def test_metrics_have_the_format_that_accept_prefers(
    harness: GatewayHarness, accept: str | None, media_type: str
) -> None:
    """RFC 9110, 12.5.1, with the values that Prometheus sends."""
    fields = {} if accept is None else {"Accept": accept}
    found = await send_request(harness.gateway.ops_url, build_get("/metrics", fields))
    assert (200, media_type) == (found.status, found.header("Content-Type"))
    parse = parse_openmetrics if "openmetrics" in media_type else parse_text
    names = {sample.name for family in parse(found.body.decode()) for sample in family.samples}
    assert "runward_requests_total" in names


async def test_a_repeated_key_field_authenticates_no_client(harness: GatewayHarness) -> None:
    """Intermediaries may read either of them (RFC 9110, 5.3)."""
    for name, value in (("Authorization", f"Bearer {CLIENT_KEYS['one']}"), ("X-API-KEY", CLIENT_KEYS["one"])):
        once = build_head("GET", "/runs", {name: value}, client=None)
        assert 200 == (await send_request(harness.url, once)).status
        twice = once.replace(b"\r\n\r\n", f"\r\n{name}: {value}\r\n\r\n".encode())
        assert_problem(await send_request(harness.url, twice), 401, "unauthorized")


async def test_a_path_may_have_a_query_and_a_host(harness: GatewayHarness) -> None:
    """RFC 9112, 3.2.2: the absolute form is supported; the query is ignored."""
    for target in (b"/run?a=b", b"http://gateway.test/run"):
        assert 200 == (await send_request(harness.url, build_run().replace(b"/run", target, 1))).status


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/json",
     "application/jsonp", "application/json-seq", "application/xml; application/json", "json", "*/*"],
)  # fmt: skip
async def test_other_types_are_a_415(harness: GatewayHarness, content_type: str | None) -> None:
    """R72."""
    fields = {"Content-Length": str(len(RUN))} | ({} if content_type is None else {"Content-Type": content_type})
    assert_problem(await send_request(harness.url, build_head(headers=fields) + RUN), 415, "unsupported_media_type")
    assert [] == harness.upstream.received


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json ;a=b"]
)
async def test_json_may_be_named_in_any_case_and_with_parameters(harness: GatewayHarness, content_type: str) -> None:
    assert 200 == (await send_request(harness.url, build_run(headers={"Content-Type": content_type}))).status


@pytest.mark.parametrize("word", ["100-continue", "100-Continue"])
async def test_expect_100_continue_is_honoured(harness: GatewayHarness, word: str) -> None:
    """RFC 9110, 10.1.1: 100, then the response; the connection stays open."""
    async with raw_connection(harness.url) as caller:
        for _ in range(2):
            await caller.send(build_head(headers={**JSON, "Content-Length": str(len(RUN)), "Expect": word}))
            assert b"HTTP/1.1 100 Continue\r\n\r\n" == (await caller.read_response()).raw
            await caller.send(RUN)
            assert 200 == (await caller.read_response()).status


async def test_a_refused_expect_request_gets_no_100(harness: GatewayHarness) -> None:
    """RFC 9110, 10.1.1: the refusal replaces the 100."""
    waiting = {**JSON, "Content-Length": "100", "Expect": "100-continue"}
    assert_problem(await send_request(harness.url, build_head(headers=waiting, client=None)), 401, "unauthorized")
    too_large = waiting | {"Content-Length": "1000001"}
    assert_problem(await send_request(harness.url, build_head(headers=too_large)), 413, "payload_too_large")
    compressed = waiting | {"Content-Encoding": "gzip"}
    assert_problem(await send_request(harness.url, build_head(headers=compressed)), 415, "unsupported_media_type")


async def test_a_body_sent_without_waiting_gets_no_100(harness: GatewayHarness) -> None:
    """RFC 9110, 10.1.1: the 100 may be omitted if the body has arrived; HTTP/1.0 has no 100."""
    assert 200 == (await send_request(harness.url, build_run(headers={"Expect": "100-continue"}))).status
    async with raw_connection(harness.url) as caller:
        old = build_head(headers={**JSON, "Content-Length": str(len(RUN)), "Expect": "100-continue"})
        await caller.send(old.replace(b"HTTP/1.1", b"HTTP/1.0"))
        await asyncio.sleep(0.05)
        await caller.send(RUN)
        assert 200 == (await caller.read_response()).status


async def echo_input(connection: UpstreamConnection) -> None:
    """Respond with the run's input, after the number of seconds in it."""
    assert connection.request is not None
    given = json.loads(connection.request.body)["input"]
    await asyncio.sleep(given["wait"])
    await prompt_studio_reply(given)(connection)


async def test_pipelined_requests_are_answered_in_their_order(harness: GatewayHarness) -> None:
    """RFC 9112, 9.3.2: 100 pipelined runs, the first the slowest: responses are in order, each run is executed once."""
    harness.upstream.always("POST", STUDIO_RUN, echo_input)
    given: list[JsonValue] = [{"number": n, "wait": max(0.0, 0.1 - n / 20)} for n in range(100)]
    data = b"".join(build_run(json.dumps({"workflow": "studio", "input": each}).encode()) for each in given)
    async with raw_connection(harness.url) as caller:
        await caller.send(data)
        answers = [await caller.read_response() for _ in given]
    assert given == [answer.json["output"] for answer in answers]
    assert 100 == len(harness.upstream.received)
    assert 100 == len({answer.header("X-Request-Id") for answer in answers})


async def test_a_client_may_end_the_connection_with_its_request(harness: GatewayHarness) -> None:
    """`Connection: close` is honoured, and line ends after such a request are not an error."""
    async with raw_connection(harness.url) as caller:
        await caller.send(build_run(headers={"Connection": "close"}) + b"\r\n")
        reply = await caller.read_response()
        assert (200, "close") == (reply.status, reply.header("Connection"))
        await caller.wait_closed()


async def test_http_1_0_is_spoken(harness: GatewayHarness) -> None:
    """No Host is required; the connection is closed unless keep-alive is requested."""
    old = build_run().replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: gateway.test\r\n", b"")
    async with raw_connection(harness.url) as caller:
        await caller.send(old)
        reply = await caller.read_response()
        assert (200, b"HTTP/1.0 ") == (reply.status, reply.raw[:9])
        await caller.wait_closed()
    async with raw_connection(harness.url) as caller:
        for _ in range(2):
            await caller.send(old.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
            assert 200 == (await caller.read_response()).status


async def test_an_offer_of_another_protocol_is_declined(harness: GatewayHarness) -> None:
    """RFC 9110, 7.8: the request is answered normally, and so is the next one."""
    for offer in ("websocket", "h2c", "TLS/1.2"):
        async with raw_connection(harness.url) as caller:
            for _ in range(2):
                await caller.send(build_run(headers={"Connection": "Upgrade", "Upgrade": offer}))
                assert 200 == (await caller.read_response()).status
