"""Harness of a shared gateway: its upstream, and its log since the start of the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from providers.contract import JsonValue
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS, gateway_config
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_started,
)
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.process import GatewayProcess, LogLine, start_gateway
from tests.support.raw_client import RawResponse, build_get, build_run, send_request

CANARIES = (*PROVIDER_SECRETS.values(), *CLIENT_KEYS.values())
"""Every secret in play."""


@dataclass(slots=True)
class GatewayHarness:
    """Gateway and fake upstream, which succeeds unless scripted otherwise."""

    gateway: GatewayProcess
    upstream: FakeUpstream
    log_position: int = 0  # bytes of its log when the test began

    @property
    def url(self) -> str:
        """The public port."""
        return self.gateway.url

    def reset(self) -> None:
        """Reset the state that earlier tests left."""
        self.upstream.received.clear()
        self.upstream._routes.clear()  # the fake is made for one test each
        self.upstream._queues.clear()
        self.log_position = self.gateway.stdout_size
        script_success(self.upstream)

    @property
    def log_output(self) -> str:
        """Log output since the start of the test."""
        return self.gateway.stdout_since(self.log_position)

    async def access_log(self, route: str, count: int = 1) -> list[LogLine]:
        """Return the access log entries of a route since the start of the test, once there are `count`."""
        async with asyncio.timeout(5):
            while True:
                logged = [json.loads(line) for line in self.log_output.rpartition("\n")[0].splitlines()]
                found = [line for line in logged if ("request", route) == (line["event"], line.get("route"))]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)

    async def assert_healthy(self) -> None:
        """Assert that the process runs and that the next request succeeds."""
        assert self.gateway.exit_code is None
        assert 200 == (await send_request(self.url, build_get("/healthz"))).status
        self.reset()
        assert 200 == (await send_request(self.url, build_run())).status

    @contextlib.contextmanager
    def memory_growth_below(self, size: int) -> Iterator[None]:
        """Assert that memory grows by less than `size` bytes within the block."""
        Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")  # forget the peak (proc(5))
        before = self.gateway.rss_bytes()
        yield
        assert self.gateway.peak_rss_bytes() - before < size


@contextlib.asynccontextmanager
async def running_gateway(
    directory: Path, env: Mapping[str, str] = PROVIDER_SECRETS, *, fork: bool = True, **overrides: JsonValue
) -> AsyncIterator[GatewayHarness]:
    """Run a gateway with the tests' configuration and these changes; its output is checked at the end.

    Without `fork` it has the command line that an operator uses.
    """
    async with FakeUpstream() as upstream:
        script_success(upstream)
        config = gateway_config(upstream.url, upstream.url, **overrides)
        gateway = await start_gateway(directory, config, env, fork=fork)
        try:
            yield GatewayHarness(gateway, upstream)
        finally:
            await gateway.stop()
            sys.stdout.write(gateway.stdout[-20_000:] + gateway.stderr)  # pytest shows it where a test failed
    assert ([], "") == (find_leaks(gateway.stdout, (*env.values(), *CLIENT_KEYS.values())), gateway.stderr)  # R79
    assert gateway.logs()  # R73: each line is JSON


def script_success(upstream: FakeUpstream) -> None:
    """Script successful responses of both providers."""
    upstream.default = prompt_studio_reply({"completion": "because"})
    upstream.always("POST", LAYER_RUN, promptlayer_started(787))
    upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))


def encodings_of(secret: str) -> set[str]:
    """Return the encodings of a secret: plain, JSON, URL-encoded, and base64 at each of the three offsets."""
    found = {
        secret,
        json.dumps(secret)[1:-1],
        quote(secret, safe=""),
        "".join(f"%{byte:02X}" for byte in secret.encode()),
    }
    for encode in (b64encode, urlsafe_b64encode):
        for offset in range(3):
            # The first and last digits depend on what stands beside it; those between do not.
            digits = encode(b"?" * offset + secret.encode()).decode().rstrip("=")
            found.add(digits[(offset * 8 + 5) // 6 : -1])
    return found


def find_leaks(text: str, canaries: Iterable[str] = CANARIES) -> list[str]:
    """Return the canaries in `text`, in any encoding (R79)."""
    return [canary for canary in canaries if any(spelling in text for spelling in encodings_of(canary))]


def assert_problem(reply: RawResponse, status: int, code: str) -> None:
    """Assert that the response is this problem in the right format, without a secret."""
    document = reply.json
    assert (status, status, code) == (reply.status, document["status"], document["code"])
    assert "application/problem+json" == reply.header("Content-Type")
    assert document["request_id"] == reply.header("X-Request-Id") != ""
    assert [] == find_leaks(reply.raw.decode("latin-1"))
