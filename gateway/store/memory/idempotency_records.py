"""Idempotency records of the memory store."""

from __future__ import annotations

from dataclasses import replace

from gateway.store.records import IdempotencyKey, IdempotencyRecord, StoredResponse, StoredRun


class IdempotencyRecords:
    """Records by client and text of their key, and by their run."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], IdempotencyRecord] = {}
        self._keys_by_run: dict[str, tuple[str, str]] = {}

    def get(self, client: str, text: str) -> IdempotencyRecord | None:
        """Implement `Store.get_idempotency_record`."""
        return self._records.get((client, text))

    def add(self, key: IdempotencyKey, run: StoredRun) -> None:
        """Add the record of a new key."""
        record_key = (key.client, key.text)
        self._records[record_key] = IdempotencyRecord(key, run.id, run.created_at)
        self._keys_by_run[run.id] = record_key

    def set_response(self, run_id: str, response: StoredResponse | None) -> None:
        """Set the response of the record of a run, if there is a record and a response."""
        record_key = self._key_of_run(run_id)
        if record_key is not None and response is not None:
            self._records[record_key] = replace(self._records[record_key], response=response)

    def remove_of_run(self, run_id: str) -> None:
        """Delete the record of a run, if it has one."""
        record_key = self._key_of_run(run_id)
        if record_key is not None:
            del self._records[record_key]

    def unlink_run(self, run_id: str) -> None:
        """Forget the link from a deleted run to its record; the record is kept until it expires."""
        self._keys_by_run.pop(run_id, None)

    def purge(self, before_at: float) -> int:
        """Delete records created before this time; returns their number."""
        old = [name for name, record in self._records.items() if record.created_at < before_at]
        for name in old:
            del self._records[name]
        return len(old)

    def _key_of_run(self, run_id: str) -> tuple[str, str] | None:
        """Return the key of a run; None if its record was deleted, or the key belongs to a later run."""
        record_key = self._keys_by_run.get(run_id)
        return record_key if record_key in self._records and self._records[record_key].run_id == run_id else None
