"""Analysis of PromQL expressions: metrics, labels and values, windows, quantiles and their thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import promql_parser as promql


@dataclass(frozen=True, slots=True)
class Selector:
    """Metric with its label matchers: pairs of a label and one of the matching values."""

    metric: str
    values: frozenset[tuple[str, str]]


def nodes(expression: str) -> list[promql.Expr]:
    """Return every node of an expression. Raises ValueError if it is invalid."""
    found: list[promql.Expr] = []
    promql.walk(promql.parse(expression), found.append)
    return found


def selectors(expression: str) -> list[Selector]:
    """Return every vector selector."""
    return [_selector(node) for node in nodes(expression) if isinstance(node, promql.VectorSelector)]


def grouping(expression: str) -> set[str]:
    """Return every label named by `by` or `on`."""
    return {label for node in nodes(expression) for label in _labels(node)}


def windows(expression: str) -> list[timedelta]:
    """Return every range and offset, in order."""
    found: list[timedelta] = []
    for node in nodes(expression):
        if isinstance(node, promql.MatrixSelector):
            found.append(node.range)
        elif isinstance(node, promql.VectorSelector) and node.offset is not None:
            found.append(node.offset)
    return found


def quantile_thresholds(expression: str) -> Iterator[tuple[str, float]]:
    """Return each histogram used in a quantile, without "_bucket", and the threshold of the comparison."""
    for node in nodes(expression):
        match node:
            case promql.BinaryExpr(lhs=promql.Call() as call, rhs=promql.NumberLiteral() as threshold):
                if call.func.name == "histogram_quantile":
                    [selector] = selectors(str(call))
                    yield selector.metric.removesuffix("_bucket"), threshold.val


def _selector(node: promql.VectorSelector) -> Selector:
    pairs = {(matcher.name, value) for matcher in node.matchers.matchers for value in matcher.value.split("|")}
    return Selector(node.name or "", frozenset(pairs))


def _labels(node: promql.Expr) -> list[str]:
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        return node.modifier.labels
    if isinstance(node, promql.BinaryExpr) and node.modifier is not None and node.modifier.matching is not None:
        return node.modifier.matching.labels
    return []
