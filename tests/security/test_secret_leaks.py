"""No secret leaks, with a hostile upstream and careless clients (R79)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.security.gateway_harness import GatewayHarness, find_leaks, running_gateway
from tests.security.key_echoing_upstream import CASES, ENCODINGS, echo_key
from tests.security.sample_requests import rejected_requests, run_with_body
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.raw_client import RawResponse, build_get, build_head, build_run, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

# With every character that some encoder writes in another way.
PROVIDER_KEYS = {name: f'k/{secrets.token_hex(8)}+"&<\\=%{secrets.token_urlsafe(9)}==' for name in PROVIDER_SECRETS}
ALL_SECRETS = (*PROVIDER_KEYS.values(), *CLIENT_KEYS.values())


@dataclass(frozen=True, slots=True)
class CollectedOutput:
    """Gateway after every kind of request, and its responses."""

    world: GatewayHarness
    answers: list[RawResponse]


def hostile_runs() -> list[bytes]:
    """Return every case at Prompt Studio, at the start of a PromptLayer run and at its polls."""
    asked: list[tuple[str, JsonValue]] = [("studio", {"garbage": 1}), ("layer", {"garbage": 1})]
    for number in range(len(CASES)):
        asked += [("studio", {"now": number}), ("layer", {"now": number}), ("layer", {"later": number})]
    body: dict[str, JsonValue] = {"return_all_outputs": True, "timeout": 0.3}
    return [run_with_body({"workflow": workflow, "input": given, **body}) for workflow, given in asked]


def misplaced_keys() -> list[bytes]:
    """Return refused requests of all kinds, and client keys in wrong places."""
    found = [data for data, _, _ in rejected_requests().values()]
    for key in CLIENT_KEYS.values():
        found += [
            build_head("GET", f"/run?key={key}"),
            build_head("GET", f"/{key}"),
            build_head("GET", "/healthz", {"User-Agent": key}),
            build_head("POST", "/run", {"Content-Type": key, "Content-Length": "0"}),
            build_run(headers={"Authorization": f"Basic {key}"}, client=None),
            build_run(headers={"Authorization": f"Bearer {key}x"}, client=None),
            build_run(headers={"X-API-KEY": f"{key}, {key}"}, client=None),
            build_run(headers={"Cookie": key, "Referer": f"http://{key}/", "X-Forwarded-For": key, "Prefer": key}),
            build_run(headers={"Idempotency-Key": key}),
            build_run(headers={"Content-Encoding": key}),
            build_run(headers={"Authorization": f"Bearer {key}\0"}, client=None),
            build_run(headers={"X-API-KEY ": key}),
            build_run(key.encode()),
            run_with_body({"workflow": key}),
            run_with_body({"workflow": "studio", "timeout": key}),
            run_with_body({"workflow": "studio", "version": key}),
            run_with_body({"workflow": "studio", "callback_url": key}),
            run_with_body({"workflow": "studio", "metadata": {"a": [key]}}),
            f"{key}\r\n\r\n".encode(),
        ]
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def collected(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CollectedOutput]:
    """Send all requests at the log level debug."""
    overrides: dict[str, JsonValue] = {"breaker": {"failures": 1_000_000}, "clients": {"two": {"workflows": ["layer"]}}}
    async with running_gateway(tmp_path_factory.mktemp("canaries"), PROVIDER_KEYS, fork=False, **overrides) as harness:
        harness.upstream.route(lambda _: True, echo_key)
        sent = [*hostile_runs(), *misplaced_keys()]
        answers = []
        for first in range(0, len(sent), 50):
            asked = enumerate(sent[first : first + 50])
            answers += await asyncio.gather(*(send_request(harness.url, data, f"127.0.8.{n + 1}") for n, data in asked))
        yield CollectedOutput(harness, answers)


async def test_the_requests_reached_every_error_path(collected: CollectedOutput) -> None:
    """R79: positive control: all kinds of responses occurred, and the upstream received the keys."""
    statuses = {answer.status for answer in collected.answers}
    assert {200, 400, 401, 403, 404, 405, 413, 415, 422, 502, 503, 504} <= statuses
    assert not {500} & statuses
    codes = {answer.json.get("code") for answer in collected.answers}
    assert {"run_failed", "rejected_by_provider", "upstream_credentials", "upstream_invalid_response"} <= codes
    raw = "".join(request.head.decode("latin-1") for request in collected.world.upstream.received)
    assert list(PROVIDER_KEYS.values()) == find_leaks(raw, ALL_SECRETS)
    assert sum(b"[redacted]" in answer.body for answer in collected.answers) > 50


async def test_no_answer_holds_a_secret(collected: CollectedOutput) -> None:
    """R79, R81: neither in headers nor in a body, in any encoding."""
    assert [] == [answer for answer in collected.answers if find_leaks(answer.raw.decode("latin-1"), ALL_SECRETS)]


async def test_no_log_entry_holds_a_secret(collected: CollectedOutput) -> None:
    """R79: at the level debug; standard error is empty."""
    gateway = collected.world.gateway
    assert len(gateway.logs("request")) > len(CASES)
    assert ([], "") == (find_leaks(gateway.stdout, ALL_SECRETS), gateway.stderr)


async def test_nothing_else_that_can_be_read_holds_a_secret(collected: CollectedOutput) -> None:
    """R79: metrics, schema, page, health, and process information of the system."""
    gateway = collected.world.gateway
    pages = [
        (gateway.ops_url, "/metrics"),
        *(
            (url, path)
            for url in (gateway.url, gateway.ops_url)
            for path in (
                "/openapi.json",
                "/docs",
                "/healthz",
                "/readyz",
                "/none",
            )
        ),
    ]
    read = [(await send_request(url, build_head("GET", path))).raw.decode("latin-1") for url, path in pages]
    assert b"runward" in (await send_request(gateway.ops_url, build_get("/metrics"))).body
    process = Path(f"/proc/{gateway.pid}")
    read += [process.joinpath("cmdline").read_text(), process.joinpath("comm").read_text()]
    assert [] == [text[:200] for text in read if find_leaks(text, ALL_SECRETS)]


@pytest.mark.parametrize("spelling", [name for name in ENCODINGS if "escaped" not in name])
@pytest.mark.parametrize("secret", ALL_SECRETS, ids=["promptlayer", "prompt_studio", "one", "two"])
async def test_the_search_finds_what_it_is_for(spelling: str, secret: str) -> None:
    """R79: positive control of the search. Redundant escapes are excluded, as the gateway never writes them."""
    quoted = ENCODINGS[spelling](secret).decode()
    for text in (quoted, f"one two {quoted} three", f'{{"a": "{quoted}"}}'):
        assert [secret] == find_leaks(text, ALL_SECRETS)
    assert [] == find_leaks(quoted[:-8], ALL_SECRETS) or "base64" in spelling or "trace" in spelling
