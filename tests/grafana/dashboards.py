"""Dashboards of config/grafana: their panels, queries and links."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.process import ROOT

FOLDER = ROOT / "config" / "grafana"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
_RATE = re.compile(r"\b(?:rate|increase)\(([^()]*\})\[[^\]]+\]\)")


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel, as in the file."""

    dashboard: str
    panel: str
    expr: str

    def filled_in(self, variables: Mapping[str, str]) -> str:
        """Return the expression with its variables replaced as Grafana does it."""
        expr = self.expr
        for name, value in variables.items():
            expr = expr.replace(f"${name}", value)
        assert "$" not in expr, expr
        return expr

    def totals(self, variables: Mapping[str, str]) -> str:
        """Return the expression over what the counters counted in all, instead of how they grew."""
        return _RATE.sub(r"\1", self.filled_in(variables))


@cache
def load(name: str) -> dict[str, Any]:
    """Return a dashboard."""
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return document


def queries() -> Iterator[Query]:
    """Yield every query of every dashboard, annotations included."""
    for name in NAMES:
        for panel in load(name)["panels"]:
            for target in panel.get("targets", ()):
                yield Query(name, panel["title"], target["expr"])
        for annotation in load(name)["annotations"]["list"]:
            yield Query(name, f"annotation {annotation['name']}", annotation["expr"])


def query(dashboard: str, panel: str) -> Query:
    """Return the first query of a panel."""
    return next(each for each in queries() if (each.dashboard, each.panel) == (dashboard, panel))


def links(name: str) -> list[str]:
    """Return the URLs of all links of a dashboard and its panels."""
    panels = load(name)["panels"]
    found = [*load(name)["links"], *(link for panel in panels for link in panel.get("links", ()))]
    return [link["url"] for link in found if link["type"] == "link"]


def generated() -> dict[Path, str]:
    """Return the text of every dashboard as the code makes it, by path."""
    from deploy.grafana.generate import files  # noqa: PLC0415 - the SDK takes long to import

    return files()
