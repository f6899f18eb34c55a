"""Schema of the SQLite store, and its migrations.

The rows of `runs` are narrow, because leases rewrite them often. The order and the document of a run may be large and
have tables of their own, `orders` and `documents`, and so has the body of a callback, `callback_bodies`: SQLite would
read a large value to reach a column behind it, and write it again with every change of the row. A small document is in
`runs.document`; there and in `callbacks.body` are those of runs that ended before the versions 5 and 6 too; else they
are NULL and empty. `runs.timeline` is the last column, so that no other one is behind it. A run that was not durable is
a row of `runs` and its tags alone; if its content is kept, it has rows in `orders`, `documents` and `kept_content` too.
Successes without tags and content are in `segments`, if there are many.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.store.contract import StoreUnavailable

APPLICATION_ID = 0x52554E57  # "RUNW" in the file header: marks the file as a Runward database

_VERSION_1 = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    workflow TEXT NOT NULL,
    provider TEXT NOT NULL,
    created_at REAL NOT NULL,
    deadline_at REAL NOT NULL,
    owner TEXT NOT NULL,
    leased_until_at REAL NOT NULL,
    phase INTEGER NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    provider_run_id TEXT,
    finished_at REAL,
    callback_url TEXT,
    callback_state TEXT,
    key_text TEXT,
    document BLOB
) STRICT;
CREATE INDEX runs_of_client ON runs (client, created_at, id);
CREATE INDEX runs_unfinished ON runs (owner) WHERE phase < 3;
CREATE INDEX runs_finished ON runs (finished_at) WHERE phase = 3;

CREATE TABLE orders (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE keys (
    number INTEGER PRIMARY KEY,
    client TEXT NOT NULL,
    text TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    run_id TEXT NOT NULL,
    created_at REAL NOT NULL,
    status INTEGER,
    headers BLOB,
    body BLOB,
    UNIQUE (client, text)
) STRICT;
CREATE INDEX keys_by_age ON keys (created_at);

CREATE TABLE callbacks (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    created_at REAL NOT NULL,
    due_at REAL,
    attempts INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX callbacks_due ON callbacks (due_at) WHERE due_at IS NOT NULL;

CREATE VIEW stored_runs AS SELECT
    id, client, workflow, provider, orders.body, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, document, finished_at, callback_url, callback_state
FROM runs JOIN orders ON orders.run = runs.number;
"""

_VERSION_2 = """
ALTER TABLE runs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;

CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;
"""

_VERSION_3 = "ALTER TABLE callbacks ADD COLUMN revision INTEGER NOT NULL DEFAULT 0"

_VERSION_4 = """
CREATE TABLE daily_usage (
    client TEXT PRIMARY KEY,
    used INTEGER NOT NULL,
    ends_at REAL NOT NULL
) STRICT;
"""

_VERSION_5 = """
ALTER TABLE runs ADD COLUMN details BLOB;

CREATE TABLE documents (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

DROP VIEW stored_runs;
CREATE VIEW stored_runs AS SELECT
    id, client, workflow, provider, orders.body, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, ifnull(documents.body, document), finished_at, callback_url, callback_state, details
FROM runs JOIN orders ON orders.run = runs.number LEFT JOIN documents ON documents.run = runs.number;
"""

_VERSION_6 = """
CREATE TABLE callback_bodies (
    run INTEGER PRIMARY KEY REFERENCES callbacks (run) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;
"""

_VERSION_7 = """
ALTER TABLE callbacks ADD COLUMN written_at REAL;
CREATE INDEX callbacks_written ON callbacks (written_at) WHERE due_at IS NOT NULL;
"""

# The first key serves searches, the index the deletion of a run.
_VERSION_8 = """
CREATE TABLE run_tags (
    client TEXT NOT NULL,
    tag TEXT NOT NULL,
    created_at REAL NOT NULL,
    id TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs (number) ON DELETE CASCADE,
    PRIMARY KEY (client, tag, created_at, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_tags_of_run ON run_tags (run);
"""

