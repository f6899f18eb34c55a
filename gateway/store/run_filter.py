"""Conditions of a list of stored runs, and the search in their details without parsing those of every run."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import orjson

MAX_EXAMINED = 5_000
"""Runs that a search examines: a server of Redis does nothing else meanwhile, but for pauses between parts of it."""

Position: TypeAlias = tuple[float, str]
"""`created_at` and `id` of a run: its place in a list."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Selection of runs, of a client or of all clients, that meet all conditions, newest first.

    `before`: position of the last run on the page before. `code` is that of the run's error. `tags`: the run has all of
    them. `metadata`: names and values that the run has. `id_prefix`: the beginning of its id, not empty.
    `created_from` is inclusive and `created_until` exclusive, in seconds since 1970. Durations are in seconds,
    inclusive; a run that has not ended has none. `api`: the API that the client uses. `replay_of`: the id of the run
    that it replays. `team`: of the client when it asked for the run. `key`: the id of the client's key.
    `waiting_for` and `retrying` are of the activity of unfinished runs. `durable`: False for the runs that are in the
    history only. `judged`: whether a run has a judgement. `max_examined`: the number of runs after which the search
    stops.

    A run without `details`, or with metadata that are not in them, does not meet conditions on its code, its API, the
    run that it replays, its team, its key and its metadata.
    """

    client: str | None
    limit: int = 50
    status: str | None = None
    workflow: str | None = None
    before: Position | None = None
    provider: str | None = None
    provider_run_id: str | None = None
    code: str | None = None
    tags: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
    id_prefix: str | None = None
    created_from: float | None = None
    created_until: float | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    api: str | None = None
    replay_of: str | None = None
    team: str | None = None
    key: str | None = None
    waiting_for: str | None = None
    retrying: bool = False
    durable: bool | None = None
    judged: bool | None = None
    max_examined: int = MAX_EXAMINED

    @property
    def upper_bound(self) -> Position:
        """The position before which, in ascending order, all selected runs are."""
        until = (inf if self.created_until is None else self.created_until, "")
        return until if self.before is None else min(until, self.before)

    @property
    def equalities(self) -> dict[str, str]:
        """The conditions on single fields of `RunOverview`, by the name of the field."""
        wanted = ((name, getattr(self, name)) for name in ("status", "workflow", "provider", "provider_run_id"))
        return {name: value for name, value in wanted if value is not None}


def bounds_of_prefix(prefix: str) -> tuple[str, str]:
    """Return the first text with this beginning, and the first text after all with it."""
    return prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)


_DETAILS = ("api", "replay_of", "team", "key")
"""Members of details that are compared as they are."""


def details_fragments(run_filter: RunFilter) -> list[bytes]:
    """Return texts that the details of every selected run contain. Details that contain them may still not match."""
    members = [(name, value) for name in ("code", *_DETAILS) if (value := getattr(run_filter, name)) is not None]
    return [b"%b:%b" % (orjson.dumps(name), orjson.dumps(value)) for name, value in (*members, *run_filter.metadata)]


def activity_fragments(run_filter: RunFilter) -> list[bytes]:
    """Return texts that the activity of every selected run contains, and of no other."""
    waiting = [] if run_filter.waiting_for is None else [b'"waiting_for":' + orjson.dumps(run_filter.waiting_for)]
    return [*waiting, b'"retrying":true'] if run_filter.retrying else waiting


def details_match(details: bytes | None, run_filter: RunFilter) -> bool:
    """Return whether details meet the conditions on the code of the error, on the metadata, and on single members."""
    wanted = {name: value for name in _DETAILS if (value := getattr(run_filter, name)) is not None}
    if run_filter.code is None and not wanted and not run_filter.metadata:
        return True
    try:
        members = orjson.loads(details or b"")
    except ValueError:
        return False
    return (
        isinstance(members, dict)
        and (run_filter.code is None or _members(members, "error").get("code") == run_filter.code)
        and wanted.items() <= members.items()
        and set(run_filter.metadata) <= _members(members, "metadata").items()
    )


def _members(details: dict[str, object], name: str) -> dict[str, object]:
    found = details.get(name)
    return found if isinstance(found, dict) else {}
