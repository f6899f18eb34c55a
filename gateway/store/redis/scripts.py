"""The changes that the Redis store makes: each is one Lua script, which the server runs whole or not at all."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from gateway.redis.script import RedisScript
from gateway.store.contract import StoredRun

_LUA_FOLDER = Path(__file__).parent / "lua"

RUN_FIELDS = tuple(field.name for field in fields(StoredRun))
"""The fields of a run's hash, in the order in which scripts return them."""

CLAIM_FIELDS = ("fingerprint", "run_id", "created_at", "status", "headers", "body")
"""The fields of a claim's hash."""

DELIVERY_FIELDS = ("id", "client", "callback_url", "callback_body", "finished_at", "callback_attempts")
"""The fields of a run's hash that make a `Delivery`."""


def _lua_table(name: str, values: tuple[str, ...]) -> str:
    return f"local {name} = {{{', '.join(repr(word) for word in values)}}}\n"


def _load(name: str) -> RedisScript:
    tables = (
        _lua_table("FIELDS", RUN_FIELDS) + _lua_table("CLAIM", CLAIM_FIELDS) + _lua_table("DELIVERY", DELIVERY_FIELDS)
    )
    return RedisScript.from_text(
        tables + (_LUA_FOLDER / "prelude.lua").read_text() + (_LUA_FOLDER / f"{name}.lua").read_text()
    )


GET_RUN = _load("get_run")
GET_IDEMPOTENCY_RECORD = _load("get_idempotency_record")
CREATE_RUN = _load("create_run")
ADVANCE = _load("advance")
FINISH = _load("finish")
DISCARD_RUN = _load("discard_run")
LIST_RUNS = _load("list_runs")
RENEW_LEASES = _load("renew_leases")
ADOPT = _load("adopt")
TAKE_DUE_CALLBACKS = _load("take_due_callbacks")
SETTLE_CALLBACK = _load("settle_callback")
POSTPONE_CALLBACK = _load("postpone_callback")
REDELIVER_CALLBACK = _load("redeliver_callback")
PURGE = _load("purge")
REVERT_TO_QUEUED = _load("revert_to_queued")
LIST_BY_CALLBACK_STATE = _load("list_by_callback_state")
NOTIFY = _load("notify")
GET_OR_CREATE_SECRET = _load("get_or_create_secret")
PING = _load("ping")
GET_OR_SET_LAYOUT = _load("get_or_set_layout")
