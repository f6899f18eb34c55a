"""Runs, idempotency records and secrets in SQL. Every function runs inside a transaction of its caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson

from gateway.store.records import (
    OVERVIEW_FIELDS,
    CancelResult,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunOverview,
    StoredResponse,
    StoredRun,
)
from gateway.store.sqlite import segments
from gateway.store.sqlite.callbacks import schedule_callback
from gateway.store.sqlite.history import drop_content
from gateway.store.sqlite.statements import fetch_first
from gateway.store.sqlite.timelines import ADD_EVENTS
from gateway.store.sqlite.usage import EndCounter

_INSERT_IDEMPOTENCY_RECORD = """
INSERT INTO keys (client, text, fingerprint, run_id, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (client, text) DO NOTHING"""

_INSERT_RUN = """
INSERT INTO runs (id, client, workflow, provider, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, finished_at, callback_url, callback_state, key_text, details, document)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"""

_INSERT_TAG = "INSERT INTO run_tags (client, tag, created_at, id, run) VALUES (?, ?, ?, ?, ?)"

_ADVANCE = """
UPDATE runs SET phase = ?, status = ?, attempts = ?, provider = ?, provider_run_id = ?
WHERE id = ? AND owner = ? AND phase <= ?"""

_ADVANCE_WITH_EVENTS = f"""
UPDATE runs SET {ADD_EVENTS}, phase = ?, status = ?, attempts = ?, provider = ?, provider_run_id = ?
WHERE id = ? AND owner = ? AND phase <= ?"""  # noqa: S608 - fixed text

_REVERT_TO_QUEUED = "UPDATE runs SET phase = 0 WHERE id = ? AND owner = ? AND attempts = ? AND phase = 1"

_SELECT_UNFINISHED = """
SELECT number, client, key_text, callback_url, provider_run_id FROM runs WHERE id = ? AND owner = ? AND phase < 3"""

_SELECT_REVISABLE = """
SELECT number, client, key_text, callback_url, provider_run_id FROM runs
WHERE id = ? AND (phase < 3 OR status = 'unknown')"""

_SELECT_CANCELLABLE = "SELECT phase, number, client, key_text, callback_url, provider_run_id FROM runs WHERE id = ?"

# After a query by id, because RETURNING costs as much as the rest of an UPDATE.
_END = """
UPDATE runs SET phase = 3, activity = NULL, status = ?, finished_at = ?, attempts = ?, details = ?, document = ?
WHERE number = ?"""

_END_WITH_EVENTS = f"""
UPDATE runs SET {ADD_EVENTS}, phase = 3, activity = NULL, status = ?, finished_at = ?, attempts = ?, details = ?,
    document = ?
WHERE number = ?"""  # noqa: S608 - fixed text

# Apart, because an assignment costs a change of its index, and the value seldom changes at the end.
_SET_PROVIDER_RUN_ID = "UPDATE runs SET provider_run_id = ? WHERE number = ?"

_DISCARD = "DELETE FROM runs WHERE id = ? AND owner = ? AND phase < 3 RETURNING client, key_text"

_INSERT_DOCUMENT = """
INSERT INTO documents (run, body) VALUES (?, ?) ON CONFLICT (run) DO UPDATE SET body = excluded.body"""

_OVERVIEWS = f"SELECT {', '.join(OVERVIEW_FIELDS)} FROM runs"  # noqa: S608 - fixed names

_SELECT_DOCUMENT = """
SELECT ifnull(documents.body, document) FROM runs LEFT JOIN documents ON documents.run = number
WHERE id = ? AND (durable OR documents.run IS NOT NULL)"""

_SELECT_IDEMPOTENCY_RECORD = (
    "SELECT fingerprint, run_id, created_at, status, headers, body FROM keys WHERE client = ? AND text = ?"
)

# The inner query sorts narrow rows, because orders may be large. Runs that this batch took before come first.
_SELECT_ADOPTABLE = """
SELECT * FROM stored_runs WHERE id IN (
    SELECT id FROM runs INDEXED BY runs_unfinished WHERE phase < 3 AND CASE owner WHEN :owner THEN turn = :turn AND turn
        ELSE leased_until_at <= :now_at END
    ORDER BY owner != :owner, created_at, id LIMIT :limit
) ORDER BY owner != :owner, created_at, id"""

_ADOPT = "UPDATE runs SET owner = ?, leased_until_at = ?, turn = ? WHERE id = ?"

_RENEW = "UPDATE runs INDEXED BY runs_unfinished SET leased_until_at = ? WHERE phase < 3 AND owner = ?"

_MAX_DOCUMENT_IN_ROW = 1_000  # bytes; a larger document has a row in `documents`
_PHASE_INDEX = 9  # position among the fields of StoredRun
_DURABLE_INDEX = 18
_OVERVIEW_PHASE_INDEX = OVERVIEW_FIELDS.index("phase")
_OVERVIEW_DURABLE_INDEX = OVERVIEW_FIELDS.index("durable")


def create_run(
    db: sqlite3.Connection, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
) -> IdempotencyRecord | None:
    """Implement `Store.create_run`."""
    if key is not None:
        row = (key.client, key.text, key.fingerprint, run.id, run.created_at)
        if not db.execute(_INSERT_IDEMPOTENCY_RECORD, row).rowcount:
            return get_idempotency_record(db, key.client, key.text)
    # fmt: off
    inserted = db.execute(_INSERT_RUN, (
        run.id, run.client, run.workflow, run.provider, run.created_at, run.deadline_at, run.owner, run.leased_until_at,
        int(run.phase), run.status, run.attempts, run.provider_run_id, run.finished_at,
        run.callback_url, run.callback_state, key and key.text, run.details, run.document,
    ))
    # fmt: on
    if not inserted.rowcount:
        raise ValueError("a run with this id exists")
    number = inserted.lastrowid
    db.execute("INSERT INTO orders (run, body) VALUES (?, ?)", (number, run.order))
    if tags:
        db.executemany(_INSERT_TAG, [(run.client, tag, run.created_at, run.id, number) for tag in tags])
    return None


def advance(db: sqlite3.Connection, run: StoredRun, events: bytes = b"") -> bool:
    """Implement `Store.advance`."""
    if run.phase is Phase.DONE:
        return False
    phase = int(run.phase)  # `value` is a property, and costs more
    state = (phase, run.status, run.attempts, run.provider, run.provider_run_id, run.id, run.owner, phase)
    if events:
        return db.execute(_ADVANCE_WITH_EVENTS, (events, *state)).rowcount == 1
    return db.execute(_ADVANCE, state).rowcount == 1


def revert_to_queued(db: sqlite3.Connection, run: StoredRun) -> bool:
    """Implement `Store.revert_to_queued`."""
    return db.execute(_REVERT_TO_QUEUED, (run.id, run.owner, run.attempts)).rowcount == 1


def finish(db: sqlite3.Connection, run_id: str, final_state: FinalState, counter: EndCounter) -> bool:
    """Implement `Store.finish`."""
    row = fetch_first(db, _SELECT_UNFINISHED, run_id, final_state.owner)
    return row is not None and _end(db, run_id, final_state, row, counter)


def revise(db: sqlite3.Connection, run_id: str, final_state: FinalState, counter: EndCounter) -> bool:
    """Implement `Store.revise`."""
    row = fetch_first(db, _SELECT_REVISABLE, run_id)
    if row is None:
        return False
    _end(db, run_id, final_state, row, counter, replaces=True)
    drop_content(db, run_id)
    return True


def cancel_queued(db: sqlite3.Connection, run_id: str, final_state: FinalState, counter: EndCounter) -> CancelResult:
    """Implement `Store.cancel_queued`."""
    found = fetch_first(db, _SELECT_CANCELLABLE, run_id)
    if found is None:
        return CancelResult.NOT_FOUND
    phase, *row = found
    if phase != Phase.QUEUED:
        return CancelResult.TOO_LATE
    _end(db, run_id, final_state, tuple(row), counter)
    return CancelResult.ENDED


def _end(
    db: sqlite3.Connection,
    run_id: str,
    final_state: FinalState,
    row: tuple[Any, ...],
    counter: EndCounter,
    *,
    replaces: bool = False,
) -> bool:
    """Store the end, the response and the callback of the run with this row; returns True.

    `replaces`: the run may have ended before. A document in `documents` hides one in the row, so it stays there.
    """
    number, client, text, callback_url, provider_run_id = row
    in_row = not replaces and len(final_state.document) <= _MAX_DOCUMENT_IN_ROW
    end = (
        final_state.status,
        final_state.finished_at,
        final_state.attempts,
        final_state.details,
        final_state.document if in_row else None,
        number,
    )
    if final_state.events:
        db.execute(_END_WITH_EVENTS, (final_state.events, *end))
    else:
        db.execute(_END, end)
    if provider_run_id != final_state.provider_run_id:
        db.execute(_SET_PROVIDER_RUN_ID, (final_state.provider_run_id, number))
    if not in_row:
        db.execute(_INSERT_DOCUMENT, (number, final_state.document))
    if text is not None and final_state.response is not None:
        _store_response(db, final_state.response, (client, text, run_id))
    if callback_url is not None and final_state.callback is not None:
        schedule_callback(db, number, final_state)
    if final_state.usage is not None:
        counter.count(db, number, final_state.usage, replaces=replaces)
    return True


def _store_response(db: sqlite3.Connection, response: StoredResponse, record_key: tuple[str, str, str]) -> None:
    statement = "UPDATE keys SET status = ?, headers = ?, body = ? WHERE client = ? AND text = ? AND run_id = ?"
    db.execute(statement, (response.status, orjson.dumps(response.headers), response.body, *record_key))


def discard_run(db: sqlite3.Connection, run_id: str, owner: str) -> None:
    """Implement `Store.discard_run`."""
    row = fetch_first(db, _DISCARD, run_id, owner)
    if row is not None and row[1] is not None:
        db.execute("DELETE FROM keys WHERE client = ? AND text = ? AND run_id = ?", (*row, run_id))


def get_run(db: sqlite3.Connection, run_id: str) -> StoredRun | None:
    """Implement `Store.get_run`."""
    row = fetch_first(db, "SELECT * FROM stored_runs WHERE id = ?", run_id)
    return None if row is None else _decode_run(row)


def get_overview(db: sqlite3.Connection, run_id: str) -> RunOverview | None:
    """Implement `Store.get_overview`."""
    row = fetch_first(db, f"{_OVERVIEWS} WHERE id = ?", run_id)
    return segments.get_overview(db, run_id) if row is None else decode_overview(row)


def get_document(db: sqlite3.Connection, run_id: str) -> bytes | None:
    """Implement `Store.get_document`."""
    row = fetch_first(db, _SELECT_DOCUMENT, run_id)
    return None if row is None else row[0]


def get_idempotency_record(db: sqlite3.Connection, client: str, text: str) -> IdempotencyRecord | None:
    """Implement `Store.get_idempotency_record`."""
    row = fetch_first(db, _SELECT_IDEMPOTENCY_RECORD, client, text)
    if row is None:
        return None
    fingerprint, run_id, created_at, status, headers, body = row
    response = None
    if status is not None:
        response = StoredResponse(status, tuple((name, value) for name, value in orjson.loads(headers)), body)
    return IdempotencyRecord(IdempotencyKey(client, text, fingerprint), run_id, created_at, response)


def renew_leases(db: sqlite3.Connection, owner: str, until_at: float) -> None:
    """Implement `Store.renew_leases`."""
    db.execute(_RENEW, (until_at, owner))


def adopt(
    db: sqlite3.Connection, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int
) -> list[StoredRun]:
    """Implement `Store.adopt`."""
    parameters = {"owner": owner, "now_at": now_at, "limit": limit, "turn": batch_id}
    adoptable = [_decode_run(row) for row in db.execute(_SELECT_ADOPTABLE, parameters)]
    db.executemany(_ADOPT, [(owner, until_at, batch_id, orphan.id) for orphan in adoptable])
    return [replace(orphan, owner=owner, leased_until_at=until_at) for orphan in adoptable]


def get_or_create_secret(db: sqlite3.Connection, name: str, default: bytes) -> bytes:
    """Implement `Store.get_or_create_secret`."""
    db.execute("INSERT INTO secrets (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, default))
    (value,) = db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
    return bytes(value)


def _decode_run(row: tuple[Any, ...]) -> StoredRun:
    """Decode a row of the view `stored_runs`; its columns are the fields of StoredRun, in their order."""
    fields = list(row)
    fields[_PHASE_INDEX] = Phase(fields[_PHASE_INDEX])
    fields[_DURABLE_INDEX] = bool(fields[_DURABLE_INDEX])
    return StoredRun(*fields)


def decode_overview(row: tuple[Any, ...]) -> RunOverview:
    """Decode a row of the columns `OVERVIEW_FIELDS`."""
    fields = list(row)
    fields[_OVERVIEW_PHASE_INDEX] = Phase(fields[_OVERVIEW_PHASE_INDEX])
    fields[_OVERVIEW_DURABLE_INDEX] = bool(fields[_OVERVIEW_DURABLE_INDEX])
    return RunOverview(*fields)
