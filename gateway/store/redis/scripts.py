"""Lua scripts of the Redis store. Each operation of the store is one script, which the server executes atomically."""

from __future__ import annotations

from pathlib import Path

from gateway.redis.lua_script import RedisScript
from gateway.store.history import MAX_TIMELINE
from gateway.store.redis.codec import (
    DELIVERY_FIELDS,
    IDEMPOTENCY_RECORD_FIELDS,
    OVERVIEW_STORED_FIELDS,
    RUN_FIELDS,
)
from gateway.store.usage import MAX_ROWS

_LUA_FOLDER = Path(__file__).parent / "lua"


def _lua_table(name: str, values: tuple[str, ...]) -> str:
    return f"local {name} = {{{', '.join(repr(word) for word in values)}}}\n"


def _load(name: str, *helpers: str) -> RedisScript:
    """Return the script of this name; `helpers` name texts that define functions for it."""
    tables = (
        _lua_table("FIELDS", tuple(field.name for field in RUN_FIELDS)),
        _lua_table("OVERVIEW", tuple(field.name for field in OVERVIEW_STORED_FIELDS)),
        _lua_table("CLAIM", IDEMPOTENCY_RECORD_FIELDS),
        _lua_table("DELIVERY", DELIVERY_FIELDS),
        f"local MAX_TIMELINE = {MAX_TIMELINE}\nlocal MAX_USAGE_ROWS = {MAX_ROWS}\n",
    )
    texts = ((_LUA_FOLDER / f"{part}.lua").read_text() for part in ("prelude", *helpers, name))
    return RedisScript.from_text("".join((*tables, *texts)))


GET_RUN = _load("get_run")
GET_OVERVIEW = _load("get_overview")
GET_DOCUMENT = _load("get_document")
GET_IDEMPOTENCY_RECORD = _load("get_idempotency_record")
CREATE_RUN = _load("create_run")
ADVANCE = _load("advance")
FINISH = _load("finish", "usage", "end_run")
REVISE = _load("revise", "usage", "end_run")
CANCEL_QUEUED = _load("cancel_queued", "usage", "end_run")
DISCARD_RUN = _load("discard_run")
LIST_RUNS = _load("list_runs")
RENEW_LEASES = _load("renew_leases")
ADOPT = _load("adopt")
TAKE_DUE_CALLBACKS = _load("take_due_callbacks")
LOAD_CALLBACK = _load("load_callback")
SETTLE_CALLBACK = _load("settle_callback")
POSTPONE_CALLBACK = _load("postpone_callback")
REDELIVER_CALLBACK = _load("redeliver_callback")
PURGE = _load("purge")
ADD_HISTORY = _load("add_history", "usage")
PURGE_HISTORY = _load("purge_history")
PURGE_CONTENT = _load("purge_content")
GET_TIMELINE = _load("get_timeline")
SET_ACTIVITIES = _load("set_activities")
JUDGE = _load("judge")
IS_INDEXED = _load("is_indexed")
INDEX_RUNS = _load("index_runs")
REVERT_TO_QUEUED = _load("revert_to_queued")
LIST_BY_CALLBACK_STATE = _load("list_by_callback_state")
NOTIFY = _load("notify")
MARK_COLLECTED = _load("mark_collected")
GET_OR_CREATE_SECRET = _load("get_or_create_secret")
SET_OVERRIDE = _load("set_override")
REMOVE_OVERRIDE = _load("remove_override")
LIST_OVERRIDES = _load("list_overrides")
TAKE_UNANNOUNCED = _load("take_unannounced")
MARK_ANNOUNCED = _load("mark_announced")
ADD_BULK_REPLAY = _load("add_bulk_replay")
GET_BULK_REPLAY = _load("get_bulk_replay")
LIST_RUNNING_BULK_REPLAYS = _load("list_running_bulk_replays")
CHANGE_BULK_REPLAY = _load("change_bulk_replay")
PURGE_BULK_REPLAYS = _load("purge_bulk_replays")
RESERVE = _load("reserve", "budget_accounts")
SETTLE = _load("settle", "budget_accounts")
GET_BALANCES = _load("get_balances", "budget_accounts")
TAKE_UNSETTLED = _load("take_unsettled")
PURGE_BUDGETS = _load("purge_budgets")
ADD_USAGE = _load("add_usage", "usage")
GET_USAGE = _load("get_usage")
PURGE_USAGE = _load("purge_usage")
ADD_CLIENT_KEY = _load("add_client_key", "client_keys")
GET_CLIENT_KEY = _load("get_client_key", "client_keys")
FIND_CLIENT_KEY = _load("find_client_key", "client_keys")
CHANGE_CLIENT_KEY = _load("change_client_key", "client_keys")
LIST_CLIENT_KEYS = _load("list_client_keys", "client_keys")
LIST_ENDING_CLIENT_KEYS = _load("list_ending_client_keys", "client_keys")
READ_CLIENT_KEY_CHANGES = _load("read_client_key_changes", "client_keys")
NOTE_CLIENT_KEY_USES = _load("note_client_key_uses", "client_keys")
PURGE_CLIENT_KEYS = _load("purge_client_keys", "client_keys")
GET_AUDIT_STATE = _load("get_audit_state")
APPEND_AUDIT = _load("append_audit")
LIST_AUDIT = _load("list_audit")
PURGE_AUDIT = _load("purge_audit")
PING = _load("ping")
GET_OR_SET_GENERATION = _load("get_or_set_generation")
GET_OR_SET_LAYOUT = _load("get_or_set_layout")
