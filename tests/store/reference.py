"""What a store promises, written down as plainly as possible: lists, searched from end to end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.store.contract import PENDING, Claim, Delivery, Filter, Finish, Key, Phase, StoredRun


@dataclass
class Callback:
    """`due_at` is None once it is settled."""

    delivery: Delivery
    due_at: float | None


class Reference:
    """The methods of `Store` without the waiting; it stays open."""

    def __init__(self) -> None:
        self.kept: list[StoredRun] = []
        self.claims: list[Claim] = []
        self.callbacks: list[Callback] = []
        self.turns: dict[str, int] = {}

    def reopen(self) -> None:
        """Close and open: nobody has a lease any more."""
        self.kept = [run if run.phase == Phase.DONE else replace(run, leased_until_at=0.0) for run in self.kept]

    def begin(self, run: StoredRun, key: Key | None) -> Claim | None:
        if key is not None:
            claim = self.claim(key.client, key.text)
            if claim is not None:
                return claim
        if self.run(run.id) is not None:
            raise ValueError
        self.kept.append(run)
        if key is not None:
            self.claims.append(Claim(key, run.id, run.created_at))
        return None

    def advance(self, run: StoredRun) -> bool:
        kept = self.run(run.id)
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

    def unsent(self, run: StoredRun) -> bool:
        kept = self.run(run.id)
        if kept is None or (kept.owner, kept.phase, kept.attempts) != (run.owner, Phase.SENDING, run.attempts):
            return False
        self._write(replace(kept, phase=Phase.QUEUED))
        return True

    def finish(self, run_id: str, end: Finish) -> bool:
        run = self.run(run_id)
        if run is None or run.phase == Phase.DONE or run.owner != end.owner:
            return False
        called = run.callback_url is not None and end.callback is not None
        self._write(
            replace(
                run,
                phase=Phase.DONE,
                status=end.status,
                document=end.document,
                finished_at=end.finished_at,
                attempts=end.attempts,
                provider_run_id=end.provider_run_id,
                callback_state=PENDING if called else None,
            )
        )
        if end.answer is not None:
            self.claims = [replace(c, answer=end.answer) if c.run_id == run_id else c for c in self.claims]
        if run.callback_url is not None and end.callback is not None:
            delivery = Delivery(run.id, run.client, run.callback_url, end.callback, end.finished_at, 0)
            due_at = end.finished_at if end.callback_due_at is None else end.callback_due_at
            self.callbacks.append(Callback(delivery, due_at))
        return True

    def drop(self, run_id: str, owner: str) -> None:
        run = self.run(run_id)
        if run is not None and run.phase != Phase.DONE and run.owner == owner:
            self.kept.remove(run)
            self.claims = [claim for claim in self.claims if claim.run_id != run_id]

    def run(self, run_id: str) -> StoredRun | None:
        return next((run for run in self.kept if run.id == run_id), None)

    def runs(self, wanted: Filter) -> list[StoredRun]:
        runs = [run for run in self.kept if run.client == wanted.client]
        if wanted.status is not None:
            runs = [run for run in runs if run.status == wanted.status]
        if wanted.workflow is not None:
            runs = [run for run in runs if run.workflow == wanted.workflow]
        if wanted.before is not None:
            runs = [run for run in runs if (run.created_at, run.id) < wanted.before]
        return sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)[: wanted.limit]

    def claim(self, client: str, text: str) -> Claim | None:
        return next((c for c in self.claims if (c.key.client, c.key.text) == (client, text)), None)

    def renew(self, owner: str, until_at: float) -> None:
        for run in list(self.kept):
            if run.owner == owner and run.phase != Phase.DONE:
                self._write(replace(run, leased_until_at=until_at))

    def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, turn: int) -> list[StoredRun]:
        working = sorted(
            (run for run in self.kept if run.phase != Phase.DONE), key=lambda run: (run.created_at, run.id)
        )
        taken = [run for run in working if run.owner == owner and turn > 0 and self.turns.get(run.id) == turn]
        orphans = [run for run in working if run.owner != owner and run.leased_until_at <= now_at]
        found = [replace(run, owner=owner, leased_until_at=until_at) for run in taken + orphans][:limit]
        for run in found:
            self.turns[run.id] = turn
            self._write(run)
        return found

    def due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        pending = [(each.due_at, each.delivery.run_id, each) for each in self.callbacks if each.due_at is not None]
        due = [each for due_at, _, each in sorted(pending, key=lambda entry: entry[:2]) if due_at <= now_at][:limit]
        for each in due:
            each.due_at = until_at
        return [each.delivery for each in due]

    def delivered(self, run_id: str, state: str) -> None:
        callback = self._callback(run_id)
        if callback is not None and callback.due_at is not None:
            callback.due_at = None
            self._set_state(run_id, state)

    def postpone(self, run_id: str, *, due_at: float) -> None:
        callback = self._callback(run_id)
        if callback is None or callback.due_at is None:
            raise KeyError
        callback.delivery = replace(callback.delivery, attempts=callback.delivery.attempts + 1)
        callback.due_at = due_at

    def redeliver(self, run_id: str, *, now_at: float) -> bool:
        callback = self._callback(run_id)
        if callback is None:
            return False
        callback.delivery = replace(callback.delivery, attempts=0)
        callback.due_at = now_at
        self._set_state(run_id, PENDING)
        return True

    def called_back(self, state: str, *, limit: int, after: str) -> list[str]:
        return sorted(run.id for run in self.kept if run.callback_state == state and run.id > after)[:limit]

    def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        before = len(self.kept) + len(self.claims)
        self.kept = [
            run
            for run in self.kept
            if run.finished_at is None or run.finished_at >= runs_before_at or run.callback_state == PENDING
        ]
        self.callbacks = [each for each in self.callbacks if self.run(each.delivery.run_id) is not None]
        self.claims = [claim for claim in self.claims if claim.created_at >= keys_before_at]
        return before - len(self.kept) - len(self.claims)

    def _callback(self, run_id: str) -> Callback | None:
        return next((each for each in self.callbacks if each.delivery.run_id == run_id), None)

    def _set_state(self, run_id: str, state: str) -> None:
        run = self.run(run_id)
        assert run is not None
        self._write(replace(run, callback_state=state))

    def _write(self, run: StoredRun) -> None:
        self.kept = [run if kept.id == run.id else kept for kept in self.kept]
