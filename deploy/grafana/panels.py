"""Building blocks of the dashboards: PromQL expressions, panels, and the parts that every dashboard has.

`Board` collects rows of panels. A panel is as wide as its `span`, of 24 columns; the spans of a line add up to 24.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common, dashboard

CONSOLE_URL = "http://127.0.0.1:9090"
"""Default of the variable `console`: base URL of an operations port."""
RUNBOOK_BASE = "https://example.com/runward"
"""Default of the variable `runbooks`: base URL of the project's files."""
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
RATE = "$__rate_interval"
Queries: TypeAlias = Mapping[str, str]
"""PromQL expressions by their legends."""
_REPLICAS = 'job="runward",namespace=~"$namespace",instance=~"$instance"'
_HEIGHT, _STAT_HEIGHT = 8, 4  # grid units
_OUTCOMES = {"succeeded": "green", "failed": "orange", "unknown": "red", "not_run": "blue"}
_BAD = (("green", None), ("red", 1.0))
_GOOD = (("red", None), ("green", 1.0))
_PLAIN = (("text", None),)


def series(name: str, matchers: str = "") -> str:
    """Return the selector of a metric, without its prefix, of the chosen replicas."""
    return f"runward_{name}{{{_REPLICAS}{',' * bool(matchers)}{matchers}}}"


def scraped() -> str:
    """Return the number of the chosen replicas that answer."""
    return f"sum(up{{{_REPLICAS}}})"


def rate(name: str, matchers: str = "", by: str = "") -> str:
    """Return how much a counter grows per second, summed up over all labels but `by`."""
    return f"sum{_by(by)}(rate({series(name, matchers)}[{RATE}]))"


def growth(name: str, matchers: str = "", by: str = "", over: str = RATE) -> str:
    """Return by how much a counter has grown."""
    return f"sum{_by(by)}(increase({series(name, matchers)}[{over}]))"


