"""Config snapshots, and reuse of provider clients."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gateway.app.snapshot import ConfigSnapshot, build_snapshot
from gateway.observability.metrics import Metrics
from gateway.passthrough_rules import PassthroughRule
from gateway.settings import Settings, SettingsError
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from providers.contract import JsonValue
from providers.promptlayer_passthrough_rules import SDK_CALLS

A: dict[str, JsonValue] = {"adapter": "prompt_studio", "base_url": "http://127.0.0.1:1", "api_key": "first-secret-key"}
B: dict[str, JsonValue] = {"adapter": "promptlayer", "base_url": "https://b.example", "api_key": "second-secret-key"}

PASSTHROUGH: dict[str, JsonValue] = {
    "workflows": ["*"],
    "passthrough": {"a": ["POST /log-request", "POST /v1/*", "GET /v1/workflows/*"]},
}


def snapshot_of(previous: ConfigSnapshot | None = None, **sections: object) -> ConfigSnapshot:
    """Build a snapshot, by default for the providers `a` and `b`."""
    given = {"providers": {"a": A, "b": B}, **sections}
    return build_snapshot(Settings.model_validate(given), ManualClock(), Metrics(), previous)


def test_the_first_snapshot_reuses_nothing() -> None:
    first = snapshot_of(workflows={"w": {"provider": "a"}}, clients={"c": {"workflows": ["*"], "limits": {"daily": 3}}})
    assert ({"a", "b"}, {}) == (set(first.upstreams), first.replacements)
    assert first.workflows["w"].provider.upstream is first.upstreams["a"]
    assert (3, {"a", "b"}) == (first.limits.clients["c"].daily, set(first.limits.providers))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"api_key": "a-rotated-key"},
        {"connect_timeout": 9},
        {"limits": {"rate": "5/s"}},
    ],
)
def test_a_provider_client_is_reused_for_the_same_address(change: dict[str, JsonValue]) -> None:
    """R100: with its connections; its replacement has no effect before the swap."""
    first = snapshot_of()
    second = snapshot_of(first, providers={"a": A | change, "b": B}, workflows={"w": {"provider": "a"}})
    assert (first.upstreams["a"], first.upstreams["b"]) == (second.upstreams["a"], second.upstreams["b"])
    assert {"a", "b"} == set(second.replacements)
    assert second.replacements["a"] is not second.upstreams["a"]
    assert second.workflows["w"].provider.upstream is first.upstreams["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "http://127.0.0.1:2"},
        {"adapter": "promptlayer"},
        {"dialect": "instructions"},
        {"max_response": "1kB"},
    ],
)
def test_another_address_has_another_provider_client(change: dict[str, JsonValue]) -> None:
    """R100: existing runs must not be polled at another address."""
    first = snapshot_of()
    second = snapshot_of(first, providers={"a": A | change, "b": B})
    assert first.upstreams["a"] is not second.upstreams["a"]
    assert second.providers["a"].upstream is second.upstreams["a"]
    assert (first.upstreams["b"], {"b"}) == (second.upstreams["b"], set(second.replacements))


def test_providers_share_their_trusted_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's CA certificates are loaded once for all providers, and again for the next configuration."""
    loaded = []

    def load(*, cafile: Path | None) -> ssl.SSLContext:
        loaded.append(cafile)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(ssl, "create_default_context", load)
    providers = {"b": B, "c": B | {"base_url": "https://c.example"}, "d": B | {"ca_file": __file__}}
    first = snapshot_of(providers=providers)
    assert [None, Path(__file__)] == loaded
    snapshot_of(first, providers=providers)
    assert [None, Path(__file__)] * 2 == loaded


def test_providers_can_be_added_and_removed() -> None:
    first = snapshot_of(providers={"a": A})
    second = snapshot_of(first, providers={"b": B})
    assert ({"b"}, {}) == (set(second.upstreams), second.replacements)


@pytest.mark.parametrize(
    ("place", "sections"),
    [
        ("providers.a.adapter", {"providers": {"a": A | {"adapter": "nobody"}}}),
        ("providers.a.dialect", {"providers": {"a": A | {"dialect": "nobody"}}}),
        ("providers.a.options", {"providers": {"a": A | {"options": {"user": "x"}}}}),
        ("workflows.w", {"workflows": {"w": {"provider": "a", "label": "x"}}}),
        ("workflows.w.version", {"providers": {"l": B}, "workflows": {"w": {"provider": "l", "version": "uuid-x"}}}),
        ("clients.c.passthrough.a[1]", {"clients": {"c": PASSTHROUGH}}),
        ("clients.c.passthrough.a[0]", {"clients": {"c": {"workflows": ["*"], "passthrough": {"a": "sdk"}}}}),
        ("callbacks.secrets", {"callbacks": {"secrets": ["whsec_MDEy"]}}),
    ],
)
def test_a_setting_that_cannot_be_built_is_named(place: str, sections: dict[str, object]) -> None:
    """R100: before any part of the snapshot is used."""
    first = snapshot_of()
    with pytest.raises(SettingsError) as refused:
        snapshot_of(first, **sections)
    assert place == refused.value.errors[0][0]


@pytest.mark.parametrize("listed", ["sdk", ["sdk"], ["GET /reports/*", "sdk"]])
def test_sdk_stands_for_the_calls_of_the_official_sdks(listed: JsonValue) -> None:
    clients = {"c": {"workflows": ["*"], "passthrough": {"l": listed}}}
    rules = snapshot_of(providers={"l": B}, clients=clients).passthrough_rules["c"]["l"]
    expected = [PassthroughRule.parse(text) for text in SDK_CALLS]
    assert expected == list(rules[-len(expected) :])
    assert len(rules) == len(expected) + (listed[0] == "GET /reports/*")  # type: ignore[index]
