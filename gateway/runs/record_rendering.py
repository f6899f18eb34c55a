"""Rendering of the records of runs: for operators, without input and output; and timelines, also for clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway.json import strict_json
from gateway.money import format_amount
from gateway.runs import rendering
from gateway.runs.durable.codec import decode_details
from gateway.runs.timeline import CLIENT_FIELDS, decode_timeline
from gateway.store.records import RunOverview
from providers.contract import JsonValue


def operator_view(run: RunOverview) -> dict[str, object]:
    """Return the members of a run for operators: those of a client's list, and facts of its record.

    Nothing but the overview is read: of a run that an earlier version wrote, some members are null.
    """
    details = decode_details(run)
    members = rendering.list_members(run, details)
    return {
        **members,
        "client": run.client,
        **{name: details.get(name) for name in ("api", "label", "version", "team", "key")},
        "price": _price(details.get("price")),
        "waits": details.get("waits") or {},
        "activity": rendering.activity_view(run),
        "kept": run.durable,
        "judgement": rendering.read_object(run.judgement),
    }


def _price(micros: JsonValue) -> str | None:
    return format_amount(micros) if isinstance(micros, int) else None


def operator_timeline(lines: bytes) -> list[dict[str, object]]:
    """Return the events of a timeline, with their times as RFC 3339."""
    return _events(lines, lambda event: event)


def client_timeline(run_id: str, lines: bytes) -> bytes:
    """Render `GET /runs/{id}/timeline`: events and values that clients may see; unknown ones are left out."""
    return strict_json.write({"id": run_id, "events": _events(lines, _for_client)})


def _events(
    lines: bytes, select: Callable[[dict[str, Any]], Mapping[str, JsonValue] | None]
) -> list[dict[str, object]]:
    events: list[dict[str, object]] = []
    for event in decode_timeline(lines):
        shown = select(event)
        if shown is not None:
            events.append({**shown, "at": rendering.format_time(event["at"])})
    return events


def _for_client(event: dict[str, Any]) -> Mapping[str, JsonValue] | None:
    names = CLIENT_FIELDS.get(event["event"])
    return None if names is None else {name: event[name] for name in ("at", "event", *names) if name in event}
