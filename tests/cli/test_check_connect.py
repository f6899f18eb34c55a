"""`runward check --connect`: reachability and credentials of providers, store and certificates."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from tests.app.tls_harness import HOST, TestAuthority
from tests.support.configuration import PROVIDER_SECRETS, gateway_config, merged
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream, closed_port
from tests.support.gateway_restarts import CALLBACK_SECRETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from providers.contract import JsonValue
    from tests.cli.conftest import CommandResult, RunCommand

KEY_CHECK = "/workflows"


class ThreadedUpstream:
    """Fake upstream in a separate thread, because commands run their own event loop."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeUpstream:
        self._thread.start()
        assert self._started.wait(30)
        return self.upstream

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)

    def _serve(self) -> None:
        async def run() -> None:
            async with FakeUpstream(tls=self._tls) as self.upstream:
                self._started.set()
                await self._stopped.wait()

        self._loop.run_until_complete(run())
        self._loop.close()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with ThreadedUpstream() as running:
        running.default = reply(200, {"items": []})
        yield running


@pytest.fixture
def check(runward: RunCommand, tmp_path: Path) -> Callable[..., CommandResult]:
    """Run `check --connect --json` on the tests' configuration."""

    def run(url: str, *words: str, **overrides: JsonValue) -> CommandResult:
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(merged(gateway_config(url, url), overrides)))
        return runward("check", str(path), "--connect", *words, **PROVIDER_SECRETS, **CALLBACK_SECRETS)

    return run


def results(result: CommandResult) -> dict[tuple[str, str], str]:
    """Status by subject and check."""
    return {(check["subject"], check["check"]): check["status"] for check in json.loads(result.out)["checks"]}


def test_a_working_configuration_passes(check: Callable[..., CommandResult], upstream: FakeUpstream) -> None:
    """A free call tests the key; no run is started."""
    secrets: dict[str, JsonValue] = {"secrets": [{"env": "RUNWARD_CALLBACK_SECRET"}]}
    result = check(upstream.url, "--json", callbacks=secrets)
    assert {
        ("providers.promptlayer.base_url", "dns"): "ok",
        ("providers.promptlayer.base_url", "connect"): "ok",
        ("providers.promptlayer.api_key", "key"): "ok",
        ("providers.prompt_studio.base_url", "dns"): "ok",
        ("providers.prompt_studio.base_url", "connect"): "ok",
        ("providers.prompt_studio.api_key", "key"): "skipped",
        ("store", "durability"): "warning",
        ("callbacks.secrets", "secret"): "ok",
    } == results(result)
    assert json.loads(result.out)["ok"] is True
    assert 0 == result.code
    assert [("GET", KEY_CHECK)] == [(request.method, request.path) for request in upstream.requests()]


def test_a_key_that_the_provider_refuses_fails(check: Callable[..., CommandResult], upstream: FakeUpstream) -> None:
    """Exit code 1; the key is not shown."""
    upstream.default = reply(401, {"success": False, "message": PROVIDER_SECRETS["PROMPTLAYER_API_KEY"]})
    result = check(upstream.url, "--json")
    assert 1 == result.code
    assert "failed" == results(result)["providers.promptlayer.api_key", "key"]
    assert json.loads(result.out)["ok"] is False
    assert [] == [name for name, secret in PROVIDER_SECRETS.items() if secret in result.out + result.err]


def test_an_unreachable_provider_fails(check: Callable[..., CommandResult]) -> None:
    with closed_port() as url:
        result = check(url, "--json")
    assert 1 == result.code
    found = results(result)
    assert "failed" == found["providers.promptlayer.base_url", "connect"]
    assert "skipped" == found["providers.promptlayer.api_key", "key"]


def test_a_host_that_does_not_resolve_fails(check: Callable[..., CommandResult]) -> None:
    result = check("https://nothing.invalid", "--json")
    assert 1 == result.code
    assert "failed" == results(result)["providers.promptlayer.base_url", "dns"]


def test_a_certificate_of_an_unknown_authority_fails(check: Callable[..., CommandResult], tmp_path: Path) -> None:
    """With the authority in ca_file the check passes and shows the certificate's remaining days."""
    authority = TestAuthority.create(tmp_path)
    pem, key = authority.issue("server", HOST)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    with ThreadedUpstream(context) as upstream:
        upstream.default = reply(200, {})
        untrusted = check(upstream.url, "--json")
        ca_file: JsonValue = {"ca_file": str(authority.ca_file)}
        trusted = check(upstream.url, "--json", providers={"promptlayer": ca_file, "prompt_studio": ca_file})
    assert (1, "failed") == (untrusted.code, results(untrusted)["providers.promptlayer.base_url", "tls"])
    assert (0, "ok") == (trusted.code, results(trusted)["providers.promptlayer.base_url", "tls"])
    assert "certificate valid for" in trusted.out


def test_an_issuer_is_asked_for_its_keys(check: Callable[..., CommandResult], upstream: FakeUpstream) -> None:
    """Through its discovery document, which must be its own."""
    issuer: JsonValue = {"test": {"url": upstream.url}}
    key = {"kid": "a", **ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)}
    upstream.always("GET", "/keys", reply(200, {"keys": [key, {"kty": "oct"}]}))
    upstream.always(
        "GET",
        "/.well-known/openid-configuration",
        reply(200, {"issuer": upstream.url, "jwks_uri": f"{upstream.url}/keys"}),
    )
    found = check(upstream.url, "--json", issuers=issuer)
    assert (0, "ok") == (found.code, results(found)["issuers.test", "keys"])
    assert "keys that verify tokens: 1, others: 1" in found.out
    upstream.always("GET", "/.well-known/openid-configuration", reply(200, {"issuer": "https://other.example"}))
    found = check(upstream.url, "--json", issuers=issuer)
    assert (1, "failed") == (found.code, results(found)["issuers.test", "keys"])
    with closed_port() as url:
        found = check(upstream.url, "--json", issuers={"test": {"url": url}})
    assert "failed" == results(found)["issuers.test.url", "connect"]
    assert "skipped" == results(found)["issuers.test", "keys"]


def test_a_store_that_does_not_answer_fails(check: Callable[..., CommandResult], upstream: FakeUpstream) -> None:
    with closed_port() as url:
        result = check(upstream.url, "--json", store={"url": url.replace("http", "redis")})
    assert (1, "failed") == (result.code, results(result)["store", "connect"])


def test_a_store_file_is_neither_opened_nor_made(
    check: Callable[..., CommandResult], upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A running gateway of the previous version may be using it."""
    file = tmp_path / "new" / "runward.db"
    result = check(upstream.url, "--json", store={"url": f"sqlite:///{file}"})
    assert "ok" == results(result)["store", "durability"]
    assert not file.parent.exists()


def test_results_are_a_table_without_json(check: Callable[..., CommandResult], upstream: FakeUpstream) -> None:
    upstream.default = reply(403, {})
    result = check(upstream.url)
    assert 1 == result.code
    [row] = [line for line in result.out.splitlines() if "providers.promptlayer.api_key" in line]
    assert ["providers.promptlayer.api_key", "key", "failed"] == row.split()[:3]
    assert "valid:" not in result.out


def test_without_connect_nothing_is_called(runward: RunCommand, upstream: FakeUpstream, tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(gateway_config(upstream.url, upstream.url)))
    result = runward("check", str(path), "--json", **PROVIDER_SECRETS)
    assert (0, []) == (result.code, json.loads(result.out)["checks"])
    assert [] == upstream.requests()
