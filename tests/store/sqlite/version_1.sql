-- A store of schema version 1, as it was left by a gateway of that version. Never to be changed.
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN TRANSACTION;
CREATE TABLE callbacks (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    created_at REAL NOT NULL,
    due_at REAL,
    attempts INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO "callbacks" VALUES(1,1795000005.25,1795000010.25,1,X'7B2274797065223A2272756E2E66696E6973686564227D');
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
INSERT INTO "keys" VALUES(1,'checkout','key-1',X'00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF','run_1',1795000001.25,200,X'5B5B22436F6E74656E742D54797065222C226170706C69636174696F6E2F6A736F6E225D2C5B22582D4F6464222C22C3A92C20F09F9880225D2C5B22582D4F6464222C22225D5D',X'007B2261223A317DFF');
INSERT INTO "keys" VALUES(2,'checkout','key-2',X'00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF00FF','run_2',1795000002.25,NULL,NULL,NULL);
CREATE TABLE orders (
    run INTEGER PRIMARY KEY REFERENCES runs (number) ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;
INSERT INTO "orders" VALUES(1,X'7B22696E707574223A7B7D7D');
INSERT INTO "orders" VALUES(2,X'7B22696E707574223A7B7D7D');
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
INSERT INTO "runs" VALUES(1,'run_1','checkout','triage','studio',1795000001.25,1795000120.25,'one',1795000030.25,3,'succeeded',2,'98765',1795000005.25,'https://hooks.example.com/here','pending','key-1',X'7B226F7574707574223A22C3A9227D');
INSERT INTO "runs" VALUES(2,'run_2','checkout','triage','studio',1795000002.25,1795000120.25,'one',1795000030.25,2,'running',0,'98765',NULL,NULL,NULL,'key-2',NULL);
CREATE INDEX runs_of_client ON runs (client, created_at, id);
CREATE INDEX runs_unfinished ON runs (owner) WHERE phase < 3;
CREATE INDEX runs_finished ON runs (finished_at) WHERE phase = 3;
CREATE INDEX keys_by_age ON keys (created_at);
CREATE INDEX callbacks_due ON callbacks (due_at) WHERE due_at IS NOT NULL;
CREATE VIEW stored_runs AS SELECT
    id, client, workflow, provider, orders.body, created_at, deadline_at, owner, leased_until_at, phase, status,
    attempts, provider_run_id, document, finished_at, callback_url, callback_state
FROM runs JOIN orders ON orders.run = runs.number;
COMMIT;
PRAGMA application_id = 1381322327;
PRAGMA user_version = 1;
