"""Query of `GET /api/runs`: the conditions of `GET /runs`, and those that only operators have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from multidict import MultiDict, MultiMapping

from gateway.api.run_search import Parameters, one_of, parse_run_filter, parse_text
from gateway.problems import Problem, invalid_parameter
from gateway.runs.model import ApiName
from gateway.runs.timeline import WaitCause
from gateway.store.run_filter import RunFilter

APIS: tuple[str, ...] = get_args(ApiName)
CAUSES: tuple[str, ...] = get_args(WaitCause)
OUTCOMES = ("succeeded", "failed", "unknown", "not_run")
BOOLEANS = ("true", "false")

_KEY = "idempotency_key"


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Runs that an operator searches: those of the filter, or with a key of its client the one of the key."""

    run_filter: RunFilter
    idempotency_key: str | None


def parse_run_query(query: MultiMapping[str], team: str | None = None) -> RunQuery:
    """Return the runs that a query selects, with a `team` only those of it.

    Raises Problem for unknown parameters, for values without a meaning, and for another team.
    """
    conditions = MultiDict(query)
    keys = [parse_text(_KEY, text) for text in conditions.popall(_KEY, ())]
    if team is not None and conditions.setdefault("team", team) != team:
        raise Problem("forbidden", "This key may read the runs of its own team only.")
    run_filter = parse_run_filter(conditions, None, _PARAMETERS)
    if len(keys) > 1:
        raise invalid_parameter(_KEY, "must be given once")
    if keys and run_filter.client is None:
        raise invalid_parameter(_KEY, "must be given with the client that used it")
    if keys and run_filter.before is not None:
        raise invalid_parameter("cursor", "a list by idempotency_key has one page")
    return RunQuery(run_filter, keys[0] if keys else None)


def _parse_outcome(name: str, text: str) -> str:
    return one_of(name, text, OUTCOMES)


def _parse_api(name: str, text: str) -> str:
    return one_of(name, text, APIS)


def _parse_cause(name: str, text: str) -> str:
    return one_of(name, text, CAUSES)


def _parse_boolean(name: str, text: str) -> bool:
    return one_of(name, text, BOOLEANS) == "true"


def _parse_true(name: str, text: str) -> bool:
    return one_of(name, text, BOOLEANS[:1]) == "true"


_PARAMETERS: Parameters = {
    "client": ("client", parse_text),
    "team": ("team", parse_text),
    "key": ("key", parse_text),
    "outcome": ("status", _parse_outcome),
    "api": ("api", _parse_api),
    "waiting_for": ("waiting_for", _parse_cause),
    "retrying": ("retrying", _parse_true),
    "kept": ("durable", _parse_boolean),
    "judged": ("judged", _parse_boolean),
}
