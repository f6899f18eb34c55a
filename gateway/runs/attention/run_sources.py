"""Sources of items about runs: what the store knows about runs that ended as `unknown`, or do not end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import product
from urllib.parse import quote

import orjson

from gateway.runs.attention.items import AttentionContext, AttentionItem, AttentionKind
from gateway.runs.callbacks.dispatcher import GAVE_UP
from gateway.store.records import RunOverview, RunPage
from gateway.store.run_filter import RunFilter

MAX_RUNS = 500
"""Runs that one search returns, the newest: a count of more is "at least"."""

LONG_WAIT = 600.0
"""Seconds after its creation from which an unfinished run that waits is an item."""

_MAX_CALLBACKS = 1_000
_ANY_DURATION = 1e12  # seconds: runs that have ended; the others are polled on, and may still have another end
_OVERDUE_AFTER = 60.0  # seconds after the longest time that a run of its workflow may have
_DEFAULT_LONGEST = 3600.0  # seconds, of a workflow that is not configured


async def unknown_outcomes(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each provider with runs that ended as `unknown` and were not judged."""
    page = await context.store.list_runs(
        RunFilter(client=None, limit=MAX_RUNS, status="unknown", judged=False, max_duration=_ANY_DURATION)
    )
    by_provider: dict[str, list[float]] = defaultdict(list)
    for run in page.runs:
        if run.finished_at is not None:
            by_provider[run.provider].append(run.finished_at)
    more = _at_least(page)
    return [
        AttentionItem(
            AttentionKind.UNKNOWN_OUTCOMES,
            "warning",
            provider,
            f"{more}{_count(len(ends), 'run')} at {provider} ended as unknown, may have been paid for, and "
            f"{'is' if len(ends) == 1 else 'are'} not judged.",
            "docs/operations.md#judge-an-unknown-outcome",
            f"GET /api/runs?status=unknown&judged=false&provider={quote(provider, safe='')}",
            min(ends),
            len(ends),
        )
        for provider, ends in by_provider.items()
    ]


async def unfinished_runs(context: AttentionContext) -> list[AttentionItem]:
    """Return an item for each workflow with runs that should have ended, and for each with runs that wait long.

    All of them began ten minutes ago at least. A run should have ended a minute after the largest time-out of its
    workflow.
    """
    longest_runs = context.config.longest_runs
    surely_overdue = max((_DEFAULT_LONGEST, *longest_runs.values())) + _OVERDUE_AFTER
    overdue: dict[str, list[float]] = defaultdict(list)
    waiting: dict[tuple[str, str], list[float]] = defaultdict(list)
    more = ""
    found: dict[str, RunOverview] = {}
    # Apart, so that many runs that may still be in progress do not hide those that may not.
    for status, age in product(("queued", "running"), (LONG_WAIT, surely_overdue)):
        page = await context.store.list_runs(
            RunFilter(client=None, limit=MAX_RUNS, status=status, created_until=context.now_at - age)
        )
        more = more or _at_least(page)
        found |= {run.id: run for run in page.runs}
    for run in found.values():
        if run.created_at + longest_runs.get(run.workflow, _DEFAULT_LONGEST) + _OVERDUE_AFTER < context.now_at:
            overdue[run.workflow].append(run.created_at)
        elif cause := _waiting_for(run):
            waiting[run.workflow, cause].append(run.created_at)
    return [*_overdue_items(overdue, more), *_waiting_items(waiting, more)]


async def callbacks_given_up(context: AttentionContext) -> list[AttentionItem]:
    """Return an item if callbacks were abandoned."""
    found = await context.store.list_by_callback_state(GAVE_UP, limit=_MAX_CALLBACKS)
    if not found:
        return []
    more = "At least " if len(found) == _MAX_CALLBACKS else ""
    return [
        AttentionItem(
            AttentionKind.CALLBACKS_GIVEN_UP,
            "warning",
            "callbacks",
            f"{more}{_count(len(found), 'callback')} could not be delivered, and {'was' if len(found) == 1 else 'were'}"
            " abandoned.",
            "docs/alerts.md#runwardcallbacksgivenup",
            "runward callbacks replay --given-up",
            count=len(found),
        )
    ]


def _overdue_items(overdue: dict[str, list[float]], more: str) -> Iterable[AttentionItem]:
    for workflow, created in overdue.items():
        yield AttentionItem(
            AttentionKind.RUNS_OVERDUE,
            "critical",
            workflow,
            f"{more}{_count(len(created), 'run')} of {workflow} should have ended at the deadline.",
            "docs/operations.md#what-needs-attention",
            "Look at the log of the replicas: is the store available, and does a replica adopt runs?",
            min(created),
            len(created),
        )


def _waiting_items(waiting: dict[tuple[str, str], list[float]], more: str) -> Iterable[AttentionItem]:
    for (workflow, cause), created in waiting.items():
        yield AttentionItem(
            AttentionKind.RUNS_WAITING,
            "warning",
            f"{workflow} ({cause})",
            f"{more}{_count(len(created), 'run')} of {workflow} did not end within 10 minutes, and "
            f"{'waits' if len(created) == 1 else 'wait'} for: {cause}.",
            "docs/operations.md#what-needs-attention",
            f"GET /api/runs?waiting_for={quote(cause, safe='')}&workflow={quote(workflow, safe='')}",
            min(created),
            len(created),
        )


def _waiting_for(run: RunOverview) -> str | None:
    """Return the cause for which a run waits; None if it does not, or its activity cannot be read."""
    try:
        activity = orjson.loads(run.activity or b"{}")
    except ValueError:
        return None
    cause = activity.get("waiting_for") if isinstance(activity, dict) else None
    return cause if isinstance(cause, str) else None


def _at_least(page: RunPage) -> str:
    return "At least " if len(page.runs) == MAX_RUNS or page.stopped_at is not None else ""


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"
