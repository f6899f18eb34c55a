"""Hostile workflow names, upstream and in the log (R61, R73)."""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

import pytest

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.security.sample_requests import run_with_body
from tests.support.fake_upstream.provider_responses import prompt_studio_reply, promptlayer_started
from tests.support.raw_client import build_get, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = [
    "../x", "..", ".", "...", "../../admin", "..;/x", "%2e%2e%2f", "%2e%2e", "..%2f..%2f", "..\\x", "%252e%252e", "a/b",
    "/a", "a/", "//", "a?x=1", "?", "a#b", "#", "a;b=c", "a@b", "a:b", "a&b", "a+b", "a b", " ", "a%", "%", "%zz",
    "a\\b", "a\r\nX-A: b", "\r\n\r\nGET / HTTP/1.1", "\n", "a\0b", "\0", "\x1b[31m", "ä", "日本", "👍", "\u202e",
    "\ufeff", "\u2028", "①②⑦", "a" * 490, "ä" * 490, "http://evil.example/", "@evil.example", "*", "{}", "{0}", "%s",
    "$(id)", "'\"", "run",
]  # fmt: skip


@pytest.mark.parametrize("provider", ["prompt_studio", "promptlayer"])
@pytest.mark.parametrize("name", NAMES)
async def test_a_name_is_one_segment_upstream(harness: GatewayHarness, provider: str, name: str) -> None:
    """R61: any name is one encoded path segment, or is refused."""
    before, after = ("/v1/workflows/", "/run") if provider == "prompt_studio" else ("/workflows/", "/run")
    harness.upstream.route(
        lambda request: request.method == "POST",
        prompt_studio_reply({}) if provider == "prompt_studio" else promptlayer_started(787),
    )
    reply = await send_request(harness.url, run_with_body({"workflow": f"{provider}/{name}"}))
    if name in {".", ".."}:
        assert_problem(reply, 404, "workflow_not_found")
        assert [] == harness.upstream.received
        return
    assert (200, f"{provider}/{name}") == (reply.status, reply.json["workflow"])
    start = harness.upstream.received[0]
    segment = start.target.removeprefix(before).removesuffix(after)
    assert f"POST {before}{segment}{after} HTTP/1.1\r\n".encode() == start.head.splitlines(keepends=True)[0]
    assert (name, None) == (unquote(segment), re.search("[^A-Za-z0-9._~%-]", segment))


@pytest.mark.parametrize("name", [*NAMES, "", "/x", "prompt_studio", "prompt_studio/", "nobody/x", "Studio", "studio "])
async def test_a_strange_alias_is_not_found(harness: GatewayHarness, name: str) -> None:
    """R61: an alias is looked up, never interpreted."""
    reply = await send_request(harness.url, run_with_body({"workflow": name}))
    assert reply.status in {404, 422}
    assert_problem(reply, reply.status, "workflow_not_found" if reply.status == 404 else "invalid_request")
    assert [] == harness.upstream.received


async def test_a_name_of_ten_kilobytes_is_refused(harness: GatewayHarness) -> None:
    """R61: by its length; the response does not repeat it."""
    reply = await send_request(harness.url, run_with_body({"workflow": "prompt_studio/" + "a" * 10_000}))
    assert_problem(reply, 422, "invalid_request")
    assert ('"/workflow"' in reply.body.decode(), len(reply.body) < 1000) == (True, True)
    assert [] == harness.upstream.received


HOSTILE_TEXTS = [
    '\n{"level":"error","event":"forged"}',
    "\x1b[31mred\x1b[0m",
    "\0",
    "\u2028",
    "\x7f\x80\x9f",
    '","a":"',
    "\\",
    "\ufeff",
]


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=ascii)
async def test_hostile_fields_stay_within_their_log_entry(harness: GatewayHarness, text: str) -> None:
    """R73: one request is one line, one JSON object, without forged entries."""
    name = f"prompt_studio/{text}"
    everywhere: dict[str, JsonValue] = {"workflow": name, "input": {text: text}, "metadata": {text: text}}
    bodies: list[JsonValue] = [everywhere, {**everywhere, "label": text}, {"workflow": text}, {text: text}]
    assert [200, 422, 404, 422] == [(await send_request(harness.url, run_with_body(body))).status for body in bodies]
    lines = await harness.access_log("run", 4)
    assert name == lines[0]["workflow"]
    logged = [json.loads(line) for line in harness.log_output.splitlines()]  # which splits at more than line feeds
    assert (4, set()) == (len(lines), {"error"} & {line["level"] for line in logged})
    assert set() == {"forged"} & {line["event"] for line in logged}
    assert None is re.search(r"[^\n\x20-\x7f]", harness.log_output)


@pytest.mark.parametrize("name", ["User-Agent", "X-Request-Id", "X-A", "Cookie", "Referer", "X-API-KEY", "Prefer"])
async def test_raw_bytes_in_headers_stay_out_of_the_log(harness: GatewayHarness, name: str) -> None:
    """R73: bytes from 0x80 to 0xff are not valid text and cause no error."""
    raw = bytes(range(0x80, 0x100))
    for data in (build_run(), build_get("/none")):
        sent = data.replace(b"\r\n\r\n", b"\r\n" + name.encode() + b": " + raw + b"\r\n\r\n", 1)
        assert (await send_request(harness.url, sent)).status in {200, 404}
    sent = build_run(client=None).replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + raw + b"\r\n\r\n", 1)
    assert_problem(await send_request(harness.url, sent), 401, "unauthorized")
    lines = await harness.access_log("run", 2)
    assert ([200, 401], []) == (
        [line["status"] for line in lines],
        re.findall("[^\x20-\x7e\n]|udc80", harness.log_output),
    )
