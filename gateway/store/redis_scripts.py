"""The changes that the Redis store makes: each is one Lua script, which the server runs whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

from gateway.store.contract import StoredRun

Word: TypeAlias = bytes | str | int | float

_FOLDER = Path(__file__).parent / "redis_lua"

RUN = tuple(field.name for field in fields(StoredRun))
"""The fields of a run's hash, in the order in which scripts return them."""

CLAIM = ("fingerprint", "run_id", "created_at", "status", "headers", "body")
"""The fields of a claim's hash."""

DELIVERY = ("id", "client", "callback_url", "callback_body", "finished_at", "callback_attempts")
"""The fields of a run's hash that make a `Delivery`."""


@dataclass(frozen=True, slots=True)
class Script:
    """Lua, and the SHA-1 under which a server knows it. Its first key is the prefix of all others."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Name a text as the server does."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _table(name: str, words: tuple[str, ...]) -> str:
    return f"local {name} = {{{', '.join(repr(word) for word in words)}}}\n"


def _read(name: str) -> Script:
    tables = _table("FIELDS", RUN) + _table("CLAIM", CLAIM) + _table("DELIVERY", DELIVERY)
    return Script.of(tables + (_FOLDER / "prelude.lua").read_text() + (_FOLDER / f"{name}.lua").read_text())


RUN_OF = _read("run")
CLAIM_OF = _read("claim")
BEGIN = _read("begin")
ADVANCE = _read("advance")
FINISH = _read("finish")
DROP = _read("drop")
LIST = _read("list")
RENEW = _read("renew")
ADOPT = _read("adopt")
DUE = _read("due")
SETTLE = _read("settle")
POSTPONE = _read("postpone")
REDELIVER = _read("redeliver")
PURGE = _read("purge")
UNSENT = _read("unsent")
CALLED_BACK = _read("called_back")
TELL = _read("tell")
SECRET = _read("secret")
PING = _read("ping")
LAYOUT = _read("layout")
