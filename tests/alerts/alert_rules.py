"""Parsed rules of config/prometheus-rules.yaml, and an accelerated copy (one second per minute)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import yaml

from tests.support.process import ROOT

RULES = ROOT / "config" / "prometheus-rules.yaml"
PAGE = ROOT / "docs" / "alerts.md"
UNIT_TESTS = ROOT / "tests" / "alerts" / "rules_test.yaml"

_MINUTES = re.compile(r"\b(\d+)m\b")  # not within a name such as runward:runs:increase10m


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `duration` is its `for`, "0m" where it has none; an alert has a severity, a recorded series has none.

    `labels`: those that a recording rule sets.
    """

    name: str
    expr: str
    duration: str = "0m"
    severity: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@cache
def document() -> dict[str, Any]:
    """Return the parsed file."""
    loaded = yaml.load(RULES.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    assert isinstance(loaded, dict)
    return loaded


def recorded() -> list[Rule]:
    """Return the recording rules."""
    return [Rule(raw["record"], raw["expr"], labels=raw.get("labels", {})) for raw in _raw() if "record" in raw]


def alerts() -> list[Rule]:
    """Return the alerting rules, in the order of the file."""
    return [
        Rule(raw["alert"], raw["expr"], raw.get("for", "0m"), raw["labels"]["severity"], raw["annotations"])
        for raw in _raw()
        if "alert" in raw
    ]


def accelerated() -> str:
    """Return the file with every minute (windows, offsets, `for`) reduced to a second; all else is unchanged.

    All durations in the file are whole minutes, so an alert that needs ten minutes of a fault needs ten seconds then.
    """
    groups = [{**group, "rules": [_accelerate(raw) for raw in group["rules"]]} for group in document()["groups"]]
    return yaml.safe_dump({"groups": groups}, sort_keys=False)


def in_seconds(text: str) -> str:
    """Return the expression or duration with every minute reduced to a second."""
    return _MINUTES.sub(r"\1s", text)


def _accelerate(raw: dict[str, Any]) -> dict[str, Any]:
    return raw | {key: in_seconds(raw[key]) for key in ("expr", "for") if key in raw}


def _raw() -> list[dict[str, Any]]:
    return [rule for group in document()["groups"] for rule in group["rules"]]
