"""Monitors, rules and dashboards refer to existing metrics and to the job of the monitors."""

from __future__ import annotations

import json
import re

import promql_parser
import pytest
import yaml

from tests.helm.cases import CASES
from tests.helm.chart import Object, merged, render
from tests.support.process import ROOT

DASHBOARDS = sorted((ROOT / "config" / "grafana").glob("*.json"))
RULES: Object = yaml.safe_load((ROOT / "config" / "prometheus-rules.yaml").read_text())
METRICS = set(re.findall(r"^\| `(runward_\w+)` \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE))

each_dashboard = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def test_a_service_monitor_finds_the_operations_service_and_its_port() -> None:
    release = render(CASES["production"])
    spec = release.of("ServiceMonitor")["spec"]
    services = [o for o in release.objects if o["kind"] == "Service"]
    labels = spec["selector"]["matchLabels"]
    found = [o for o in services if labels.items() <= o["metadata"]["labels"].items()]
    assert ["demo-runward-ops"] == [o["metadata"]["name"] for o in found]
    assert [spec["endpoints"][0]["port"]] == [port["name"] for port in found[0]["spec"]["ports"]]
    assert ["prod"] == spec["namespaceSelector"]["matchNames"]


def test_a_pod_monitor_finds_the_port_of_the_pod() -> None:
    release = render(CASES["pod monitor"])
    port = release.of("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"]
    assert port in {p["name"] for p in release.pod()["containers"][0]["ports"]}


@pytest.mark.parametrize("case", ["production", "pod monitor"])
def test_the_job_is_the_one_that_rules_and_dashboards_ask_for(case: str) -> None:
    release = render(CASES[case])
    monitor = next(o for o in release.objects if o["kind"] in {"ServiceMonitor", "PodMonitor"})
    endpoint = (monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"])[0]
    assert {"action": "replace", "targetLabel": "job", "replacement": "runward"} in endpoint["relabelings"]
    assert "/metrics" == endpoint["path"]
    asked = set(
        re.findall(r'job="(\w+)"', str(RULES) + "".join(path.read_text() for path in DASHBOARDS).replace("\\", ""))
    )
    assert {"runward"} == asked


def test_the_rules_are_those_of_the_project() -> None:
    assert RULES["groups"] == render(CASES["production"]).of("PrometheusRule")["spec"]["groups"]


def test_alerts_have_the_address_of_their_page_and_rules_can_be_added() -> None:
    groups = render(CASES["pod monitor"]).of("PrometheusRule")["spec"]["groups"]
    alerts = [rule for rule in groups[0]["rules"] if "alert" in rule]
    urls = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in alerts}
    assert {name: f"https://example.com/runward/docs/alerts.md#{name.lower()}" for name in urls} == urls
    assert ("demo-runward-extra", "Own") == (groups[1]["name"], groups[1]["rules"][0]["alert"])


def test_the_objectives_of_the_values_are_those_of_the_rules() -> None:
    release = render(merged(CASES["pod monitor"], {"prometheusRule": {"objectives": {"gateway": 99.95}}}))
    rules = release.of("PrometheusRule")["spec"]["groups"][0]["rules"]
    budgets = {r["labels"]["fault"]: r["expr"] for r in rules if r.get("record") == "runward:slo_budget"}
    assert {"gateway": "vector(1 - 99.95 / 100)", "provider": "vector(1 - 99 / 100)"} == budgets


def test_every_dashboard_is_a_config_map_that_grafanas_sidecar_finds() -> None:
    release = render(CASES["production"])
    found = [o for o in release.objects if o["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert {path.stem: json.loads(path.read_text()) for path in DASHBOARDS} == {
        key.removeprefix("runward-").removesuffix(".json"): json.loads(text)
        for o in found
        for key, text in o["data"].items()
    }
    assert {"Runward"} == {o["metadata"]["annotations"]["grafana_folder"] for o in found}
    assert {"monitoring"} == {o["metadata"]["namespace"] for o in found}
    assert all(len(json.dumps(o)) < 1_000_000 for o in found)


def test_the_links_of_the_dashboards_can_be_set() -> None:
    """The values replace the defaults of the variables; what is entered in Grafana replaces both."""
    values = {"dashboards": {"consoleUrl": "https://ops.example.net/"}}
    release = render(merged(CASES["pod monitor"], values))
    found = [o for o in release.objects if o["metadata"]["labels"].get("grafana_dashboard") == "1"]
    assert len(DASHBOARDS) == len(found)
    for board in (json.loads(text) for o in found for text in o["data"].values()):
        variables = {variable["name"]: variable for variable in board["templating"]["list"]}
        defaults = {name: variables[name]["query"] for name in ("console", "runbooks")}
        assert {"console": "https://ops.example.net", "runbooks": "https://example.com/runward"} == defaults
        assert [defaults["console"]] == [option["value"] for option in variables["console"]["options"]]


def test_dashboards_are_off_by_default() -> None:
    assert [] == [o for o in render(CASES["minimal"]).objects if "dashboard" in o["metadata"]["name"]]


def test_a_monitors_label_wins_over_a_common_one() -> None:
    values = merged(CASES["production"], {"commonLabels": {"release": "common"}})
    release = render(values)
    assert "prometheus" == release.of("ServiceMonitor")["metadata"]["labels"]["release"]
    assert "common" == release.workload()["metadata"]["labels"]["release"]


def _panels(path: object) -> list[Object]:
    panels: list[Object] = json.loads(path.read_text())["panels"]  # type: ignore[attr-defined]
    return panels


@each_dashboard
def test_every_query_of_a_dashboard_can_be_parsed_and_asks_for_metrics_that_there_are(path: object) -> None:
    expressions = [target["expr"] for panel in _panels(path) for target in panel.get("targets", [])]
    assert expressions
    for expression in expressions:
        promql_parser.parse(expression.replace("$__rate_interval", "5m"))
        named = set(re.findall(r"\b(runward_\w+)", expression))
        assert {re.sub(r"_bucket$", "", name) for name in named} <= METRICS, expression
        recorded = set(re.findall(r"\b(runward:[\w:]+)", expression))
        assert recorded <= {rule.get("record") for rule in RULES["groups"][0]["rules"]}
        assert named or recorded or expression.startswith("sum(up{"), expression


@each_dashboard
def test_every_panel_has_a_title_a_sentence_and_a_place_of_its_own(path: object) -> None:
    panels = _panels(path)
    assert len(panels) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    assert [] == [p["title"] for p in panels if p["type"] != "row" and not p["description"].endswith(".")]
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, (panel["title"], taken[x, y])
                taken[x, y] = panel["title"]


@each_dashboard
def test_a_dashboard_asks_the_data_source_that_is_chosen_there(path: object) -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in _panels(path):
        if panel["type"] != "row":
            assert chosen == panel["datasource"]
            assert [chosen] * len(panel["targets"]) == [target["datasource"] for target in panel["targets"]]
