"""What a rule may name: the gateway's metrics with their labels and buckets, and the words that labels hold."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import get_args

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Metrics
from gateway.problems import PROBLEMS
from gateway.runs.breaker import State
from gateway.runs.retry import Ending
from providers.contract import Cause
from tests.alerts.expressions import grouping
from tests.alerts.rules import recorded

SCRAPER = {"job", "instance"}  # the labels that Prometheus adds to everything it scrapes
_CAUSES = {cause.value for cause in Cause}
WORDS = {
    "cause": _CAUSES,
    "code": set(PROBLEMS),
    "decision": {"admitted", "waited", "refused"},
    "job": {"runward"},
    "operation": {"start", "poll"},
    "outcome": set(get_args(Ending)),
    "result": {"ok", "given_up", *_CAUSES},
    "scope": {"client", "workflow", "provider"},
    "state": {state.value for state in State},
}
"""The values that a label may have, as far as they do not come from the configuration."""


@cache
def exposition() -> str:
    """What a gateway shows in which everything was counted once."""
    metrics = Metrics()
    metrics.request_ended("run", 200)
    metrics.refused("one", "overloaded")
    metrics.run_ended("one", "w", "p", "succeeded")
    metrics.run_took("w", "p", 1.5, 0.001)
    metrics.called("p", "start", "ok", 1.4)
    metrics.refused_reply("p", "start", "credentials")
    metrics.retried("p", "start", "unreachable")
    metrics.fell_back("w", "other")
    metrics.circuit("p", "w")
    metrics.decided("client", "admitted")
    metrics.callback_tried("2xx")
    metrics.callback_given_up()
    metrics.worker_ended()
    metrics.limits_shared(1)
    metrics.reloaded(datetime(2026, 11, 21, tzinfo=UTC))
    metrics.hint_came("genuine")
    metrics.hint_used()
    return metrics.render().decode()


def families() -> list[Metric]:
    """The same, read by Prometheus's own parser."""
    return list(text_string_to_metric_families(exposition()))


def series() -> dict[str, set[str]]:
    """The labels of every series that a rule may look at, by its name."""
    found = {"up": set(SCRAPER)} | {rule.name: grouping(rule.expr) for rule in recorded()}
    for sample in (sample for family in families() for sample in family.samples):
        found.setdefault(sample.name, set(SCRAPER)).update(sample.labels)
    return found


def bounds(histogram: str) -> set[float]:
    """The upper bounds of its buckets."""
    samples = (sample for family in families() for sample in family.samples)
    return {float(sample.labels["le"]) for sample in samples if sample.name == histogram + "_bucket"}
