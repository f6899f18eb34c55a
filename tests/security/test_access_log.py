"""Access log: one entry and one count for each request, under names that clients cannot choose."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest

from tests.security.gateway_harness import GatewayHarness
from tests.security.sample_requests import rejected_requests
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.faults import ResponseScript
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.process import LogLine
from tests.support.raw_client import RawResponse, build_get, build_run, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

COMMON_FIELDS = {"time", "level", "event", "request_id", "route", "client", "status", "ms"}
RUN_FIELDS = {"run_id", "workflow", "provider", "attempts", "outcome", "waited_ms"}


async def access_log_entry(harness: GatewayHarness, answered: RawResponse) -> LogLine:
    """Return the only access log entry of this response."""
    found: list[LogLine] = []
    async with asyncio.timeout(10):
        while not found:
            await asyncio.sleep(0.02)
            logged = [json.loads(line) for line in harness.log_output.splitlines()]  # waits for a second line
            found = [line for line in logged if line.get("request_id") == answered.header("X-Request-Id")]
    assert 1 == len([line for line in found if line["event"] == "request"]), found
    return dict(next(line for line in found if line["event"] == "request"))


@pytest.mark.parametrize("what", rejected_requests())
async def test_a_refusal_is_one_log_entry(harness: GatewayHarness, what: str) -> None:
    """R91: id, route, client, status, code and time; no fields of a run."""
    data, route, code = rejected_requests()[what]
    answered = await send_request(harness.url, data)
    line = await access_log_entry(harness, answered)
    assert (COMMON_FIELDS | {"code"}, set()) == ((COMMON_FIELDS | {"code"}) & set(line), RUN_FIELDS & set(line))
    assert (route, answered.status, code) == (line["route"], line["status"], line["code"])
    known = {
        "unauthorized": "",
        "forbidden": "two",
        "malformed_request": "",
        "unknown_route": "",
        "method_not_allowed": "",
    }
    assert known.get(code, "one") == line["client"]


SCRIPTS: dict[str, tuple[list[ResponseScript], int, str]] = {
    "good": ([prompt_studio_reply({})], 1, "succeeded"),
    "late": ([reply(429, {}), reply(429, {}), prompt_studio_reply({})], 3, "succeeded"),
    "failed": ([reply(500, {})], 1, "failed"),
    "unknown": ([faults.rst_after_request], 1, "unknown"),
    "refused": ([reply(400, {})], 1, "not_run"),
    "throttled": ([reply(429, {})] * 3, 3, "not_run"),
}


@pytest.mark.parametrize("what", SCRIPTS)
async def test_a_run_is_one_log_entry(harness: GatewayHarness, what: str) -> None:
    """R91: run, provider, attempts, outcome and duration, as in the response."""
    scripts, attempts, outcome = SCRIPTS[what]
    harness.upstream.script("POST", STUDIO_RUN, scripts)
    began = time.monotonic()
    answered = await send_request(harness.url, build_run())
    taken = (time.monotonic() - began) * 1000
    line = await access_log_entry(harness, answered)
    document = answered.json
    assert COMMON_FIELDS | RUN_FIELDS <= set(line)
    expected = ("run", "one", answered.status, "studio", "prompt_studio", attempts, outcome)
    names = ("route", "client", "status", "workflow", "provider", "attempts", "outcome")
    assert expected == tuple(line[name] for name in names)
    assert line["run_id"] == document["id" if answered.status == 200 else "run_id"]
    assert (document["attempts"], document.get("code")) == (line["attempts"], line.get("code"))
    assert 0 <= float(str(line["waited_ms"])) <= float(str(line["ms"])) <= taken


@pytest.mark.parametrize("given", ["a", "req-1", "A1.b_c:d/e+f=g-h", "0" * 128, "4bf92f3577b34da6a3ce929d0e0e4736"])
async def test_a_request_may_bring_its_id(harness: GatewayHarness, given: str) -> None:
    """R91: it is in the response header, in problems and in the log."""
    answered = await send_request(harness.url, build_get("/none", {"X-Request-Id": given}))
    assert given == answered.header("X-Request-Id") == answered.json["request_id"]
    assert given == (await access_log_entry(harness, answered))["request_id"]


@pytest.mark.parametrize(
    "given",
    ["", " ", "a" * 129, "a" * 1000, "a b", "a\tb", 'a"b', "<script>", "{}", "a,b", "a;b", "a\\b", "%0d%0a", "\xe4"],
    ids=ascii,
)
async def test_a_hostile_id_is_replaced(harness: GatewayHarness, given: str) -> None:
    """R91: it is neither returned nor logged."""
    answered = await send_request(harness.url, build_run(headers={"X-Request-Id": given}))
    made = answered.header("X-Request-Id")
    assert (200, True) == (answered.status, bool(re.fullmatch("req_[0-9a-f]{24}", made or "")))
    await access_log_entry(harness, answered)
    assert not given.strip() or given not in harness.log_output


@pytest.mark.parametrize("ending", [b"\r\nX-A: b", b"\r\n forged", b"\rforged", b"\nforged", b"\0forged"])
async def test_a_request_id_cannot_inject_a_log_entry(harness: GatewayHarness, ending: bytes) -> None:
    """R91: bytes after its line end are another field, or the request is malformed."""
    sent = build_run().replace(b"\r\n\r\n", b"\r\nX-Request-Id: mine" + ending + b"\r\n\r\n", 1)
    answered = await send_request(harness.url, sent)
    assert (answered.status, answered.header("X-Request-Id") == "mine") in {(200, True), (400, False)}
    assert b"forged" not in answered.raw
    assert "forged" not in harness.log_output


async def test_each_request_has_an_id_of_its_own(harness: GatewayHarness) -> None:
    """R91: also for several requests on one connection."""
    async with raw_connection(harness.url) as caller:
        await caller.send(build_get("/healthz") * 50)
        assert 50 == len({(await caller.read_response()).header("X-Request-Id") for _ in range(50)})
