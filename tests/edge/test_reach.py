"""What a key opens, and what is open without one: workflows, runs, headers, the other port (R78, R80, R83)."""

from __future__ import annotations

import json
import re

import pytest

from tests.configuration import KEYS, SECRETS
from tests.edge.raw import ask, get, head, post
from tests.edge.requests import bearer, keyed
from tests.edge.world import World, expect_problem

pytestmark = pytest.mark.asyncio(loop_scope="session")


def run_by_two(workflow: str) -> bytes:
    """A run that the second client asks for, which may run little."""
    return post(json.dumps({"workflow": workflow}).encode(), client="two")


@pytest.mark.parametrize("workflow", ["studio", "prompt_studio/dep_test", "promptlayer/layer-test"])
async def test_a_key_opens_its_own_workflows_only(world: World, workflow: str) -> None:
    """R78: 403, by an alias or around it, and the upstream hears nothing."""
    expect_problem(await ask(world.url, run_by_two(workflow)), 403, "forbidden")
    assert [] == world.upstream.log


@pytest.mark.parametrize("workflow", ["layer", "prompt_studio/public-1"])
async def test_a_key_opens_its_own_workflows(world: World, workflow: str) -> None:
    """R78: or the test above would say nothing."""
    assert 200 == (await ask(world.url, run_by_two(workflow))).status


async def test_anothers_run_looks_like_none(world: World) -> None:
    """R78: its id gets the very 404 of an id that nobody has; its owner finds it."""
    accepted = await ask(world.url, post(headers={"Prefer": "respond-async"}))
    run_id = str(accepted.json["id"])
    looked_up = {
        name: await ask(world.url, head("GET", f"/runs/{asked}", client=client))
        for name, asked, client in (
            ("own", run_id, "one"), ("another's", run_id, "two"), ("nobody's", "run_" + "0" * 32, "two"),
        )
    }  # fmt: skip
    assert (202, 200, run_id) == (accepted.status, looked_up["own"].status, looked_up["own"].json["id"])
    expect_problem(looked_up["another's"], 404, "not_found")
    assert looked_up["nobody's"].shape == looked_up["another's"].shape
    listed = await ask(world.url, head("GET", "/runs", client="two"))
    assert (200, False) == (listed.status, run_id.encode() in listed.body)


SENT = {
    b"X-API-KEY": b"client-1", b"API_KEY": b"client-2", b"Api-Key": b"client-3", b"Cookie": b"a=client-4",
    b"X-Forwarded-For": b"192.0.2.4", b"X-Forwarded-Host": b"client-5", b"X-Forwarded-Proto": b"client-6",
    b"Forwarded": b"for=client-7", b"X-Real-IP": b"192.0.2.5", b"Via": b"1.1 client-8", b"Referer": b"client-11",
    b"Connection": b"X-API-KEY, Authorization", b"TE": b"trailers", b"User-Agent": b"client-10",
    b"Proxy-Authorization": b"client-9",
    b"Accept": b"client/12", b"Accept-Encoding": b"gzip", b"Range": b"bytes=0-1", b"If-None-Match": b"client-13",
    b"X-Request-Id": b"client-14", b"Host": b"client-15", b"X_API_KEY": b"client-16", b"Origin": b"http://client-17",
}  # fmt: skip


@pytest.mark.parametrize("workflow", ["studio", "layer"])
async def test_only_an_exact_list_of_headers_goes_upstream(world: World, workflow: str) -> None:
    """R80: line by line; of the client's, none."""
    lines = [b"%b: %b" % pair for pair in SENT.items() if pair[0] != b"Host"]
    data = keyed(bearer(KEYS["one"]), *lines, body=json.dumps({"workflow": workflow}).encode())
    reply = await ask(world.url, data.replace(b"gateway.test", SENT[b"Host"], 1))
    assert (200, "client-14") == (reply.status, reply.header("X-Request-Id"))
    keys = {"studio": ("API_KEY", "PROMPT_STUDIO_API_KEY"), "layer": ("X-API-KEY", "PROMPTLAYER_API_KEY")}
    name, variable = keys[workflow]
    for request in world.upstream.log:
        expected = {
            "Host": world.upstream.url.removeprefix("http://"),
            name: SECRETS[variable],
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


async def test_what_watches_the_gateway_is_not_on_the_public_port(world: World) -> None:
    """R83: with a key or without; it is on the other port, where nothing can be run."""
    for target in ("/metrics", "/debug", "/debug/pprof", "/console", "/config", "/env", "/version", "/stats", "/admin"):
        for client in ("one", None):
            expect_problem(await ask(world.url, head("GET", target, client=client)), 404, "unknown_route")
    watched = await ask(world.gateway.ops_url, get("/metrics"))
    assert (200, True) == (watched.status, b"runward_requests_total" in watched.body)
    expect_problem(await ask(world.gateway.ops_url, post()), 404, "unknown_route")


async def test_the_schema_wants_a_key(world: World) -> None:
    """R83: without one there is no schema, and nothing that is there names a version or a workflow."""
    expect_problem(await ask(world.url, get("/openapi.json")), 401, "unauthorized")
    reply = await ask(world.url, head("GET", "/openapi.json"))
    assert (200, "3.1.0", "no-store") == (reply.status, reply.json["openapi"], reply.header("Cache-Control"))
    for target in ("/healthz", "/readyz", "/docs", "/none", "/run"):
        body = (await ask(world.url, get(target))).body
        assert None is re.search(rb"\d+\.\d+\.\d+|openapi\W+3|studio|layer|aiohttp|python", body, re.IGNORECASE), target
