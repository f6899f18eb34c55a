"""Rules refer to existing metrics, labels, values and bucket bounds only. These tests need Python only."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
import yaml

from gateway.settings import load
from gateway.settings.providers_workflows_clients import WorkflowSettings
from tests.alerts.alert_rules import UNIT_TESTS, Rule, accelerated, alerts, document, in_seconds, recorded
from tests.alerts.known_metrics import LABEL_VALUES, bounds, exposition, families, series
from tests.alerts.promql_expressions import grouping, quantile_thresholds, selectors, windows
from tests.support.configuration import PROVIDER_SECRETS
from tests.support.process import ROOT

EVERY_RULE = [*recorded(), *alerts()]
each_rule = pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.name)
each_alert = pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)


def test_the_file_is_one_group_of_rules_with_names_of_their_own() -> None:
    """One group, because alerts read series recorded by earlier rules of the same evaluation."""
    assert [{"name", "rules"}] == [set(group) for group in document()["groups"]]
    names = [(rule.name, *sorted(rule.labels.items())) for rule in EVERY_RULE]
    assert sorted(set(names)) == sorted(names)
    assert len(EVERY_RULE) == len(document()["groups"][0]["rules"])


@each_alert
def test_every_alert_has_a_severity_and_a_runbook(alert: Rule) -> None:
    """Each alert has a summary sentence and an anchor of docs/alerts.md."""
    assert re.fullmatch(r"Runward([A-Z][a-z]+)+", alert.name)
    assert alert.severity in {"critical", "warning"}
    assert {"summary", "description", "runbook"} == set(alert.annotations)
    assert f"docs/alerts.md#{alert.name.lower()}" == alert.annotations["runbook"]
    assert re.fullmatch(r"[^\n]{20,120}\.", re.sub(r"\{\{.*?\}\}", "", alert.annotations["summary"]))
    assert re.fullmatch(r"[^\n]{80,400}\.", alert.annotations["description"])


@each_alert
def test_every_label_in_a_text_is_one_of_the_alert(alert: Rule) -> None:
    """A label that the expression drops would be empty in the text."""
    named = set(re.findall(r"\$labels\.(\w+)", str(alert.annotations)))
    assert set() == named - grouping(alert.expr) - ({"instance"} if alert.name == "RunwardDown" else set())


@each_rule
def test_every_metric_and_label_exists(rule: Rule) -> None:
    known = series()
    for selector in selectors(rule.expr):
        assert set() == {label for label, _ in selector.values} - known[selector.metric], selector.metric
    offered = {label for selector in selectors(rule.expr) for label in known[selector.metric]}
    assert set() == grouping(rule.expr) - offered


@each_rule
def test_every_label_value_exists(rule: Rule) -> None:
    """An alert on a misspelled code or outcome would never fire."""
    pairs = {pair for selector in selectors(rule.expr) for pair in selector.values}
    assert set() == {(label, value) for label, value in pairs if value not in LABEL_VALUES[label]}


@each_rule
def test_a_quantile_is_compared_with_a_bound_of_its_buckets(rule: Rule) -> None:
    """Quantiles between two bounds are interpolated; those at a bound are exact."""
    thresholds = list(quantile_thresholds(rule.expr))
    assert [] == [(name, value) for name, value in thresholds if value not in bounds(name)]
    assert len(thresholds) == rule.expr.count("histogram_quantile")


@pytest.mark.parametrize("histogram", ["runward_run_duration_seconds", "runward_upstream_call_duration_seconds"])
def test_the_buckets_cover_the_longest_deadline(histogram: str) -> None:
    """R96: a run that uses its whole default or example deadline is below the last bucket bound."""
    example = load(ROOT / "config" / "gateway.yaml", PROVIDER_SECRETS)
    deadlines = [float(WorkflowSettings.model_fields["timeout"].default)]
    deadlines += [workflow.max_timeout for workflow in example.workflows.values()]
    finite = bounds(histogram) - {float("inf")}
    assert max(finite) > max(deadlines)
    assert 60.0 in set(deadlines) & finite


@each_rule
def test_an_accelerated_rule_is_the_same_rule(rule: Rule) -> None:
    """Acceleration changes every duration by the factor 60, and nothing else."""
    fast = in_seconds(rule.expr)
    assert [window / 60 for window in windows(rule.expr)] == windows(fast)
    assert re.sub(r"\b\d+[ms]\b", "", rule.expr) == re.sub(r"\b\d+[ms]\b", "", fast)
    assert re.fullmatch(r"\d+m", rule.duration)
    assert all(window >= timedelta(minutes=1) for window in windows(rule.expr))


def test_the_accelerated_file_has_no_minutes_left() -> None:
    """The number of rules is unchanged."""
    fast = yaml.safe_load(accelerated())["groups"][0]["rules"]
    assert [rule.name for rule in EVERY_RULE] == [raw.get("record", raw.get("alert")) for raw in fast]
    assert [] == [raw for raw in fast if re.search(r"\b\d+m\b", raw["expr"] + raw.get("for", ""))]


def test_every_alert_has_a_unit_test_in_which_it_fires() -> None:
    """tests/alerts/test_promtool.py runs them and shows that they can fail."""
    asked = [asked for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for asked in test["promql_expr_test"]]
    samples = [sample["labels"] for each in asked for sample in each.get("exp_samples", ()) if "labels" in sample]
    firing = {name for labels in samples for name in re.findall(r'alertname="(\w+)",alertstate="firing"', labels)}
    assert {alert.name for alert in alerts()} == firing


def test_the_exposition_explains_each_metric() -> None:
    """Every family has a HELP and a TYPE line, and samples below them."""
    helped = re.findall(r"^# HELP (\w+) \S", exposition(), re.MULTILINE)
    typed = re.findall(r"^# TYPE (\w+) (?:counter|gauge|histogram)$", exposition(), re.MULTILINE)
    assert helped == typed
    assert [family.name + ("_total" if family.type == "counter" else "") for family in families()] == typed
    assert [] == [family.name for family in families() if not family.samples]
