"""Conditions on runs in the memory store, and their order."""

from __future__ import annotations

from math import inf

from gateway.store.records import Phase, StoredRun
from gateway.store.run_filter import Position, RunFilter, activity_fragments, details_match


def matches(run: StoredRun, run_filter: RunFilter) -> bool:
    """Return whether a run meets all conditions but those on its client, its tags and its creation."""
    return (
        all(getattr(run, name) == value for name, value in run_filter.equalities.items())
        and run.id.startswith(run_filter.id_prefix or "")
        and _has_duration(run, run_filter)
        and run_filter.durable in {None, run.durable}
        and run_filter.judged in {None, run.judgement is not None}
        and all(fragment in (run.activity or b"") for fragment in activity_fragments(run_filter))
        and details_match(run.details, run_filter)
    )


def may_revise(run: StoredRun) -> bool:
    """Return whether `Store.revise` changes the run."""
    return run.phase is not Phase.DONE or run.status == "unknown"


def position_of(run: StoredRun) -> Position:
    """Return the place of a run in lists."""
    return run.created_at, run.id


def _has_duration(run: StoredRun, run_filter: RunFilter) -> bool:
    if run_filter.min_duration is None and run_filter.max_duration is None:
        return True
    shortest = -inf if run_filter.min_duration is None else run_filter.min_duration
    longest = inf if run_filter.max_duration is None else run_filter.max_duration
    return run.finished_at is not None and shortest <= run.finished_at - run.created_at <= longest


def ended_before(run: StoredRun, at: float) -> bool:
    """Return whether a run has ended before this time."""
    return run.finished_at is not None and run.finished_at < at
