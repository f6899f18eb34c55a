"""Scope of a client: patterns over aliases, and over the provider's own names (R78)."""

from __future__ import annotations

import pytest

from gateway.auth.client import Client
from gateway.limits.config import ClientLimitsConfig, KeyLimits


@pytest.mark.parametrize(
    ("patterns", "alias", "may"),
    [
        ((), "triage", False),
        (("triage",), "triage", True),
        (("triage",), "triage-2", False),
        (("support-*",), "support-triage", True),
        (("support-*",), "Support-triage", False),
        (("support-*",), "my-support-x", False),
        (("a", "support-?"), "support-1", True),
        (("[ab]*",), "beta", True),
        (("*",), "anything at all", True),
        (("*",), "two\nlines", True),
        (("promptlayer/*",), "promptlayer", False),
        (("a.c",), "abc", False),
    ],
)
def test_an_alias_is_allowed_if_a_pattern_matches(patterns: tuple[str, ...], alias: str, *, may: bool) -> None:
    assert may is Client("checkout", patterns).may_run(alias)


@pytest.mark.parametrize(
    ("patterns", "provider", "name", "may"),
    [
        (("*",), "promptlayer", "triage", False),
        (("promptlayer/*",), "promptlayer", "triage", True),
        (("promptlayer/*",), "promptlayer", "team/triage", True),
        (("promptlayer/team/*",), "promptlayer", "team/triage", True),
        (("promptlayer/team/*",), "promptlayer", "other/triage", False),
        (("promptlayer/*",), "prompt_studio", "triage", False),
        (("prompt*/x",), "prompt_studio", "x", True),
        (("*/x",), "promptlayer", "y/x", False),
        (("x", "promptlayer/A"), "promptlayer", "a", False),
    ],
)
def test_a_providers_own_name_needs_a_pattern_with_the_provider(
    patterns: tuple[str, ...], provider: str, name: str, *, may: bool
) -> None:
    assert may is Client("checkout", patterns).may_run_direct(provider, name)


def test_clients_with_the_same_settings_are_equal() -> None:
    assert Client("checkout", ("a",)) == Client("checkout", ("a",))
    assert "_alias_pattern" not in repr(Client("checkout", ("a",)))


def test_a_key_allows_what_the_client_and_the_key_both_allow() -> None:
    client = Client("checkout", ("support-*", "triage", "promptlayer/team/*"))
    limits = ClientLimitsConfig(concurrency=1)
    key = client.narrowed("key_1", ("support-eu", "other", "promptlayer/*"), limits)
    assert ("checkout", "key_1", KeyLimits("key_1", limits)) == (key.name, key.key_id, key.key_limits)
    allowed = {alias for alias in ("support-eu", "support-us", "triage", "other") if key.may_run(alias)}
    assert {"support-eu"} == allowed
    assert key.may_run_direct("promptlayer", "team/x")
    assert not key.may_run_direct("promptlayer", "x")
    assert not key.may_pass_through


def test_a_key_without_a_scope_has_that_of_its_client() -> None:
    key = Client("checkout", ("support-*",)).narrowed("key_1", (), None)
    assert key.may_run("support-eu")
    assert not key.may_run("triage")
    assert key.may_pass_through
    assert None is Client("checkout").key_id
