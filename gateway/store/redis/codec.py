"""Runs, claims and deliveries as Redis keeps them: every value is text or bytes, and what is None is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from gateway.redis.script import RedisArgument
from gateway.store.contract import (
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    StoredResponse,
    StoredRun,
)
from gateway.store.redis.scripts import RUN_FIELDS


def _decode_text(value: bytes) -> str:
    return value.decode()


# How a field of a run is read, where it is not text.
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "order": bytes,
    "document": bytes,
    "created_at": float,
    "deadline_at": float,
    "leased_until_at": float,
    "finished_at": float,
    "attempts": int,
    "phase": lambda value: Phase(int(value)),
}
_RUN_DECODERS = tuple(_DECODERS.get(name, _decode_text) for name in RUN_FIELDS)


def encode_float(value: float) -> str:
    """Write a float so that it is read as the same one."""
    return repr(value)


def decode_stored_run(row: Sequence[bytes | None]) -> StoredRun | None:
    """Read the fields of a run, in their order; None where there is none."""
    if row[0] is None:
        return None
    fields: list[Any] = [None if value is None else read(value) for read, value in zip(_RUN_DECODERS, row, strict=True)]
    return StoredRun(*fields)


def decode_stored_runs(rows: Sequence[Sequence[bytes | None]]) -> list[StoredRun]:
    """Read many."""
    return [run for run in map(decode_stored_run, rows) if run is not None]


def encode_run(run: StoredRun) -> list[RedisArgument]:
    """Write all of a run: names and values in turn."""
    return list(_flatten((name, getattr(run, name)) for name in RUN_FIELDS))


def encode_progress(run: StoredRun) -> list[RedisArgument]:
    """Write what `Store.advance` is about, without the phase."""
    names = ("status", "attempts", "provider", "provider_run_id")
    return list(_flatten((name, getattr(run, name)) for name in names))


def encode_final_state(final_state: FinalState) -> list[RedisArgument]:
    """Write what becomes of a run that ends."""
    names = ("status", "document", "finished_at", "attempts", "provider_run_id")
    return list(_flatten((name, getattr(final_state, name)) for name in names))


def encode_response(response: StoredResponse | None) -> list[RedisArgument]:
    """Write an answer, where there is one."""
    if response is None:
        return []
    return ["status", response.status, "headers", orjson.dumps(response.headers), "body", response.body]


def idempotency_record_name(client: str, text: str) -> str:
    """Name a claim; no other client and text have the same."""
    return f"{len(client)}:{client}:{text}"


def decode_idempotency_record(client: str, text: str, row: Sequence[bytes | None]) -> IdempotencyRecord | None:
    """Read the fields of a claim; None where there is none."""
    fingerprint, run_id, created_at, status, headers, body = row
    if fingerprint is None or run_id is None or created_at is None:
        return None
    response = None
    if status is not None and headers is not None and body is not None:
        response = StoredResponse(int(status), tuple((name, value) for name, value in orjson.loads(headers)), body)
    return IdempotencyRecord(IdempotencyKey(client, text, fingerprint), run_id.decode(), float(created_at), response)


def decode_delivery(row: Sequence[bytes]) -> Delivery:
    """Read the fields of a delivery."""
    run_id, client, url, body, created_at, attempts = row
    return Delivery(run_id.decode(), client.decode(), url.decode(), body, float(created_at), int(attempts))


def _flatten(fields: Iterator[tuple[str, Any]]) -> Iterator[RedisArgument]:
    for name, value in fields:
        if value is not None:
            yield name
            yield value if isinstance(value, bytes | str) else _encode_number(value)


def _encode_number(value: Any) -> RedisArgument:
    return encode_float(value) if isinstance(value, float) else int(value)