_VERSION_9 = """
CREATE TABLE provider_overrides (
    provider TEXT PRIMARY KEY,
    mode TEXT NOT NULL,
    note TEXT NOT NULL,
    since_at REAL NOT NULL
) STRICT;
"""

# The columns `created_at` and `id` are the position of a run in lists. `runs_unfinished` no longer has the owner: one
# process owns nearly all unfinished runs. Inequalities cost less than NOT IN, which SQLite evaluates with a table.
_VERSION_10 = """
ALTER TABLE runs ADD COLUMN durable INTEGER NOT NULL DEFAULT 1;
ALTER TABLE runs ADD COLUMN activity BLOB;
ALTER TABLE runs ADD COLUMN judgement BLOB;
ALTER TABLE runs ADD COLUMN timeline BLOB;

DROP INDEX runs_finished;
DROP INDEX runs_unfinished;
CREATE INDEX runs_ended ON runs (durable, finished_at) WHERE phase = 3;
CREATE INDEX runs_unfinished ON runs (created_at, id) WHERE phase < 3;
CREATE INDEX runs_of_all ON runs (created_at, id);
CREATE INDEX runs_not_succeeded ON runs (status, created_at, id)
    WHERE status != 'queued' AND status != 'running' AND status != 'succeeded';
CREATE INDEX runs_of_provider ON runs (provider_run_id) WHERE provider_run_id IS NOT NULL;
CREATE INDEX run_tags_of_all ON run_tags (tag, created_at, id, run);

DROP VIEW stored_runs;
CREATE VIEW stored_runs AS SELECT
    id, client, workflow, provider, orders.body, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, ifnull(documents.body, document), finished_at, callback_url, callback_state, details,
    durable, activity, judgement
FROM runs JOIN orders ON orders.run = runs.number LEFT JOIN documents ON documents.run = runs.number;
"""

_VERSION_11 = """
CREATE TABLE bulk_replays (
    id TEXT PRIMARY KEY,
    plan BLOB NOT NULL,
    created_at REAL NOT NULL,
    delete_at REAL NOT NULL,
    state TEXT NOT NULL,
    progress BLOB NOT NULL,
    owner TEXT NOT NULL,
    leased_until_at REAL NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
"""

# Of runs that are not durable: until when their content is kept.
_VERSION_12 = """
CREATE TABLE kept_content (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    until_at REAL NOT NULL
) STRICT;
CREATE INDEX kept_content_by_time ON kept_content (until_at);
"""

# `state`: a `ReservationState`. `ends_at`: the end of the last window that the reservation counts in.
_VERSION_13 = """
CREATE TABLE budget_accounts (
    budget TEXT NOT NULL,
    window TEXT NOT NULL,
    ends_at REAL NOT NULL,
    reserved INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    peak INTEGER NOT NULL,
    PRIMARY KEY (budget, window)
) STRICT, WITHOUT ROWID;

CREATE TABLE budget_reservations (
    run_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    charges BLOB NOT NULL,
    expires_at REAL NOT NULL,
    check_at REAL NOT NULL,
    ends_at REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX budget_reservations_open ON budget_reservations (check_at, run_id) WHERE state = 'reserved';
CREATE INDEX budget_reservations_settled ON budget_reservations (ends_at) WHERE state != 'reserved';
"""

# `counted_usage`: what a run that ended as `unknown` has added to `usage`, in case its end is revised.
_VERSION_14 = """
CREATE TABLE usage (
    day INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    key TEXT NOT NULL,
    runs INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    PRIMARY KEY (day, kind, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE counted_usage (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    usage BLOB NOT NULL
) STRICT;

CREATE TABLE usage_writers (
    writer TEXT PRIMARY KEY,
    number INTEGER NOT NULL,
    written_at REAL NOT NULL
) STRICT;
"""

