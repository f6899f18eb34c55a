"""Prices of replays: those of the configuration in use, by the names that runs were asked for by."""

from __future__ import annotations

import pytest

from gateway.runs.configured_prices import price_of_start
from gateway.settings import Settings

SETTINGS = Settings.model_validate(
    {
        "providers": {
            "studio": {"api_key": "sk-12345678", "price": 0.05},
            "layer": {"api_key": "sk-12345678"},
        },
        "workflows": {
            "triage": {
                "provider": "studio",
                "price": {"default": 0.04, "labels": {"prod": 0.06}, "versions": {3: 0.07}},
            },
            "pinned": {"provider": "studio", "label": "prod", "price": {"default": 1, "labels": {"prod": 2}}},
            "other": {"provider": "studio"},
            "free": {"provider": "layer", "price": 0},
            "unpriced": {"provider": "layer"},
        },
    }
)


@pytest.mark.parametrize(
    ("name", "label", "version", "micros"),
    [
        ("triage", None, None, 40_000),
        ("triage", "prod", None, 60_000),
        ("triage", None, 3, 70_000),
        ("pinned", None, None, 2_000_000),
        ("other", "prod", None, 50_000),
        ("studio/any name", None, None, 50_000),
        ("free", None, None, 0),
        ("unpriced", None, None, None),
        ("layer/any name", None, None, None),
        ("gone", None, None, None),
        ("gone/name", None, None, None),
    ],
)
def test_the_price_is_that_of_a_start_now(
    name: str, label: str | None, version: int | None, micros: int | None
) -> None:
    assert micros == price_of_start(SETTINGS, name, label, version)
