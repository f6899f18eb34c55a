"""Every call of the official SDKs that is no run, unmodified, with `passthrough: {promptlayer: sdk}`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import promptlayer
import pytest

from gateway.passthrough_rules import PassthroughRule, normalize_path
from providers.contract import JsonValue
from providers.declarations import starts_of
from providers.promptlayer import PromptLayer
from providers.promptlayer_passthrough_rules import SDK_CALLS
from tests.conftest import StartGateway
from tests.sdk.official_sdks import JAVASCRIPT, NODE_MODULES, OLDER_SDK_PATH, PYTHON, OfficialSdk, require_sdk
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.fake_upstream.connection import UpstreamConnection
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream

pytestmark = pytest.mark.shared_gateway

SDKS = (PYTHON[0], PYTHON[2], JAVASCRIPT)
RULES = [PassthroughRule.parse(text) for text in SDK_CALLS]
MODEL: JsonValue = {"provider": "openai", "name": "gpt-4o", "parameters": {}, "api_type": "chat-completions"}
CHAT: JsonValue = {"type": "chat", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}
TEMPLATE: JsonValue = {
    "id": 1, "prompt_name": "p", "version": 1, "prompt_template": CHAT, "metadata": {"model": MODEL},
    "llm_kwargs": {"model": "gpt-4o", "messages": []}, "provider_base_url": None, "custom_provider": None,
}  # fmt: skip
ANYTHING: JsonValue = {
    "success": True, "id": 1, "request_id": 5, "items": [], "has_next": False, "next_cursor": None,
    "skill_collection": {"id": 1}, "table": {"id": "t"}, "files": {}, "version": 1,
}  # fmt: skip
CREATED = re.compile(r"POST /(log-request|rest/prompt-templates|api/public/v2/(tables|skill-collections).*)").fullmatch
SERVED = re.compile(r"/(workflows(/.*)?|workflow-version-execution-results|ws-token-request-library)").fullmatch
UNUSED = {"/library-get-prompt-template", "/library-publish-prompt-template"}  # of functions that nothing calls
_SECONDS = 60.0


async def answer(connection: UpstreamConnection) -> None:
    """Answer as PromptLayer does, as far as the SDKs look at it."""
    request = connection.request
    assert request is not None
    status = 201 if CREATED(f"{request.method} {request.path}") else 200
    if "/recalculat" in request.path or request.path.endswith("/score"):
        status = 202 if request.method == "POST" else 200
    if request.path.startswith("/prompt-templates/"):
        await reply(200, TEMPLATE)(connection)
    elif request.path == "/v1/traces":
        await reply(200, b"", {})(connection)
    else:
        await reply(status, ANYTHING)(connection)


async def make_all_calls(sdk: OfficialSdk, url: str) -> dict[str, Any]:
    """Make every call in a process; return the calls and the errors."""
    require_sdk(sdk)
    command, env = sdk.command()
    driver = Path(command[-1])
    command[-1] = str(driver.with_name("passthrough_driver" + driver.suffix))
    settings = {"PROMPTLAYER_BASE_URL": url, "PROMPTLAYER_API_KEY": CLIENT_KEYS["one"], "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        *command, env={**env, **settings}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_SECONDS):
            stdout, stderr = await process.communicate()
    except BaseException:
        process.kill()
        await process.communicate()
        raise
    assert 0 == process.returncode, stderr.decode()[-2000:]
    made: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return made


@pytest.mark.parametrize("sdk", SDKS, ids=lambda sdk: sdk.name)
async def test_every_call_goes_through(gateway: StartGateway, upstream: FakeUpstream, sdk: OfficialSdk) -> None:
    """No call raises; each request arrives with the provider's key, and never with the gateway's."""
    upstream.default = answer
    running = await gateway(None, PROVIDER_SECRETS, clients={"one": {"passthrough": {"promptlayer": "sdk"}}})
    made = await make_all_calls(sdk, running.url)
    assert {} == made["errors"]
    assert len(made["calls"]) <= len(upstream.received)
    for request in upstream.received:
        assert any(rule.matches(request.method, str(normalize_path(request.path))) for rule in RULES), request.target
        assert PROVIDER_SECRETS["PROMPTLAYER_API_KEY"] == request.header("X-API-KEY")
        assert CLIENT_KEYS["one"].encode() not in request.head + request.body
    seen = {(request.method, request.path) for request in upstream.received}
    tracing = "/v1/traces" if sdk is PYTHON[0] else "/spans-bulk"
    assert {("POST", "/track-request"), ("GET", "/prompt-templates"), ("POST", tracing)} <= seen
    if sdk is PYTHON[0]:
        earlier = {"POST /spans-bulk"}
        assert [] == [
            text
            for text, rule in zip(SDK_CALLS, RULES, strict=True)
            if text not in earlier and not any(rule.matches(method, str(normalize_path(path))) for method, path in seen)
        ]


@cache
def paths_in_sources() -> frozenset[str]:
    """Return every path below the base URL that the sources of the SDKs name; a variable part is "x"."""
    return frozenset(re.sub(r"\{[^{}]*\}", "x", path).partition("?")[0] for path in _raw_paths())


def _raw_paths() -> Iterator[str]:
    for folder in (Path(promptlayer.__file__).parent, OLDER_SDK_PATH / "promptlayer"):
        for file in folder.rglob("*.py"):
            yield from re.findall(r'"\{(?:normalized_)?(?:base_url|root)\}(/[^"]*)"', file.read_text())
    source_map = NODE_MODULES / "promptlayer" / "dist" / "index.js.map"
    if source_map.exists():
        for source in json.loads(source_map.read_text())["sourcesContent"]:
            yield from (path.replace("$", "") for path in re.findall(r"\$\{(?:\w+\.)*baseURL\}(/[^`]*)`", source))


def test_the_list_has_every_path_of_the_sources() -> None:
    """A path of a newer SDK has to be added to the list, or served."""
    paths = {path for path in paths_in_sources() if not SERVED(path)} - UNUSED - {"/connection/websocket"}
    assert {"/track-request", "/prompt-templates/x", "/spans-bulk", "/v1/traces"} <= paths
    methods = ("GET", "POST", "PATCH", "DELETE")
    assert set() == {path for path in paths if not any(r.matches(m, path) for r in RULES for m in methods)}


def test_nothing_in_the_list_starts_a_run() -> None:
    starts = starts_of(PromptLayer()) or ()
    assert [] == [text for text, rule in zip(SDK_CALLS, RULES, strict=True) if rule.can_start_run(starts)]
