"""Encryption at rest: a store whose payloads are encrypted in the store that it wraps.

Encrypted are the order and the document of a run, the body of its callback, and of its idempotency record the
fingerprint and the body of the response. All else is stored as it is, so that runs can be listed, leased and searched.
Values that were stored in clear stay readable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from math import inf
from typing import Any, TypeAlias, TypeVar

from typing_extensions import override

from gateway.observability.logger_protocol import Logger
from gateway.store.content_cipher import OVERHEAD, ContentCipher
from gateway.store.contract import ContentUnreadable, Store
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import (
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    RunOverview,
    RunPage,
    StoredRun,
)
from gateway.store.run_filter import RunFilter

T = TypeVar("T")
_Result: TypeAlias = Coroutine[Any, Any, T]

_ORDER, _DOCUMENT, _CALLBACK, _RESPONSE, _FINGERPRINT = "order", "document", "callback", "response", "fingerprint"


def ignore_kind(_kind: str) -> None:
    """Do nothing."""


class EncryptedStore(Store):
    """`inner` with payloads encrypted by `cipher`. Without keys new payloads are stored in clear.

    Reading a payload that cannot be decrypted raises ContentUnreadable, is logged, and passes its kind to
    `on_unreadable`. Only `adopt` returns a run with such a payload as it is stored, because it returns other runs too.
    """

    def __init__(
        self, inner: Store, cipher: ContentCipher, log: Logger, on_unreadable: Callable[[str], None] = ignore_kind
    ) -> None:
        self.inner = inner
        self.announcements = inner.announcements
        self.bulk_replays = inner.bulk_replays
        self.budgets = inner.budgets
        self.usage = inner.usage
        self.client_keys = inner.client_keys
        self.audit = inner.audit
        self._cipher = cipher
        self._log = log
        self._on_unreadable = on_unreadable

    def reconfigure(self, cipher: ContentCipher) -> None:
        """Use other keys from now on; a key that is no longer configured is logged: its values cannot be read."""
        removed = self._cipher.key_ids - cipher.key_ids
        if removed:
            self._log.warning("content_keys_removed", keys=sorted(key.hex() for key in removed))
        self._cipher = cipher

    @property
    @override
    def shared(self) -> bool:
        return self.inner.shared

    @property
    @override
    def durability_warning(self) -> str | None:
        return self.inner.durability_warning

    @property
    @override
    def failing(self) -> bool:
        return self.inner.failing

    @override
    async def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        if self._cipher.encrypts:
            run, key = self._encrypt_run(run), key and self._encrypt_key(key, run.id)
        existing = await self.inner.create_run(run, key, tags)
        return None if existing is None else self._decrypt_record(existing)

    @override
    def finish(self, run_id: str, final_state: FinalState) -> Awaitable[bool]:
        return self.inner.finish(run_id, self._encrypt_end(run_id, final_state))

    @override
    async def revise(self, run_id: str, final_state: FinalState) -> bool:
        return await self.inner.revise(run_id, self._encrypt_end(run_id, final_state))

    @override
    async def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        return await self.inner.cancel_queued(run_id, self._encrypt_end(run_id, final_state))

    @override
    async def get_run(self, run_id: str) -> StoredRun | None:
        run = await self.inner.get_run(run_id)
        return None if run is None else self._decrypt_run(run)

    @override
    async def get_document(self, run_id: str) -> bytes | None:
        document = await self.inner.get_document(run_id)
        return None if document is None else self._decrypt(document, run_id, _DOCUMENT)

    @override
    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        record = await self.inner.get_idempotency_record(client, text)
        return None if record is None else self._decrypt_record(record)

    @override
    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        adopted = await self.inner.adopt(owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        return [self._decrypt_if_readable(run) for run in adopted]

    @override
    async def take_due_callbacks(
        self, *, now_at: float, until_at: float, limit: int, latest_at: float = inf
    ) -> list[Delivery]:
        taken = await self.inner.take_due_callbacks(now_at=now_at, until_at=until_at, limit=limit, latest_at=latest_at)
        if not self._cipher.encrypts:
            return taken
        return [replace(delivery, size=max(0, delivery.size - OVERHEAD)) for delivery in taken]

    @override
    async def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        body = await self.inner.load_callback(delivery, until_at=until_at)
        return None if body is None else self._decrypt(body, delivery.run_id, _CALLBACK)

    @override
    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        if self._cipher.encrypts:
            entries = [entry if entry.content_until_at is None else self._encrypt_entry(entry) for entry in entries]
        await self.inner.add_history(entries)

    def _encrypt_entry(self, entry: HistoryEntry) -> HistoryEntry:
        return replace(entry, run=self._encrypt_run(entry.run))

    def _encrypt_run(self, run: StoredRun) -> StoredRun:
        order, document = self._cipher.encrypt(run.order, _ORDER, run.id), run.document
        if document is not None:
            document = self._cipher.encrypt(document, _DOCUMENT, run.id)
        return replace(run, order=order, document=document)

    def _encrypt_key(self, key: IdempotencyKey, run_id: str) -> IdempotencyKey:
        """Encrypt the fingerprint: from a hash of the request, a guess of its contents could be confirmed."""
        return replace(
            key, fingerprint=self._cipher.encrypt(key.fingerprint, _FINGERPRINT, run_id, key.client, key.text)
        )

    def _encrypt_end(self, run_id: str, final_state: FinalState) -> FinalState:
        if not self._cipher.encrypts:
            return final_state
        response, callback = final_state.response, final_state.callback
        if response is not None:
            response = replace(response, body=self._cipher.encrypt(response.body, _RESPONSE, run_id))
        if callback is not None:
            callback = self._cipher.encrypt(callback, _CALLBACK, run_id)
        document = self._cipher.encrypt(final_state.document, _DOCUMENT, run_id)
        return replace(final_state, document=document, response=response, callback=callback)

    def _decrypt(self, value: bytes, run_id: str, kind: str, *binding: str) -> bytes:
        try:
            return self._cipher.decrypt(value, kind, run_id, *binding)
        except ContentUnreadable as error:
            self._on_unreadable(kind)
            self._log.error("content_unreadable", run_id=run_id, content=kind, reason=str(error))
            raise

    def _decrypt_run(self, run: StoredRun) -> StoredRun:
        order, document = self._decrypt(run.order, run.id, _ORDER), run.document
        if document is not None:
            document = self._decrypt(document, run.id, _DOCUMENT)
        if order is run.order and document is run.document:
            return run
        return replace(run, order=order, document=document)

    def _decrypt_if_readable(self, run: StoredRun) -> StoredRun:
        try:
            return self._decrypt_run(run)
        except ContentUnreadable:
            return run

    def _decrypt_record(self, record: IdempotencyRecord) -> IdempotencyRecord:
        key, response, run_id = record.key, record.response, record.run_id
        fingerprint = self._decrypt(key.fingerprint, run_id, _FINGERPRINT, key.client, key.text)
        if response is not None:
            response = replace(response, body=self._decrypt(response.body, run_id, _RESPONSE))
        return replace(record, key=replace(key, fingerprint=fingerprint), response=response)

    # What has no payload. Each method returns the coroutine of `inner`, so that it costs no second one.

    @override
    def open(self) -> _Result[None]:
        return self.inner.open()

    @override
    def close(self) -> _Result[None]:
        return self.inner.close()

    @override
    def ping(self) -> _Result[None]:
        return self.inner.ping()

    @override
    def advance(self, run: StoredRun, events: bytes = b"") -> Awaitable[bool]:
        return self.inner.advance(run, events)

    @override
    def revert_to_queued(self, run: StoredRun) -> _Result[bool]:
        return self.inner.revert_to_queued(run)

    @override
    def discard_run(self, run_id: str, *, owner: str) -> _Result[None]:
        return self.inner.discard_run(run_id, owner=owner)

    @override
    def get_overview(self, run_id: str) -> _Result[RunOverview | None]:
        return self.inner.get_overview(run_id)

    @override
    def list_runs(self, run_filter: RunFilter) -> _Result[RunPage]:
        return self.inner.list_runs(run_filter)

    @override
    def renew_leases(self, owner: str, until_at: float) -> _Result[None]:
        return self.inner.renew_leases(owner, until_at)

    @override
    def settle_callback(self, run_id: str, state: str, *, revision: int = 0, events: bytes = b"") -> _Result[None]:
        return self.inner.settle_callback(run_id, state, revision=revision, events=events)

    @override
    def postpone_callback(self, run_id: str, *, due_at: float, revision: int = 0, events: bytes = b"") -> _Result[None]:
        return self.inner.postpone_callback(run_id, due_at=due_at, revision=revision, events=events)

    @override
    def redeliver_callback(self, run_id: str, *, now_at: float) -> _Result[bool]:
        return self.inner.redeliver_callback(run_id, now_at=now_at)

    @override
    def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> _Result[list[str]]:
        return self.inner.list_by_callback_state(state, limit=limit, after=after)

    @override
    def purge(self, *, runs_before_at: float, keys_before_at: float) -> _Result[int]:
        return self.inner.purge(runs_before_at=runs_before_at, keys_before_at=keys_before_at)

    @override
    def mark_collected(self, run_id: str) -> _Result[bool]:
        return self.inner.mark_collected(run_id)

    @override
    def get_or_create_secret(self, name: str, default: bytes) -> _Result[bytes]:
        return self.inner.get_or_create_secret(name, default)

    @override
    def set_override(self, override: ProviderOverride) -> _Result[None]:
        return self.inner.set_override(override)

    @override
    def remove_override(self, provider: str) -> _Result[None]:
        return self.inner.remove_override(provider)

    @override
    def list_overrides(self) -> _Result[list[ProviderOverride]]:
        return self.inner.list_overrides()

    @override
    def add_successes(self, records: Sequence[SuccessRecord]) -> _Result[None]:
        return self.inner.add_successes(records)

    @override
    def purge_history(self, *, before_at: float, most: int) -> _Result[int]:
        return self.inner.purge_history(before_at=before_at, most=most)

    @override
    def purge_content(self, *, before_at: float) -> _Result[int]:
        return self.inner.purge_content(before_at=before_at)

    @override
    def get_timeline(self, run_id: str) -> _Result[bytes | None]:
        return self.inner.get_timeline(run_id)

    @override
    def set_activities(self, owner: str, activities: Sequence[tuple[str, bytes]]) -> _Result[None]:
        return self.inner.set_activities(owner, activities)

    @override
    def judge(self, run_id: str, judgement: bytes) -> _Result[bool]:
        return self.inner.judge(run_id, judgement)

    @override
    def notify(self, name: str) -> _Result[None]:
        return self.inner.notify(name)

    @override
    def recently_notified(self, name: str) -> bool:
        return self.inner.recently_notified(name)

    @override
    def recent_suffix(self, prefix: str) -> str | None:
        return self.inner.recent_suffix(prefix)

    @override
    def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> _Result[None]:
        return self.inner.wait_for_change(run_ids, seconds)
