"""Runs, claims and deliveries as Redis keeps them: every value is text or bytes, and what is None is not there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

from gateway.store.contract import Answer, Claim, Delivery, Finish, Key, Phase, StoredRun
from gateway.store.redis_scripts import RUN, Word


def _text(value: bytes) -> str:
    return value.decode()


# How a field of a run is read, where it is not text.
_READ: dict[str, Callable[[bytes], Any]] = {
    "order": bytes,
    "document": bytes,
    "created_at": float,
    "deadline_at": float,
    "leased_until_at": float,
    "finished_at": float,
    "attempts": int,
    "phase": lambda value: Phase(int(value)),
}
_READERS = tuple(_READ.get(name, _text) for name in RUN)


def number(value: float) -> str:
    """Write a float so that it is read as the same one."""
    return repr(value)


def stored_run(row: Sequence[bytes | None]) -> StoredRun | None:
    """Read the fields of a run, in their order; None where there is none."""
    if row[0] is None:
        return None
    fields: list[Any] = [None if value is None else read(value) for read, value in zip(_READERS, row, strict=True)]
    return StoredRun(*fields)


def stored_runs(found: Sequence[Sequence[bytes | None]]) -> list[StoredRun]:
    """Read many."""
    return [run for run in map(stored_run, found) if run is not None]


def written_run(run: StoredRun) -> list[Word]:
    """Write all of a run: names and values in turn."""
    return list(_pairs((name, getattr(run, name)) for name in RUN))


def written_step(run: StoredRun) -> list[Word]:
    """Write what `Store.advance` is about, without the phase."""
    names = ("status", "attempts", "provider", "provider_run_id")
    return list(_pairs((name, getattr(run, name)) for name in names))


def written_end(end: Finish) -> list[Word]:
    """Write what becomes of a run that ends."""
    names = ("status", "document", "finished_at", "attempts", "provider_run_id")
    return list(_pairs((name, getattr(end, name)) for name in names))


def written_answer(answer: Answer | None) -> list[Word]:
    """Write an answer, where there is one."""
    if answer is None:
        return []
    return ["status", answer.status, "headers", orjson.dumps(answer.headers), "body", answer.body]


def claim_name(client: str, text: str) -> str:
    """Name a claim; no other client and text have the same."""
    return f"{len(client)}:{client}:{text}"


def claim(client: str, text: str, row: Sequence[bytes | None]) -> Claim | None:
    """Read the fields of a claim; None where there is none."""
    fingerprint, run_id, created_at, status, headers, body = row
    if fingerprint is None or run_id is None or created_at is None:
        return None
    answer = None
    if status is not None and headers is not None and body is not None:
        answer = Answer(int(status), tuple((name, value) for name, value in orjson.loads(headers)), body)
    return Claim(Key(client, text, fingerprint), run_id.decode(), float(created_at), answer)


def delivery(row: Sequence[bytes]) -> Delivery:
    """Read the fields of a delivery."""
    run_id, client, url, body, created_at, attempts = row
    return Delivery(run_id.decode(), client.decode(), url.decode(), body, float(created_at), int(attempts))


def _pairs(fields: Iterator[tuple[str, Any]]) -> Iterator[Word]:
    for name, value in fields:
        if value is not None:
            yield name
            yield value if isinstance(value, bytes | str) else _number(value)


def _number(value: Any) -> Word:
    return number(value) if isinstance(value, float) else int(value)
