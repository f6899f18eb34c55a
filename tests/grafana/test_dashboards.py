"""The dashboards are those of the code, refer to existing metrics and runbooks, and can be imported anywhere."""

from __future__ import annotations

import json
import re

import pytest

from tests.alerts.alert_rules import PAGE, alerts
from tests.alerts.known_metrics import LABEL_VALUES, series
from tests.alerts.promql_expressions import grouping, selectors
from tests.grafana.dashboards import FOLDER, NAMES, Query, generated, links, load, queries
from tests.support.process import ROOT

VARIABLES = {"__rate_interval": "5m", "namespace": ".*", "instance": ".*", "provider": ".+", "client": ".+"}
TARGET_LABELS = {"namespace", "job", "instance"}
each_dashboard = pytest.mark.parametrize("name", NAMES)


def test_the_files_are_those_of_the_code() -> None:
    """`make dashboards` writes them."""
    assert {path.name for path in generated()} == {path.name for path in FOLDER.glob("*.json")}
    assert [] == [path.name for path, text in generated().items() if path.read_text() != text]


@each_dashboard
def test_an_import_depends_on_no_installation(name: str) -> None:
    """No numeric id, a stable uid, and a data source that is chosen there."""
    board = load(name)
    assert (None, f"runward-{name}", ["runward"]) == (board["id"], board["uid"], board["tags"])
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert ["datasource", "namespace", "instance", "console", "runbooks"] == list(variables)[:5]
    assert ("datasource", "prometheus") == (variables["datasource"]["type"], variables["datasource"]["query"])
    sources = {json.dumps(v["datasource"]) for v in variables.values() if v["type"] == "query"}
    sources |= {json.dumps(annotation["datasource"]) for annotation in board["annotations"]["list"]}
    assert {'{"type": "prometheus", "uid": "${datasource}"}'} == sources
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))
    assert used - {"__rate_interval", "__all"} == set(variables) - ({"console"} - used)


@each_dashboard
def test_it_links_to_runbooks_and_to_the_console(name: str) -> None:
    anchors = {f"#{alert.name.lower()}" for alert in alerts()} | {""}
    assert "${console:raw}/console" in links(name)
    runbooks = [link for link in links(name) if not link.endswith("/console")]
    assert {"${runbooks:raw}/docs/alerts.md"} == {re.sub(r"#.*", "", link) for link in runbooks}
    assert set() == {re.sub(r"[^#]*", "", link, count=1) for link in runbooks} - anchors
    assert PAGE == ROOT / "docs" / "alerts.md"


@each_dashboard
def test_reloads_and_changes_of_circuits_are_marked(name: str) -> None:
    assert ["Reloads", "Circuits"] == [annotation["name"] for annotation in load(name)["annotations"]["list"]]


@pytest.mark.parametrize("query", list(queries()), ids=lambda query: f"{query.dashboard}: {query.panel}")
def test_every_metric_label_and_value_exists(query: Query) -> None:
    known = series()
    expr = query.filled_in(VARIABLES)
    found = selectors(expr)
    assert found
    for selector in found:
        assert set() == {label for label, _ in selector.values} - known[selector.metric] - TARGET_LABELS, selector
        if not selector.metric.startswith("runward:"):
            assert {"job", "namespace", "instance"} <= {label for label, _ in selector.values}
        fixed = {(label, value) for label, value in selector.values if label in LABEL_VALUES and value != ".+"}
        assert set() == {(label, value) for label, value in fixed if value and value not in LABEL_VALUES[label]}
    offered = {label for selector in found for label in known[selector.metric]}
    assert set() == grouping(expr) - offered


def test_every_metric_is_on_a_dashboard() -> None:
    """A metric that no panel shows is found by no operator."""
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", s.metric) for q in queries() for s in selectors(q.filled_in(VARIABLES))
    }
    rows = re.findall(
        r"^\| `(runward_\w+)` \| (?:counter|gauge|histogram) ", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE
    )
    assert set() == set(rows) - shown
