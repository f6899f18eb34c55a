"""No secret is ever seen, whatever a hostile upstream and careless clients do with it (R79)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from providers.contract import JsonValue
from tests.configuration import KEYS, SECRETS
from tests.edge.hostile import CASES, SPELLINGS, hostile
from tests.edge.raw import Reply, ask, get, head, post
from tests.edge.requests import posting, refusals
from tests.edge.world import World, leaks, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

# With every character that some encoder writes in another way.
PROVIDER_KEYS = {name: f'k/{secrets.token_hex(8)}+"&<\\=%{secrets.token_urlsafe(9)}==' for name in SECRETS}
ALL = (*PROVIDER_KEYS.values(), *KEYS.values())


@dataclass(frozen=True, slots=True)
class Aftermath:
    """A gateway that has seen everything, and what it answered."""

    world: World
    answers: list[Reply]


def runs() -> list[bytes]:
    """Every case at Prompt Studio, at the start of a PromptLayer run and at its polls."""
    asked: list[tuple[str, JsonValue]] = [("studio", {"garbage": 1}), ("layer", {"garbage": 1})]
    for number in range(len(CASES)):
        asked += [("studio", {"now": number}), ("layer", {"now": number}), ("layer", {"later": number})]
    body: dict[str, JsonValue] = {"return_all_outputs": True, "timeout": 0.3}
    return [posting({"workflow": workflow, "input": given, **body}) for workflow, given in asked]


def carelessness() -> list[bytes]:
    """Refusals of all kinds, and keys of clients where they do not belong."""
    found = [data for data, _, _ in refusals().values()]
    for key in KEYS.values():
        found += [
            head("GET", f"/run?key={key}"), head("GET", f"/{key}"), head("GET", "/healthz", {"User-Agent": key}),
            head("POST", "/run", {"Content-Type": key, "Content-Length": "0"}),
            post(headers={"Authorization": f"Basic {key}"}, client=None),
            post(headers={"Authorization": f"Bearer {key}x"}, client=None),
            post(headers={"X-API-KEY": f"{key}, {key}"}, client=None),
            post(headers={"Cookie": key, "Referer": f"http://{key}/", "X-Forwarded-For": key, "Prefer": key}),
            post(headers={"Idempotency-Key": key}), post(headers={"Content-Encoding": key}),
            post(headers={"Authorization": f"Bearer {key}\0"}, client=None), post(headers={"X-API-KEY ": key}),
            post(key.encode()), posting({"workflow": key}), posting({"workflow": "studio", "timeout": key}),
            posting({"workflow": "studio", "version": key}), posting({"workflow": "studio", "callback_url": key}),
            posting({"workflow": "studio", "metadata": {"a": [key]}}), f"{key}\r\n\r\n".encode(),
        ]  # fmt: skip
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def aftermath(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Aftermath]:
    """Send all of it, at the log level debug."""
    overrides: dict[str, JsonValue] = {"breaker": {"failures": 1_000_000}, "clients": {"two": {"workflows": ["layer"]}}}
    async with serving(tmp_path_factory.mktemp("canaries"), PROVIDER_KEYS, **overrides) as world:
        world.upstream.route(lambda _: True, hostile)
        sent = [*runs(), *carelessness()]
        answers = []
        for first in range(0, len(sent), 50):
            asked = enumerate(sent[first : first + 50])
            answers += await asyncio.gather(*(ask(world.url, data, f"127.0.8.{n + 1}") for n, data in asked))
        yield Aftermath(world, answers)


async def test_the_suite_did_what_it_should(aftermath: Aftermath) -> None:
    """R79: or the tests below would say nothing: all sorts of answers, and the upstream saw the keys."""
    statuses = {answer.status for answer in aftermath.answers}
    assert {200, 400, 401, 403, 404, 405, 413, 415, 422, 502, 503, 504} <= statuses
    assert not {500} & statuses
    codes = {answer.json.get("code") for answer in aftermath.answers}
    assert {"run_failed", "rejected_by_provider", "upstream_credentials", "upstream_invalid_response"} <= codes
    raw = "".join(request.head.decode("latin-1") for request in aftermath.world.upstream.log)
    assert list(PROVIDER_KEYS.values()) == leaks(raw, ALL)
    assert sum(b"[redacted]" in answer.body for answer in aftermath.answers) > 50


async def test_no_answer_holds_a_secret(aftermath: Aftermath) -> None:
    """R79, R81: neither its headers nor its body, in whatever spelling."""
    assert [] == [answer for answer in aftermath.answers if leaks(answer.raw.decode("latin-1"), ALL)]


async def test_no_log_line_holds_a_secret(aftermath: Aftermath) -> None:
    """R79: at the level debug; standard error is empty."""
    gateway = aftermath.world.gateway
    assert len(gateway.logs("request")) > len(CASES)
    assert ([], "") == (leaks(gateway.stdout, ALL), gateway.stderr)


async def test_nothing_else_that_can_be_read_holds_a_secret(aftermath: Aftermath) -> None:
    """R79: metrics, the schema, the page, health, and what the system shows of the process."""
    gateway = aftermath.world.gateway
    pages = [(gateway.ops_url, "/metrics"), *((url, path) for url in (gateway.url, gateway.ops_url) for path in (
        "/openapi.json", "/docs", "/healthz", "/readyz", "/none",
    ))]  # fmt: skip
    read = [(await ask(url, head("GET", path))).raw.decode("latin-1") for url, path in pages]
    assert b"runward" in (await ask(gateway.ops_url, get("/metrics"))).body
    process = Path(f"/proc/{gateway.pid}")
    read += [process.joinpath("cmdline").read_text(), process.joinpath("comm").read_text()]
    assert [] == [text[:200] for text in read if leaks(text, ALL)]


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if "escaped" not in name])
@pytest.mark.parametrize("secret", ALL, ids=["promptlayer", "prompt_studio", "one", "two"])
async def test_the_search_finds_what_it_is_for(spelling: str, secret: str) -> None:
    """R79: a search that finds nothing proves nothing. Needless escapes are left out: nothing of ours writes them."""
    quoted = SPELLINGS[spelling](secret).decode()
    for text in (quoted, f"one two {quoted} three", f'{{"a": "{quoted}"}}'):
        assert [secret] == leaks(text, ALL)
    assert [] == leaks(quoted[:-8], ALL) or "base64" in spelling or "trace" in spelling
