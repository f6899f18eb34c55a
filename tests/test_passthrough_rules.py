"""Passthrough rules, and normalization of paths before comparison."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.passthrough_rules import RULE_PATTERN, PassthroughRule, normalize_path
from providers.declarations import StartPattern


@pytest.mark.parametrize(
    "text",
    [
        "POST /log-request",
        "GET /prompt-templates/*",
        "POST /rest/track-*",
        "GET /workflows",
        "PATCH /rest/workflows/*",
        "DELETE /rest/a%2Fb",
        "PUT /x",
        "GET /workflows/*",
        "POST /workflow-labels",
        "POST /v1/traces",
    ],
)
def test_valid_rules_are_accepted(text: str) -> None:
    rule = PassthroughRule.parse(text)
    assert text == f"{rule.method} {rule.path}{'*' * rule.is_prefix}"
    assert re.fullmatch(RULE_PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "POST",
        "/log-request",
        "post /log-request",
        "POST log-request",
        "POST  /x",
        "POST /x ",
        " POST /x",
        "POST /",
        "HEAD /x",
        "OPTIONS /x",
        "CONNECT /x",
        "TRACE /x",
        "* /x",
        "POST /*",
        "POST *",
        "POST /a*b",
        "POST /a**",
        "POST //x",
        "POST /a//b",
        "POST /../x",
        "POST /a/./b",
        "POST /a/..",
        "POST /%2e%2e/x",
        "POST /a%2f..%2fb",
        "POST /a?b=c",
        "POST /a#b",
        "POST http://example.com/x",
        "POST /a b",
        "POST /a\r\nb",
        "POST /a\\b",
        "POST /a%5cb",
        "POST /%zz",
        "POST /%00",
        "POST /ü",
        "POST /%41",
        "POST /x%2f",
        "GET /x\n",
    ],
)
def test_a_rule_without_method_and_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a"):
        PassthroughRule.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("POST /workflows/x/run", True),
        ("POST /workflows/*", True),
        ("PUT /w*", True),
        ("GET /workflows/*", False),
        ("POST /workflows/x", False),
        ("POST /workflow-labels", False),
        ("POST /rest/workflows/*", False),
    ],
)
def test_a_rule_can_start_a_run_as_its_providers_start_patterns_say(text: str, *, expected: bool) -> None:
    starts = [StartPattern.parse("POST /workflows/*/run")]
    assert expected == PassthroughRule.parse(text).can_start_run(starts)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/log-request", "/log-request"),
        ("//log-request", "/log-request"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%20b", "/a%20b"),
        ("/%6Cog-request", "/log-request"),
        ("/a%2Db", "/a-b"),
        ("/%C3%BC", "/%C3%BC"),
        ("/a/", "/a/"),
    ],
)
def test_a_path_is_normalized(path: str, expected: str) -> None:
    assert expected == normalize_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a//b",
        "/..",
        "/a/../b",
        "/a/./b",
        "/%2e%2e/a",
        "/a/%2E%2E%2Fb",
        "/a%2f..%2fb",
        "/.%2e/a",
        "/%252e%252e/a",
        "/a\\..\\b",
        "/a%5c..%5cb",
        "/a%5Cb",
        "/%00",
        "/a%0d%0ab",
        "/a%7F",
        "/%",
        "/%2",
        "/%zz",
        "/a b",
        "/ü",
        "/\udcff",
        "/a?b",
        "/a%250d",
        "/a/..;/b",
        "/a/..;x=1/workflows/b/run",
        "/a/.;/b",
        "/a/..%3b/b",
        "/a/%2e%2e%3B/b",
        "/a/%252e%252e%253b/b",
        "/a/%c0%ae%c0%ae/b",
        "/a%ff",
    ],
)
def test_an_ambiguous_path_is_refused(path: str) -> None:
    assert None is normalize_path(path)


@given(st.text("/ab.%25eEfF\\;", max_size=20))
def test_a_normalized_path_is_unchanged(path: str) -> None:
    """It never has a dot segment, after any number of decodings."""
    found = normalize_path(path)
    if found is not None:
        assert found == normalize_path(found)
        assert found.startswith("/")
        assert not {".", ".."} & set(found.split("/"))


@pytest.mark.parametrize(
    ("text", "method", "path", "expected"),
    [
        ("POST /log-request", "POST", "/log-request", True),
        ("POST /log-request", "GET", "/log-request", False),
        ("POST /log-request", "POST", "/log-request/", False),
        ("POST /log-request", "POST", "/log-request2", False),
        ("POST /log-request", "POST", "/Log-Request", False),
        ("GET /prompt-templates/*", "GET", "/prompt-templates/a", True),
        ("GET /prompt-templates/*", "GET", "/prompt-templates/a/b", True),
        ("GET /prompt-templates/*", "GET", "/prompt-templates/a%2Fb", True),
        ("GET /prompt-templates/*", "GET", "/prompt-templates/", False),
        ("GET /prompt-templates/*", "GET", "/prompt-templates", False),
        ("POST /rest/track-*", "POST", "/rest/track-score", True),
        ("POST /rest/track-*", "POST", "/rest/other", False),
    ],
)
def test_a_rule_matches_its_requests(text: str, method: str, path: str, *, expected: bool) -> None:
    assert expected == PassthroughRule.parse(text).matches(method, path)