_VERSION_15 = """
CREATE TABLE client_keys (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    client TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    terms BLOB NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    previous_digest BLOB,
    previous_until_at REAL,
    rotated_at REAL,
    revoked_at REAL,
    last_used_at REAL,
    ended_at REAL,
    revision INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX client_keys_of_client ON client_keys (client, number);
CREATE INDEX client_keys_before_rotation ON client_keys (previous_digest) WHERE previous_digest IS NOT NULL;
CREATE INDEX client_keys_ended ON client_keys (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE client_key_revision (value INTEGER NOT NULL) STRICT;
INSERT INTO client_key_revision VALUES (0);
"""

# Sequence numbers and hashes are not unique: a record that was inserted by hand is to be found. `audit_chain` has one
# row.
_VERSION_16 = """
CREATE TABLE audit_records (
    number INTEGER PRIMARY KEY,
    sequence INTEGER NOT NULL,
    hash TEXT NOT NULL,
    content BLOB NOT NULL
) STRICT;
CREATE INDEX audit_records_in_order ON audit_records (sequence, number);

CREATE TABLE audit_chain (
    id INTEGER PRIMARY KEY,
    anchor_sequence INTEGER NOT NULL,
    anchor_hash TEXT NOT NULL,
    head_sequence INTEGER NOT NULL,
    head_hash TEXT NOT NULL
) STRICT;
"""

# Of runs that are not durable: many of one client in a row. What is scanned is apart from what is read of one segment.
_VERSION_17 = """
CREATE TABLE segments (
    number INTEGER PRIMARY KEY,
    client TEXT NOT NULL,
    count INTEGER NOT NULL,
    oldest_at REAL NOT NULL,
    newest_at REAL NOT NULL,
    ended_at REAL NOT NULL,
    first_id TEXT NOT NULL,
    last_id TEXT NOT NULL,
    UNIQUE (last_id, first_id)
) STRICT;
CREATE INDEX segments_by_time ON segments (newest_at, oldest_at);
CREATE INDEX segments_of_client ON segments (client, newest_at, oldest_at);
CREATE INDEX segments_ended ON segments (ended_at, count);

CREATE TABLE segment_hashes (
    segment INTEGER PRIMARY KEY REFERENCES segments (number) ON DELETE CASCADE,
    hashes BLOB NOT NULL
) STRICT;

CREATE TABLE segment_records (
    segment INTEGER PRIMARY KEY REFERENCES segments (number) ON DELETE CASCADE,
    records BLOB NOT NULL,
    timelines BLOB NOT NULL
) STRICT;
"""

MIGRATIONS: tuple[str, ...] = (
    _VERSION_1,
    _VERSION_2,
    _VERSION_3,
    _VERSION_4,
    _VERSION_5,
    _VERSION_6,
    _VERSION_7,
    _VERSION_8,
    _VERSION_9,
    _VERSION_10,
    _VERSION_11,
    _VERSION_12,
    _VERSION_13,
    _VERSION_14,
    _VERSION_15,
    _VERSION_16,
    _VERSION_17,
)
"""Script n migrates a file of version n to version n + 1. A released script is never changed."""


def require_compatible(db: sqlite3.Connection) -> None:
    """Raise StoreUnavailable if the schema is too new, or the file belongs to another program."""
    version = _query_integer(db, "PRAGMA user_version")
    if _query_integer(db, "PRAGMA application_id") != APPLICATION_ID and _query_integer(
        db, "SELECT count(*) FROM sqlite_schema"
    ):
        raise StoreUnavailable("the file belongs to another program")
    if version > len(MIGRATIONS):
        raise StoreUnavailable(f"the file has schema {version}, and this version of Runward supports {len(MIGRATIONS)}")


def migrate(db: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Migrate a compatible file to the newest version, one transaction for each step."""
    version = _query_integer(db, "PRAGMA user_version")
    for number, script in enumerate(migrations[version:], version + 1):
        db.executescript(
            f"BEGIN IMMEDIATE; {script}; PRAGMA application_id = {APPLICATION_ID}; "
            f"PRAGMA user_version = {number}; COMMIT;"
        )


def _query_integer(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])
