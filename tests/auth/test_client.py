"""Scope of a client: patterns over aliases, and over the provider's own names (R78)."""

from __future__ import annotations

import pytest

from gateway.auth.client import Client


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
