"""What a configuration comes to, and what of the one before it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.metrics import Metrics
from gateway.plan import Plan, draw
from gateway.settings import Settings, SettingsError
from tests.manual_clock import ManualClock

if TYPE_CHECKING:
    from providers.contract import JsonValue

A: dict[str, JsonValue] = {"adapter": "prompt_studio", "base_url": "http://127.0.0.1:1", "api_key": "first-secret-key"}
B: dict[str, JsonValue] = {"adapter": "promptlayer", "base_url": "https://b.example", "api_key": "second-secret-key"}


def plan(before: Plan | None = None, **sections: object) -> Plan:
    """Draw one for the providers `a` and `b`, unless told otherwise."""
    given = {"providers": {"a": A, "b": B}, **sections}
    return draw(Settings.model_validate(given), ManualClock(), Metrics(), before)


def test_the_first_plan_keeps_nothing() -> None:
    first = plan(workflows={"w": {"provider": "a"}}, clients={"c": {"workflows": ["*"], "limits": {"daily": 3}}})
    assert ({"a", "b"}, {}) == (set(first.doors), first.renewals)
    assert first.workflows["w"].provider.upstream is first.doors["a"]
    assert (3, {"a", "b"}) == (first.client_limits["c"].daily, set(first.provider_limits))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"api_key": "a-rotated-key"},
        {"connect_timeout": 9},
        {"limits": {"rate": "5/s"}},
    ],
)
def test_a_door_stays_where_it_leads_to_the_same_place(change: dict[str, JsonValue]) -> None:
    """R100: with its connections; what it becomes is built beside it, so that nothing has changed yet."""
    first = plan()
    second = plan(first, providers={"a": A | change, "b": B}, workflows={"w": {"provider": "a"}})
    assert (first.doors["a"], first.doors["b"]) == (second.doors["a"], second.doors["b"])
    assert {"a", "b"} == set(second.renewals)
    assert second.renewals["a"] is not second.doors["a"]
    assert second.workflows["w"].provider.upstream is first.doors["a"]


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "http://127.0.0.1:2"},
        {"adapter": "promptlayer"},
        {"dialect": "instructions"},
        {"max_response": "1kB"},
    ],
)
def test_another_place_has_another_door(change: dict[str, JsonValue]) -> None:
    """R100: runs that are there already must not be asked about elsewhere."""
    first = plan()
    second = plan(first, providers={"a": A | change, "b": B})
    assert first.doors["a"] is not second.doors["a"]
    assert second.providers["a"].upstream is second.doors["a"]
    assert (first.doors["b"], {"b"}) == (second.doors["b"], set(second.renewals))


def test_providers_come_and_go() -> None:
    first = plan(providers={"a": A})
    second = plan(first, providers={"b": B})
    assert ({"b"}, {}) == (set(second.doors), second.renewals)


@pytest.mark.parametrize(
    ("place", "sections"),
    [
        ("providers.a.adapter", {"providers": {"a": A | {"adapter": "nobody"}}}),
        ("providers.a.dialect", {"providers": {"a": A | {"dialect": "nobody"}}}),
        ("workflows.w", {"workflows": {"w": {"provider": "a", "label": "x"}}}),
        ("callbacks.secrets", {"callbacks": {"secrets": ["whsec_not-base64!"]}}),
    ],
)
def test_what_can_not_be_built_is_named(place: str, sections: dict[str, object]) -> None:
    """R100: before anything is put to use."""
    first = plan()
    with pytest.raises(SettingsError) as refused:
        plan(first, **sections)
    assert place == refused.value.places[0][0]