def quantile(share: float, histogram: str, matchers: str = "", by: str = "") -> str:
    """Return a quantile of a histogram in seconds; its name is without the prefix and the unit."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, {rate(f'{histogram}_seconds_bucket', matchers, labels)})"


def gauge(function: str, name: str, matchers: str = "", by: str = "") -> str:
    """Return a gauge aggregated by `sum`, `min` or `max` over all labels but `by`."""
    return f"{function}{_by(by)}({series(name, matchers)})"


def or_zero(expression: str) -> str:
    """Return the expression, or 0 where there is no such series yet."""
    return f"({expression}) or vector(0)"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


class Board:
    """A dashboard in the making."""

    def __init__(self, name: str, title: str, description: str) -> None:
        self._ids = 0
        self._board = (
            builders.Dashboard(f"Runward / {title}")
            .uid(f"runward-{name}")
            .description(description)
            .tags(["runward"])
            .timezone("utc")
            .editable()
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .time("now-6h", "now")
            .refresh("30s")
            .version(1)
            .variables(_variables())
            .annotations(_annotations())
            .links(_links())
        )

    def variable(self, name: str, label: str, metric: str) -> None:
        """Add a variable with the values of a label of a metric; by default all of them but the empty one."""
        self._board.with_variable(_query_variable(name, label, f"label_values({series(metric)}, {name})", ".+"))

    def row(self, title: str) -> None:
        """Begin a row."""
        self._board.with_row(builders.Row(title).id(self._next_id()))

    def stat(
        self, title: str, description: str, query: str, *, unit: str = "short", good: str = "", span: int = 4
    ) -> None:
        """Add one number. `good`: `zero` or `one`, whichever is green; another value is red then."""
        steps = {"zero": _BAD, "one": _GOOD, "": _PLAIN}[good]
        thresholds = [dashboard.Threshold(value=value, color=color) for color, value in steps]
        panel = (
            stat.Panel()
            .id(self._next_id())
            .title(title)
            .description(description)
            .datasource(SOURCE)
            .height(_STAT_HEIGHT)
            .span(span)
            .unit(unit)
            .min(0)
            .thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds))
            .color_mode(common.BigValueColorMode.BACKGROUND if good else common.BigValueColorMode.NONE)
            .graph_mode(common.BigValueGraphMode.NONE if good else common.BigValueGraphMode.AREA)
            .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(values=False))
            .targets(_targets({"": query}))
        )
        if good == "one":
            answers = {str(value): dashboard.ValueMappingResult(text=text) for value, text in enumerate(("no", "yes"))}
            panel.mappings([dashboard.ValueMap(options=answers)])
        self._board.with_panel(panel)

    def graph(
        self,
        title: str,
        description: str,
        queries: Queries,
        *,
        unit: str = "ops",
        span: int = 12,
        runbooks: Sequence[str] = (),
    ) -> None:
        """Add a graph over time. `runbooks`: names of alerts whose runbooks are linked."""
        legend = common_builders.VizLegendOptions().show_legend(show_legend=True)
        legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
        tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
        panel = (
            timeseries.Panel()
            .id(self._next_id())
            .title(title)
            .description(description)
            .datasource(SOURCE)
            .height(_HEIGHT)
            .span(span)
            .unit(unit)
            .min(0)
            .line_width(1)
            .fill_opacity(10)
            .show_points(common.VisibilityMode.NEVER)
            .legend(legend)
            .tooltip(tooltip.sort(common.SortOrder.DESCENDING))
            .targets(_targets(queries))
            .links([_link(f"Runbook: {name}", f"{{runbooks}}/docs/alerts.md#{name.lower()}") for name in runbooks])
        )
        for outcome, color in _OUTCOMES.items() if "{{outcome}}" in queries else ():
            fixed = dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
            panel.override_by_name(outcome, [fixed])
        self._board.with_panel(panel)

    def text(self) -> str:
        """Return the dashboard as JSON. Its `id` is null: Grafana gives each import an id of its own."""
        document = json.loads(JSONEncoder(sort_keys=True).encode(self._board.build()))
        return json.dumps({"id": None, **document}, indent=2) + "\n"

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids


class _PrometheusAnnotation(dashboard.AnnotationQuery):
    """Annotation with the members that Prometheus annotations have in addition."""

    def __init__(self, name: str, color: str, expr: str, title: str) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=color, expr=expr)
        self.title = title

    def to_json(self) -> dict[str, object]:
        """Return the members."""
        return super().to_json() | {"titleFormat": self.title, "step": "1m"}


class _AnnotationBuilder(builders.AnnotationQuery):
    """Builder of such an annotation."""

    def __init__(self, name: str, color: str, expr: str, title: str) -> None:
        self._internal = _PrometheusAnnotation(name, color, expr, title)


def _annotations() -> list[Builder[dashboard.AnnotationQuery]]:
    reloaded = series("config_last_reload_success_timestamp_seconds")
    opened = series("circuit_state", 'state="open"')
    changed = f"max by (provider, workflow) (changes({opened}[1m])) > 0"
    return [
        _AnnotationBuilder("Reloads", "blue", f"changes({reloaded}[1m]) > 0", "{{instance}}: configuration reloaded"),
        _AnnotationBuilder("Circuits", "red", changed, "circuit of {{workflow}} ({{provider}}) opened or closed"),
    ]


def _variables() -> list[Builder[dashboard.VariableModel]]:
    build = 'runward_build_info{job="runward"'
    return [
        builders.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _query_variable("namespace", "Namespace", f"label_values({build}}}, namespace)", ".*"),
        _query_variable("instance", "Replica", f'label_values({build},namespace=~"$namespace"}}, instance)', ".*"),
        _text_variable("console", "Operations port", "Base URL of an operations port, for the link.", CONSOLE_URL),
        _text_variable("runbooks", "Runbooks", "Base URL of the project's files, for the links.", RUNBOOK_BASE),
    ]


def _query_variable(name: str, label: str, query: str, all_value: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(all_value)
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )


def _text_variable(name: str, label: str, description: str, default: str) -> builders.TextBoxVariable:
    option = dashboard.VariableOption(selected=True, text=default, value=default)
    variable = builders.TextBoxVariable(name).label(label).description(description)
    return variable.default_value(default).current(option).options([option])


def _links() -> list[Builder[dashboard.DashboardLink]]:
    others = builders.DashboardLink("Dashboards").type(dashboard.DashboardLinkType.DASHBOARDS)
    return [
        others.tags(["runward"])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True),
        _link("Console", "{console}/console"),
        _link("Runbooks", "{runbooks}/docs/alerts.md"),
    ]


def _link(title: str, url: str) -> builders.DashboardLink:
    """Return a link that opens a page of its own; `{console}` and `{runbooks}` stand for the variables."""
    target = url.replace("{console}", "${console:raw}").replace("{runbooks}", "${runbooks:raw}")
    return (
        builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(target).target_blank(target_blank=True)
    )


def _targets(queries: Queries) -> list[Builder[Dataquery]]:
    targets: list[Builder[Dataquery]] = []
    for number, (legend, expression) in enumerate(queries.items()):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + number)).datasource(SOURCE).expr(expression)
        targets.append(query.legend_format(legend).range())
    return targets
