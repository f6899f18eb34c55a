"""Permissions with and without a key: workflows, runs, headers, the operations port (R78, R80, R83)."""

from __future__ import annotations

import json
import re

import pytest

from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.security.sample_requests import bearer_header, run_with_headers
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.raw_client import build_get, build_head, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")


def run_of_second_client(workflow: str) -> bytes:
    """Send a run as the second client, which has a narrow scope."""
    return build_run(json.dumps({"workflow": workflow}).encode(), client="two")


@pytest.mark.parametrize("workflow", ["studio", "prompt_studio/dep_test", "promptlayer/layer-test"])
async def test_a_key_opens_its_own_workflows_only(harness: GatewayHarness, workflow: str) -> None:
    """R78: 403 for an alias or a provider's name, without a call."""
    assert_problem(await send_request(harness.url, run_of_second_client(workflow)), 403, "forbidden")
    assert [] == harness.upstream.received


@pytest.mark.parametrize("workflow", ["layer", "prompt_studio/public-1"])
async def test_a_key_opens_its_own_workflows(harness: GatewayHarness, workflow: str) -> None:
    """R78: positive control of the previous test."""
    assert 200 == (await send_request(harness.url, run_of_second_client(workflow))).status


async def test_another_clients_run_looks_like_an_unknown_run(harness: GatewayHarness) -> None:
    """R78: its id gets the same 404 as an unused id; its owner can read it."""
    accepted = await send_request(harness.url, build_run(headers={"Prefer": "respond-async"}))
    run_id = str(accepted.json["id"])
    looked_up = {
        name: await send_request(harness.url, build_head("GET", f"/runs/{asked}", client=client))
        for name, asked, client in (
            ("own", run_id, "one"), ("another's", run_id, "two"), ("nobody's", "run_" + "0" * 32, "two"),
        )
    }  # fmt: skip
    assert (202, 200, run_id) == (accepted.status, looked_up["own"].status, looked_up["own"].json["id"])
    assert_problem(looked_up["another's"], 404, "not_found")
    assert looked_up["nobody's"].comparable == looked_up["another's"].comparable
    listed = await send_request(harness.url, build_head("GET", "/runs", client="two"))
    assert (200, False) == (listed.status, run_id.encode() in listed.body)


CLIENT_HEADERS = {
    b"X-API-KEY": b"client-1", b"API_KEY": b"client-2", b"Api-Key": b"client-3", b"Cookie": b"a=client-4",
    b"X-Forwarded-For": b"192.0.2.4", b"X-Forwarded-Host": b"client-5", b"X-Forwarded-Proto": b"client-6",
    b"Forwarded": b"for=client-7", b"X-Real-IP": b"192.0.2.5", b"Via": b"1.1 client-8", b"Referer": b"client-11",
    b"Connection": b"X-API-KEY, Authorization", b"TE": b"trailers", b"User-Agent": b"client-10",
    b"Proxy-Authorization": b"client-9",
    b"Accept": b"client/12", b"Accept-Encoding": b"gzip", b"Range": b"bytes=0-1", b"If-None-Match": b"client-13",
    b"X-Request-Id": b"client-14", b"Host": b"client-15", b"X_API_KEY": b"client-16", b"Origin": b"http://client-17",
}  # fmt: skip


@pytest.mark.parametrize("workflow", ["studio", "layer"])
async def test_only_an_exact_list_of_headers_goes_upstream(harness: GatewayHarness, workflow: str) -> None:
    """R80: field by field, without fields of the client."""
    lines = [b"%b: %b" % pair for pair in CLIENT_HEADERS.items() if pair[0] != b"Host"]
    data = run_with_headers(bearer_header(CLIENT_KEYS["one"]), *lines, body=json.dumps({"workflow": workflow}).encode())
    reply = await send_request(harness.url, data.replace(b"gateway.test", CLIENT_HEADERS[b"Host"], 1))
    assert (200, "client-14") == (reply.status, reply.header("X-Request-Id"))
    keys = {"studio": ("API_KEY", "PROMPT_STUDIO_API_KEY"), "layer": ("X-API-KEY", "PROMPTLAYER_API_KEY")}
    name, variable = keys[workflow]
    for request in harness.upstream.received:
        expected = {
            "Host": harness.upstream.url.removeprefix("http://"),
            name: PROVIDER_SECRETS[variable],
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        if request.method == "POST":
            expected |= {"Content-Type": "application/json", "Content-Length": str(len(request.body))}
        found = dict(request.headers)
        assert len(found) == len(request.headers)
        assert re.fullmatch(r"runward/[\d.]+", found.pop("User-Agent"))
        found.pop("traceparent", None)  # R94's
        assert expected == found


async def test_what_watches_the_gateway_is_not_on_the_public_port(harness: GatewayHarness) -> None:
    """R83: with or without a key; the operations port has it, and cannot start runs."""
    for target in ("/metrics", "/debug", "/debug/pprof", "/console", "/config", "/env", "/version", "/stats", "/admin"):
        for client in ("one", None):
            assert_problem(
                await send_request(harness.url, build_head("GET", target, client=client)), 404, "unknown_route"
            )
    watched = await send_request(harness.gateway.ops_url, build_get("/metrics"))
    assert (200, True) == (watched.status, b"runward_requests_total" in watched.body)
    assert_problem(await send_request(harness.gateway.ops_url, build_run()), 404, "unknown_route")


async def test_the_schema_wants_a_key(harness: GatewayHarness) -> None:
    """R83: without a key, no schema, version or workflow name is disclosed."""
    assert_problem(await send_request(harness.url, build_get("/openapi.json")), 401, "unauthorized")
    reply = await send_request(harness.url, build_head("GET", "/openapi.json"))
    assert (200, "3.1.0", "no-store") == (reply.status, reply.json["openapi"], reply.header("Cache-Control"))
    for target in ("/healthz", "/readyz", "/docs", "/none", "/run"):
        body = (await send_request(harness.url, build_get(target))).body
        assert None is re.search(rb"\d+\.\d+\.\d+|openapi\W+3|studio|layer|aiohttp|python", body, re.IGNORECASE), target
