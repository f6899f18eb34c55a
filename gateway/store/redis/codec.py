"""Codec of the Redis store: runs, idempotency records and deliveries as hash fields. None is an absent field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.redis.lua_script import RedisArgument
from gateway.store.history import MAX_TIMELINE, HistoryEntry
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import (
    OVERVIEW_FIELDS,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunOverview,
    StoredResponse,
    StoredRun,
)
from gateway.store.run_filter import RunFilter, activity_fragments, details_fragments
from gateway.store.usage import RunUsage, add_up, encode_counted


def _decode_text(value: bytes) -> str:
    return value.decode()


def _decode_flag(value: bytes) -> bool:
    return value != b"0"


def _decode_phase(value: bytes) -> Phase:
    return Phase(int(value))


@dataclass(frozen=True, slots=True)
class StoredField:
    """A field of the hash of a run: its stored name, which never changes, and the attribute of `StoredRun`.

    The field is absent if the attribute is `default`.
    """

    name: str
    attribute: str
    decode: Callable[[bytes], Any] = _decode_text
    default: Any = None


RUN_FIELDS = (
    StoredField("id", "id"),
    StoredField("client", "client"),
    StoredField("workflow", "workflow"),
    StoredField("provider", "provider"),
    StoredField("order", "order", bytes),
    StoredField("created_at", "created_at", float),
    StoredField("deadline_at", "deadline_at", float),
    StoredField("owner", "owner"),
    StoredField("leased_until_at", "leased_until_at", float),
    StoredField("phase", "phase", _decode_phase),
    StoredField("status", "status"),
    StoredField("attempts", "attempts", int),
    StoredField("provider_run_id", "provider_run_id"),
    StoredField("document", "document", bytes),
    StoredField("finished_at", "finished_at", float),
    StoredField("callback_url", "callback_url"),
    StoredField("callback_state", "callback_state"),
    StoredField("details", "details", bytes),
    StoredField("durable", "durable", _decode_flag, default=True),
    StoredField("activity", "activity", bytes),
    StoredField("judgement", "judgement", bytes),
)
"""Fields of the hash of a run, in the order in which scripts return them."""

OVERVIEW_STORED_FIELDS = tuple(field for field in RUN_FIELDS if field.attribute in OVERVIEW_FIELDS)
"""Fields of a `RunOverview`, in the order in which scripts return them."""

RECORDED_FIELDS = tuple(field for field in RUN_FIELDS if field.attribute not in {"owner", "leased_until_at"})
"""Fields of a run that is not durable and whose content is kept: it has no owner."""

IDEMPOTENCY_RECORD_FIELDS = ("fingerprint", "run_id", "created_at", "status", "headers", "body")
"""Stored names of the fields of an idempotency record, in the order in which scripts return them."""

DELIVERY_FIELDS = ("id", "client", "callback_url", "finished_at", "callback_attempts", "revision")
"""Stored names of the fields of a run that make a `Delivery`; scripts add the size of its body."""

_ORDER = next(place for place, field in enumerate(RUN_FIELDS) if field.attribute == "order")

_PROGRESS_ATTRIBUTES = frozenset({"status", "attempts", "provider", "provider_run_id"})
_FINAL_ATTRIBUTES = frozenset({"status", "document", "finished_at", "attempts", "provider_run_id", "details"})


def encode_float(value: float) -> str:
    """Encode a float without loss."""
    return repr(value)


def decode_stored_run(row: Sequence[bytes | None]) -> StoredRun | None:
    """Decode the fields of a run, in the order of `RUN_FIELDS`; None if it does not exist, or has no order."""
    has_order = row[0] is not None and row[_ORDER] is not None
    if not has_order:
        return None
    attributes = _decode_attributes(RUN_FIELDS, row)
    if attributes["owner"] is None:
        attributes |= {"owner": "", "leased_until_at": 0.0}
    return StoredRun(**attributes)


def decode_overview(row: Sequence[bytes | None]) -> RunOverview | None:
    """Decode the fields of an overview, in the order of `OVERVIEW_STORED_FIELDS`; None if the run does not exist."""
    return None if row[0] is None else RunOverview(**_decode_attributes(OVERVIEW_STORED_FIELDS, row))


def _decode_attributes(fields: Sequence[StoredField], row: Sequence[bytes | None]) -> dict[str, Any]:
    pairs = zip(fields, row, strict=True)
    return {field.attribute: field.default if value is None else field.decode(value) for field, value in pairs}


def decode_stored_runs(rows: Sequence[Sequence[bytes | None]]) -> list[StoredRun]:
    """Decode many runs; those that do not exist are left out."""
    return [run for run in map(decode_stored_run, rows) if run is not None]


def encode_run(run: StoredRun) -> list[RedisArgument]:
    """Encode a run as alternating stored names and values."""
    return list(_flatten(RUN_FIELDS, run))


def encode_entries(entries: Sequence[HistoryEntry]) -> list[RedisArgument]:
    """Encode runs for the history, as `add_history.lua` describes."""
    usages = [entry.usage for entry in entries if entry.usage is not None]
    places: dict[RunUsage | None, int] = {None: 0}
    for usage in usages:
        places.setdefault(usage, len(places))
    sums = add_up(usages)
    encoded: list[RedisArgument] = [
        len(places) - 1,
        *(encode_counted(usage) for usage in places if usage is not None),
        len(sums),
    ]
    encoded += (word for key, row in sums.items() for word in (*key, *row))
    for entry in entries:
        run, tags = entry.run, " ".join(entry.tags)
        fields = list(_flatten(OVERVIEW_STORED_FIELDS if entry.content_until_at is None else RECORDED_FIELDS, run))
        if tags:
            fields += "tags", tags
        if 0 < len(entry.timeline) <= MAX_TIMELINE:
            fields += "timeline", entry.timeline
        finished_at = run.created_at if run.finished_at is None else run.finished_at
        times = encode_float(run.created_at), encode_float(finished_at)
        kept_until = "" if entry.content_until_at is None else encode_float(entry.content_until_at)
        encoded += (run.id, run.client, *times, run.status, tags, kept_until, places[entry.usage])
        encoded += (len(fields), *fields)
    return encoded


def encode_progress(run: StoredRun) -> list[RedisArgument]:
    """Encode the fields that `Store.advance` changes, without the phase."""
    return _encode_attributes(run, _PROGRESS_ATTRIBUTES)


def encode_final_state(final_state: FinalState) -> list[RedisArgument]:
    """Encode the fields that `Store.finish` changes, without the phase."""
    return _encode_attributes(final_state, _FINAL_ATTRIBUTES)


def _encode_attributes(source: StoredRun | FinalState, attributes: frozenset[str]) -> list[RedisArgument]:
    return list(_flatten([field for field in RUN_FIELDS if field.attribute in attributes], source))


def encode_conditions(run_filter: RunFilter) -> list[RedisArgument]:
    """Encode the conditions of a list for its script: single values, and lists with their lengths in front."""
    numbers = (run_filter.created_from, run_filter.min_duration, run_filter.max_duration)
    encoded: list[RedisArgument] = [run_filter.client or "", run_filter.id_prefix or ""]
    encoded += ("" if n is None else encode_float(n) for n in numbers)
    encoded += ("" if flag is None else int(flag) for flag in (run_filter.durable, run_filter.judged))
    equalities = run_filter.equalities
    fragments = details_fragments(run_filter), activity_fragments(run_filter)
    for values in (equalities.keys(), equalities.values(), run_filter.tags, *fragments):
        encoded += [len(values), *values]
    return encoded


def encode_usage(usage: RunUsage | None) -> bytes:
    """Encode what a run adds to the usage; empty for None."""
    return b"" if usage is None else encode_counted(usage)


def encode_response(response: StoredResponse | None) -> list[RedisArgument]:
    """Encode a response; an empty list for None."""
    if response is None:
        return []
    return ["status", response.status, "headers", orjson.dumps(response.headers), "body", response.body]


def idempotency_record_name(client: str, text: str) -> str:
    """Return the name of an idempotency record, unique for its client and text."""
    return f"{len(client)}:{client}:{text}"


def decode_idempotency_record(client: str, text: str, row: Sequence[bytes | None]) -> IdempotencyRecord | None:
    """Decode the fields of an idempotency record; None if it does not exist."""
    fingerprint, run_id, created_at, status, headers, body = row
    if fingerprint is None or run_id is None or created_at is None:
        return None
    response = None
    if status is not None and headers is not None and body is not None:
        response = StoredResponse(int(status), tuple((name, value) for name, value in orjson.loads(headers)), body)
    return IdempotencyRecord(IdempotencyKey(client, text, fingerprint), run_id.decode(), float(created_at), response)


def decode_delivery(row: Sequence[bytes], size: int, *, taken_until_at: float) -> Delivery:
    """Decode the fields of a delivery; `revision` is missing where it is 0."""
    run_id, client, url, created_at, attempts, revision = row
    names = run_id.decode(), client.decode(), url.decode()
    return Delivery(*names, size, float(created_at), int(attempts), int(revision or 0), taken_until_at)


def _flatten(fields: Sequence[StoredField], source: object) -> Iterator[RedisArgument]:
    for field in fields:
        value = getattr(source, field.attribute)
        if value is not None and value != field.default:
            yield field.name
            yield value if isinstance(value, bytes | str) else _encode_number(value)


def _encode_number(value: Any) -> RedisArgument:
    return encode_float(value) if isinstance(value, float) else int(value)


def encode_override(override: ProviderOverride) -> bytes:
    """Encode what an operator has set for a provider, without the provider's name."""
    return orjson.dumps({"mode": override.mode, "note": override.note, "since_at": override.since_at})


def decode_overrides(row: Sequence[bytes]) -> list[ProviderOverride]:
    """Decode the names of providers, each followed by its override, in any order."""
    names, values = row[::2], (orjson.loads(value) for value in row[1::2])
    found = [
        ProviderOverride(name.decode(), value["mode"], value["note"], value["since_at"])
        for name, value in zip(names, values, strict=True)
    ]
    return sorted(found, key=lambda override: override.provider)
