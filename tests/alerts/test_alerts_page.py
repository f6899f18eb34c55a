"""docs/alerts.md agrees with the rules and refers to existing names only."""

from __future__ import annotations

import re

from gateway.problems import PROBLEMS
from tests.alerts.alert_rules import PAGE, RULES, alerts
from tests.alerts.known_metrics import families, series
from tests.alerts.promql_expressions import selectors

SECTION = re.compile(r"^### (\w+)\n\n\*(\w+), (at once|after \w+)\.\*(.*?)(?=^##|\Z)", re.DOTALL | re.MULTILINE)
TEXT = PAGE.read_text()


def test_each_alert_has_its_section() -> None:
    """Sections have the order, severity and duration of the rules."""
    documented = [(name, severity, patience) for name, severity, patience, _ in SECTION.findall(TEXT)]
    patiences = ["at once" if alert.duration == "0m" else f"after {alert.duration}" for alert in alerts()]
    assert [(alert.name, alert.severity, p) for alert, p in zip(alerts(), patiences, strict=True)] == documented


def test_each_section_says_what_to_look_at_and_what_to_do() -> None:
    wanted = re.compile(r"- \*\*Look at\*\* .*\n- \*\*Do\*\* ", re.DOTALL)
    assert [] == [name for name, _, _, text in SECTION.findall(TEXT) if not wanted.search(text)]


def test_it_names_only_existing_metrics() -> None:
    names = set(series()) | {family.name for family in families()}
    assert set() == set(re.findall(r"\brunward_\w+", TEXT)) - names


def test_it_names_only_existing_alerts_and_codes() -> None:
    assert set() == set(re.findall(r"\bRunward[A-Z]\w+", TEXT)) - {alert.name for alert in alerts()}
    assert set() == set(re.findall(r"`((?:upstream|circuit|deadline)_\w+)`", TEXT)) - set(PROBLEMS)


def test_its_queries_can_be_pasted() -> None:
    [block] = re.findall(r"```promql\n(.*?)```", TEXT, re.DOTALL)
    assert [1, 1, 1] == [len(selectors(query)) for query in block.splitlines()]


def test_its_link_to_the_rules_is_valid() -> None:
    [link] = re.findall(r"\[config/prometheus-rules.yaml\]\(([^)]+)\)", TEXT)
    assert (PAGE.parent / link).samefile(RULES)
