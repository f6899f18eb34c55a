"""Layout of the keys in the server.

All keys begin with `runward:1:`, where 1 is the version of this layout:

| key | type | contents |
|---|---|---|
| `layout` | string | the newest layout version in use (its prefix is `runward:`) |
| `run:ID` | hash | a `StoredRun`, of one that is not durable the fields of its overview, and order and document if \
they are kept; tags; timeline; name of the idempotency record; callback's body, attempts; batch; `collected` |
| `runs:CLIENT` | sorted set | the ids of the runs of a client, by `created_at` |
| `runs:` | sorted set | the ids of the runs of all clients, by `created_at` |
| `tagged:LENGTH:CLIENT:TAG` | sorted set | the ids of the runs of a client with a tag; LENGTH is that of CLIENT |
| `tagged:0::TAG` | sorted set | the ids of the runs of all clients with a tag, by `created_at` |
| `status:STATUS` | sorted set | the ids of the runs with the status failed, unknown or not_run, by `created_at` |
| `unfinished` | sorted set | the ids of the runs with the status queued or running, by `created_at` |
| `active` | sorted set | the ids of unfinished runs with an activity, by `created_at` |
| `judged` | sorted set | the ids of runs with a judgement, by `created_at` |
| `recorded` | sorted set | the ids of runs that are not durable, by `finished_at` |
| `kept_content` | sorted set | the ids of recorded runs with content, by the time until which it is kept |
| `leases` | sorted set | the ids of unfinished runs, by `leased_until_at` |
| `owned:OWNER` | sorted set | the ids of the unfinished runs of an owner, by id |
| `taken:OWNER:TURN` | set | the ids of the runs adopted in one batch; expires after a day |
| `ended` | sorted set | the ids of ended runs without a pending callback, by `finished_at` |
| `due` | sorted set | the ids of runs with a PENDING callback, by due time |
| `written` | sorted set | the ids of runs with a PENDING callback, by the time it was added, taken or made due |
| `callbacks:STATE` | sorted set | the ids of runs with this `callback_state`, by id |
| `claim:LENGTH:CLIENT:TEXT` | hash | an `IdempotencyRecord`; LENGTH is the length of CLIENT |
| `claims` | sorted set | the names of idempotency records, by `created_at` |
| `secret:NAME` | string | a secret shared by all replicas |
| `overrides` | hash | by provider, a `ProviderOverride` as JSON |
| `bulk_replay:ID` | hash | a `BulkReplay` |
| `bulk_replays` | sorted set | the ids of bulk replays, by `delete_at` |
| `budget:LENGTH:BUDGET:WINDOW` | hash | an account of a budget; `budgets` has them by the end of their window |
| `reservation:RUN` | hash | what a run has in the ledger of budgets |
| `reservations`, `settled` | sorted sets | the ids of runs with an open reservation, by the time of its next check; \
and with a settled one that may change, by the end of its window |
| `usage:KIND:DAY` | hash | `rows`: their number; of each row `n`, `s` and `u` before its values: runs, amounts |
| `usage` | sorted set | KIND:DAY of all days with usage, by day |
| `usage_writer:WRITER` | string | the number of the writer's last batch; expires after a day |
| `client_key:ID` | hash | a `StoredKey` |
| `client_keys`, `client_keys_of:CLIENT` | sorted set | the ids of keys of all clients, or of one, by `number` |
| `client_keys_changed`, `client_keys_ended` | sorted set | the ids of keys, by `revision`; by the time of their end |
| `client_key_digests`, `client_key_revision` | hash, string | ids of keys by digest; the newest revision |
| `audit` | hash | the head and the anchor of the chain of audit records |
| `audit_records` | sorted set | the hash of each `AuditRecord` and its content, by sequence number |
| `ping` | string | the value written by the last health check |
| `generation` | string | a random token, set when the store is opened for the first time |
| `changed` | channel | the id of each run that changes |
"""

from __future__ import annotations

LAYOUT_VERSION = 1
