"""The claims of the store in memory: which run an Idempotency-Key stands for."""

from __future__ import annotations

from dataclasses import replace

from gateway.store.contract import IdempotencyKey, IdempotencyRecord, StoredResponse, StoredRun


class MemoryIdempotencyRecords:
    """By client and text, and by the run that claimed them."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], IdempotencyRecord] = {}
        self._keys_by_run: dict[str, tuple[str, str]] = {}

    def get(self, client: str, text: str) -> IdempotencyRecord | None:
        """See `Store.claim`."""
        return self._records.get((client, text))

    def add(self, key: IdempotencyKey, run: StoredRun) -> None:
        """Keep a claim for a key that has none."""
        record_key = (key.client, key.text)
        self._records[record_key] = IdempotencyRecord(key, run.id, run.created_at)
        self._keys_by_run[run.id] = record_key

    def set_response(self, run_id: str, response: StoredResponse | None) -> None:
        """Keep the answer, where the run claimed a key and has one."""
        record_key = self._key_of_run(run_id)
        if record_key is not None and response is not None:
            self._records[record_key] = replace(self._records[record_key], response=response)

    def remove_of_run(self, run_id: str) -> None:
        """Free the key of a run, where it has one."""
        record_key = self._key_of_run(run_id)
        if record_key is not None:
            del self._records[record_key]

    def unlink_run(self, run_id: str) -> None:
        """The run is gone; its claim stays until it is old."""
        self._keys_by_run.pop(run_id, None)

    def purge(self, before_at: float) -> int:
        """Forget old claims; returns how many."""
        old = [name for name, claim in self._records.items() if claim.created_at < before_at]
        for name in old:
            del self._records[name]
        return len(old)

    def _key_of_run(self, run_id: str) -> tuple[str, str] | None:
        """What the run claimed, unless that was forgotten; the key may be another run's by now."""
        record_key = self._keys_by_run.get(run_id)
        return record_key if record_key in self._records and self._records[record_key].run_id == run_id else None
