"""Names that rules may refer to: metrics with their labels and buckets, and values of labels."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import get_args

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.audit.recorder import DropReason
from gateway.auth.stored_keys.directory import KeyState
from gateway.errors import Ending
from gateway.observability.metrics import Metrics
from gateway.problems import PROBLEMS
from gateway.runs.resilience.circuit_breaker import CircuitState
from gateway.runs.resilience.start_override import OverrideMode
from providers.contract import Cause
from tests.alerts.alert_rules import recorded
from tests.alerts.promql_expressions import grouping

SCRAPE_LABELS = {"job", "instance"}  # the labels that Prometheus adds to everything it scrapes
_CAUSES = {cause.value for cause in Cause}
LABEL_VALUES = {
    "certainty": {"spent", "unknown"},
    "cause": _CAUSES,
    "code": set(PROBLEMS),
    "decision": {"admitted", "waited", "refused"},
    "fault": {"gateway", "provider", "none"},
    "job": {"runward"},
    "mode": {mode.value for mode in OverrideMode},
    "operation": {"start", "poll"},
    "outcome": set(get_args(Ending)),
    "provider": {""},  # no run
    "reason": set(get_args(DropReason)),
    "result": {"ok", "given_up", *_CAUSES},
    "scope": {"client", "workflow", "provider"},
    "state": {*(state.value for state in CircuitState), *get_args(KeyState)},
}
"""The values that a label may have, as far as they do not come from the configuration."""


@cache
def exposition() -> str:
    """Return the exposition of a gateway in which every metric has a sample."""
    metrics = Metrics()
    metrics.request_ended("run", 200)
    metrics.request_refused("one", "overloaded")
    metrics.run_ended("one", "w", "p", "succeeded")
    metrics.run_error("p", "upstream_timeout")
    metrics.observe_run_duration("w", "p", 1.5, 0.001)
    metrics.call_ended("p", "start", "ok", 1.4)
    metrics.reply_refused("p", "start", "credentials")
    metrics.call_retried("p", "start", "unreachable")
    metrics.run_fell_back("w", "other")
    metrics.followed_run_ended("p", "succeeded")
    metrics.result_not_collected("p")
    metrics.content_unreadable("document")
    metrics.track_circuit("p", "w")
    metrics.provider_overridden("p", "suspended")
    metrics.attention_found({"circuit_open": 1})
    metrics.set_stored_keys({"active": 1}, 0)
    metrics.in_progress["p",] += 1
    metrics.limit_decided("client", "admitted")
    metrics.callback_attempted("2xx")
    metrics.callback_given_up()
    metrics.worker_lost()
    metrics.history_dropped(1)
    metrics.audit_record_dropped("queue_full")
    metrics.run_cost("one", "w", "p", spent=40_000, unknown=40_000)
    metrics.budget_refused("all")
    metrics.budget_used("all", 90, 100)
    metrics.settlement_dropped()
    metrics.history_content_dropped(1)
    metrics.log_lines_dropped(1)
    metrics.set_limits_shared(1)
    metrics.issuer_fetch_ended("kubernetes", "ok")
    metrics.issuer_keys_fetched("kubernetes", 1.0)
    metrics.token_refused("token_expired")
    metrics.config_reloaded(datetime(2026, 11, 21, tzinfo=UTC))
    metrics.hint_received("genuine")
    metrics.hint_used()
    return metrics.render().decode()


def families() -> list[Metric]:
    """Return the exposition parsed by the official Prometheus parser."""
    return list(text_string_to_metric_families(exposition()))


def series() -> dict[str, set[str]]:
    """Return the label sets of every series, by name."""
    found = {"up": set(SCRAPE_LABELS)} | {rule.name: grouping(rule.expr) | set(rule.labels) for rule in recorded()}
    for sample in (sample for family in families() for sample in family.samples):
        found.setdefault(sample.name, set(SCRAPE_LABELS)).update(sample.labels)
    return found


def bounds(histogram: str) -> set[float]:
    """Return the upper bounds of the buckets of a histogram."""
    samples = (sample for family in families() for sample in family.samples)
    return {float(sample.labels["le"]) for sample in samples if sample.name == histogram + "_bucket"}
