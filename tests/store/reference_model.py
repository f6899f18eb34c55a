"""Reference model of a store: lists with linear search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.store.records import (
    PENDING,
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunOverview,
    StoredRun,
)
from gateway.store.run_filter import RunFilter


@dataclass
class ReferenceCallback:
    """Callback; `due_at` is None once it is settled."""

    delivery: Delivery
    due_at: float | None
    body: bytes
    written_at: float


class ReferenceStore:
    """Reference implementation of `Store` without waiting; it stays open."""

    def __init__(self) -> None:
        self.stored_runs: list[StoredRun] = []
        self.tags: dict[str, set[str]] = {}
        self.records: list[IdempotencyRecord] = []
        self.callbacks: list[ReferenceCallback] = []
        self.batch_ids: dict[str, int] = {}

    def reopen(self) -> None:
        """Close and reopen the store: all leases expire."""
        self.stored_runs = [
            run if run.phase == Phase.DONE else replace(run, leased_until_at=0.0) for run in self.stored_runs
        ]

    def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        if key is not None:
            claim = self.get_idempotency_record(key.client, key.text)
            if claim is not None:
                return claim
        if self.get_run(run.id) is not None:
            raise ValueError
        self.stored_runs.append(run)
        self.tags[run.id] = set(tags)
        if key is not None:
            self.records.append(IdempotencyRecord(key, run.id, run.created_at))
        return None

    def advance(self, run: StoredRun) -> bool:
        kept = self.get_run(run.id)
        if kept is None or (kept.owner, kept.phase <= run.phase < Phase.DONE) != (run.owner, True):
            return False
        self._write(
            replace(
                kept,
                phase=run.phase,
                status=run.status,
                attempts=run.attempts,
                provider=run.provider,
                provider_run_id=run.provider_run_id,
            )
        )
        return True

    def revert_to_queued(self, run: StoredRun) -> bool:
        kept = self.get_run(run.id)
        if kept is None or (kept.owner, kept.phase, kept.attempts) != (run.owner, Phase.SENDING, run.attempts):
            return False
        self._write(replace(kept, phase=Phase.QUEUED))
        return True

    def finish(self, run_id: str, final_state: FinalState) -> bool:
        run = self.get_run(run_id)
        if run is None or run.phase == Phase.DONE or run.owner != final_state.owner:
            return False
        return self._end(run, final_state)

    def revise(self, run_id: str, final_state: FinalState) -> bool:
        run = self.get_run(run_id)
        if run is None or (run.phase == Phase.DONE and run.status != "unknown"):
            return False
        return self._end(run, final_state)

    def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        run = self.get_run(run_id)
        if run is None:
            return CancelResult.NOT_FOUND
        if run.phase != Phase.QUEUED:
            return CancelResult.TOO_LATE
        self._end(run, final_state)
        return CancelResult.ENDED

    def _end(self, run: StoredRun, final_state: FinalState) -> bool:
        run_id = run.id
        has_callback = run.callback_url is not None and final_state.callback is not None
        self._write(
            replace(
                run,
                phase=Phase.DONE,
                status=final_state.status,
                document=final_state.document,
                finished_at=final_state.finished_at,
                attempts=final_state.attempts,
                provider_run_id=final_state.provider_run_id,
                details=final_state.details,
                callback_state=PENDING if has_callback else run.callback_state,
            )
        )
        if final_state.response is not None:
            self.records = [
                replace(c, response=final_state.response) if c.run_id == run_id else c for c in self.records
            ]
        if run.callback_url is not None and final_state.callback is not None:
            earlier = self._callback(run_id)
            revision = 0 if earlier is None else earlier.delivery.revision + 1
            self.callbacks = [each for each in self.callbacks if each is not earlier]
            delivery = Delivery(
                run.id, run.client, run.callback_url, len(final_state.callback), final_state.finished_at, 0, revision
            )
            due_at = final_state.finished_at if final_state.callback_due_at is None else final_state.callback_due_at
            self.callbacks.append(ReferenceCallback(delivery, due_at, final_state.callback, final_state.finished_at))
        return True

    def discard_run(self, run_id: str, owner: str) -> None:
        run = self.get_run(run_id)
        if run is not None and run.phase != Phase.DONE and run.owner == owner:
            self.stored_runs.remove(run)
            self.records = [claim for claim in self.records if claim.run_id != run_id]

    def get_run(self, run_id: str) -> StoredRun | None:
        return next((run for run in self.stored_runs if run.id == run_id), None)

    def list_runs(self, run_filter: RunFilter) -> list[RunOverview]:
        runs = [run for run in self.stored_runs if run_filter.client in {None, run.client}]
        for name in ("status", "workflow", "provider", "provider_run_id"):
            wanted = getattr(run_filter, name)
            runs = [run for run in runs if wanted is None or getattr(run, name) == wanted]
        runs = [run for run in runs if set(run_filter.tags) <= self.tags[run.id]]
        if run_filter.created_from is not None:
            runs = [run for run in runs if run.created_at >= run_filter.created_from]
        if run_filter.min_duration is not None:
            runs = [
                run
                for run in runs
                if run.finished_at is not None and run.finished_at - run.created_at >= run_filter.min_duration
            ]
        for name, value in run_filter.metadata:
            runs = [run for run in runs if b'{"metadata":{"%b":"%b"}}' % (name.encode(), value.encode()) == run.details]
        if run_filter.before is not None:
            runs = [run for run in runs if (run.created_at, run.id) < run_filter.before]
        newest = sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)
        return [run.overview for run in newest[: run_filter.limit]]

    def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        return next((c for c in self.records if (c.key.client, c.key.text) == (client, text)), None)

    def renew_leases(self, owner: str, until_at: float) -> None:
        for run in list(self.stored_runs):
            if run.owner == owner and run.phase != Phase.DONE:
                self._write(replace(run, leased_until_at=until_at))

    def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int) -> list[StoredRun]:
        working = sorted(
            (run for run in self.stored_runs if run.phase != Phase.DONE), key=lambda run: (run.created_at, run.id)
        )
        taken = [
            run for run in working if run.owner == owner and batch_id > 0 and self.batch_ids.get(run.id) == batch_id
        ]
        orphans = [run for run in working if run.owner != owner and run.leased_until_at <= now_at]
        found = [replace(run, owner=owner, leased_until_at=until_at) for run in taken + orphans][:limit]
        for run in found:
            self.batch_ids[run.id] = batch_id
            self._write(run)
        return found

    def take_due_callbacks(self, *, now_at: float, until_at: float, limit: int, latest_at: float) -> list[Delivery]:
        for each in self.callbacks:
            if each.due_at is not None and each.written_at > latest_at:
                each.due_at = each.written_at = now_at
        pending = [(each.due_at, each.delivery.run_id, each) for each in self.callbacks if each.due_at is not None]
        due = [each for due_at, _, each in sorted(pending, key=lambda entry: entry[:2]) if due_at <= now_at][:limit]
        for each in due:
            each.due_at, each.written_at = until_at, now_at
        return [replace(each.delivery, taken_until_at=until_at) for each in due]

    def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        callback = self._callback(delivery.run_id)
        if callback is None or callback.delivery.revision != delivery.revision:
            return None
        if callback.due_at != delivery.taken_until_at:
            return None
        callback.due_at = until_at
        return callback.body

    def settle_callback(self, run_id: str, state: str, revision: int) -> None:
        callback = self._callback(run_id)
        if callback is not None and (callback.due_at is not None, callback.delivery.revision) == (True, revision):
            callback.due_at = None
            self._set_state(run_id, state)

    def postpone_callback(self, run_id: str, *, due_at: float, revision: int) -> None:
        callback = self._callback(run_id)
        if callback is None or callback.due_at is None or callback.delivery.revision != revision:
            raise KeyError
        callback.delivery = replace(callback.delivery, attempts=callback.delivery.attempts + 1)
        callback.due_at = due_at

    def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        callback = self._callback(run_id)
        if callback is None:
            return False
        callback.delivery = replace(callback.delivery, attempts=0)
        callback.due_at = callback.written_at = now_at
        self._set_state(run_id, PENDING)
        return True

    def list_by_callback_state(self, state: str, *, limit: int, after: str) -> list[str]:
        return sorted(run.id for run in self.stored_runs if run.callback_state == state and run.id > after)[:limit]

    def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        before = len(self.stored_runs) + len(self.records)
        self.stored_runs = [
            run
            for run in self.stored_runs
            if run.finished_at is None or run.finished_at >= runs_before_at or run.callback_state == PENDING
        ]
        self.callbacks = [each for each in self.callbacks if self.get_run(each.delivery.run_id) is not None]
        self.records = [claim for claim in self.records if claim.created_at >= keys_before_at]
        return before - len(self.stored_runs) - len(self.records)

    def _callback(self, run_id: str) -> ReferenceCallback | None:
        return next((each for each in self.callbacks if each.delivery.run_id == run_id), None)

    def _set_state(self, run_id: str, state: str) -> None:
        run = self.get_run(run_id)
        assert run is not None
        self._write(replace(run, callback_state=state))

    def _write(self, run: StoredRun) -> None:
        self.stored_runs = [run if kept.id == run.id else kept for kept in self.stored_runs]
