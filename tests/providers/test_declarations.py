"""Optional declarations of an adapter: start patterns, dialects, options, request headers, releases."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from providers.contract import Adapter, JsonValue, KeyHeader
from providers.declarations import (
    InvalidOptions,
    StartPattern,
    UnknownDialect,
    accepts_release,
    build_adapter,
    request_headers_of,
    starts_of,
)
from providers.prompt_studio import PromptStudio
from providers.promptlayer import PromptLayer

STARTING = {
    "promptlayer": ["/workflows/x/run", "/workflows/a/b/run", "/workflows/x/run/", "//workflows/x/run",
                    "/workflows//x/run", "/WORKFLOWS/x/RUN", "/%77orkflows/x/run", "/workflows%2Fx%2Frun",
                    "/workflows;a=b/x/run;c", "/%2577orkflows/x/run"],
    "prompt_studio": ["/v1/workflows/dep_1/run", "/v1/workflows/dep_1", "/v1/workflows/", "/V1/Workflows/x/run",
                      "/api/v1/instructions/dep_1/run", "/api/v1/instructions/dep_1", "/api/v1/workflows/x/run",
                      "/v1/instructions/x/run"],
}  # fmt: skip
OTHER = {
    "promptlayer": ["/workflows", "/workflows/x", "/rest/workflows/x", "/log-request", "/run", "/v1/workflows/x/run"],
    "prompt_studio": ["/workflows/x/run", "/v1/traces", "/api/v1/deployments"],
}
ADAPTERS: dict[str, Adapter] = {"promptlayer": PromptLayer(), "prompt_studio": PromptStudio()}


def starts_run(provider: str, method: str, path: str) -> bool:
    return any(start.matches(method, path) for start in starts_of(ADAPTERS[provider]) or ())


@pytest.mark.parametrize(("provider", "path"), [(name, path) for name, paths in STARTING.items() for path in paths])
def test_a_path_that_starts_a_run_is_recognized_in_every_spelling(provider: str, path: str) -> None:
    assert [True] * 4 == [starts_run(provider, method, path) for method in ("POST", "PUT", "PATCH", "DELETE")]


@pytest.mark.parametrize(("provider", "path"), [(name, path) for name, paths in OTHER.items() for path in paths])
def test_other_paths_start_nothing(provider: str, path: str) -> None:
    assert not starts_run(provider, "POST", path)


@pytest.mark.parametrize(
    ("pattern", "method", "expected"),
    [
        ("* /hook/*", "GET", True),
        ("* /hook/*", "POST", True),
        ("GET /hook/*", "GET", True),
        ("GET /hook/*", "PUT", False),
    ],
)
def test_a_start_by_get_is_declared_as_such(pattern: str, method: str, *, expected: bool) -> None:
    """Webhooks of n8n start their workflow by any method."""
    assert expected == StartPattern.parse(pattern).matches(method, "/hook/orders")


@pytest.mark.parametrize(
    ("pattern", "prefix", "expected"),
    [
        ("* /hook/*", "/hook/", True),
        ("* /hook/*", "/hook/orders", True),
        ("* /hook/*", "/h", False),
        ("* /workflows/*/run", "/workflows/", False),
        ("GET /hook/*", "/h", True),
        ("POST /hook/*", "/hook/", False),
    ],
)
def test_a_get_prefix_beside_starts_of_every_method_is_accepted(pattern: str, prefix: str, *, expected: bool) -> None:
    """The starts among its paths are refused one by one, at run time."""
    assert expected == StartPattern.parse(pattern).matches_prefix("GET", prefix)


@pytest.mark.parametrize("text", ["", "POST", "/x", "post /x", "POST x", "POST /a b", "HEAD /x", "POST /ü"])
def test_a_start_pattern_is_a_method_and_a_path(text: str) -> None:
    with pytest.raises(ValueError, match="method and a path"):
        StartPattern.parse(text)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/w", True),
        ("/workflows/", True),
        ("/workflows/x/", True),
        ("/workflows/x/ru", True),
        ("/workflows/x/run", True),
        ("/Workflows/", True),
        ("/workflows%2F", True),
        ("/workflows;a", True),
        ("/rest/", False),
        ("/workflow-", False),
        ("/x/workflows/a/run", False),
    ],
)
def test_a_prefix_that_a_start_can_begin_with_is_recognized(prefix: str, *, expected: bool) -> None:
    assert expected == StartPattern.parse("POST /workflows/*/run").matches_prefix("POST", prefix)


@given(st.text("ab/*", max_size=8), st.text("ab/", max_size=12), st.integers(0, 12))
def test_every_prefix_of_a_matching_path_is_recognized(glob: str, path: str, length: int) -> None:
    start = StartPattern.parse(f"POST /{glob}")
    if start.matches("POST", f"/{path}"):
        assert start.matches_prefix("POST", f"/{path[:length]}")


class Options(BaseModel):
    """Options of `Configurable`."""

    user: str
    tries: int = 1


class Configurable:
    """Adapter with options; `parsed` records them."""

    options_schema: Any = Options
    dialects = ("v1", "v2")

    def __init__(self, dialect: str | None, options: object) -> None:
        self.dialect, self.parsed = dialect, options


def build(factory: Any, dialect: str | None = None, options: dict[str, JsonValue] | None = None) -> Any:
    return build_adapter(factory, dialect, options)


def test_options_are_parsed_by_the_adapters_model() -> None:
    built = build(Configurable, "v2", {"user": "runward"})
    assert ("v2", Options(user="runward")) == (built.dialect, built.parsed)


def test_options_are_parsed_by_a_callable() -> None:
    class Parsed(Configurable):
        options_schema = staticmethod(dict)

    assert {"a": 1} == build(Parsed, None, {"a": 1}).parsed


def test_invalid_options_are_named_without_their_values() -> None:
    with pytest.raises(InvalidOptions) as raised:
        build(Configurable, None, {"tries": "CANARY"})
    assert ["user", "tries"] == [location for location, _ in raised.value.errors]
    assert "CANARY" not in str(raised.value)


def test_a_callable_rejects_options_by_a_value_error() -> None:
    def reject(_: object) -> object:
        raise ValueError("user is required")

    class Rejecting(Configurable):
        options_schema = staticmethod(reject)

    with pytest.raises(InvalidOptions) as raised:
        build(Rejecting)
    assert (("", "user is required"),) == raised.value.errors


def test_options_of_an_adapter_without_any_are_rejected() -> None:
    with pytest.raises(InvalidOptions, match="has no options"):
        build(PromptLayer, None, {"user": "x"})


@pytest.mark.parametrize(("factory", "text"), [(Configurable, "there are: v1, v2"), (PromptLayer, "has no dialects")])
def test_an_undeclared_dialect_is_rejected(factory: object, text: str) -> None:
    with pytest.raises(UnknownDialect, match=text):
        build(factory, "v3", {"user": "x"} if factory is Configurable else None)


def declared(**attributes: object) -> Adapter:
    return cast("Adapter", SimpleNamespace(key_header=KeyHeader("X-Key"), supports_versions=False, **attributes))


def test_an_adapter_without_declarations_has_defaults() -> None:
    adapter = declared()
    assert None is starts_of(adapter)
    assert frozenset() == request_headers_of(adapter)
    assert accepts_release(adapter, None, None)
    assert not accepts_release(adapter, "production", None)


def test_request_headers_are_compared_in_lower_case() -> None:
    assert {"x-tenant-id", "idempotency-key"} == request_headers_of(
        declared(request_headers=("X-Tenant-Id", "Idempotency-Key"))
    )


@pytest.mark.parametrize(
    "name", ["Host", "Content-Length", "Transfer-Encoding", "Authorization", "Cookie", "X-Forwarded-For", "X-KEY",
             "X-HTTP-Method-Override", "Proxy-Authorization", "traceparent", "bad name", "a:b", ""]
)  # fmt: skip
def test_headers_of_the_gateway_cannot_be_set_by_an_adapter(name: str) -> None:
    with pytest.raises(ValueError, match="may not set the header"):
        request_headers_of(declared(request_headers=(name,)))


@pytest.mark.parametrize(
    ("kinds", "label", "version", "expected"),
    [
        (("label", "number"), "prod", None, True),
        (("label", "number"), None, 3, True),
        (("label", "number"), None, "6f9f-uuid", False),
        (("text",), None, "6f9f-uuid", True),
        (("text",), None, 3, False),
        (("text",), "prod", None, False),
        ((), None, None, True),
    ],
)
def test_a_release_is_accepted_by_its_kind(
    kinds: tuple[str, ...], label: str | None, version: int | str | None, *, expected: bool
) -> None:
    assert expected == accepts_release(declared(releases=kinds), label, version)
