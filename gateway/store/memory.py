"""The store that ends with the process: for tests, and for those who need nothing to outlive it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from heapq import nlargest, nsmallest

from gateway.clock import Clock
from gateway.store.changes import Changes
from gateway.store.contract import PENDING, Claim, Delivery, Filter, Finish, Key, Phase, StoredRun, StoreUnavailable
from gateway.store.memory_callbacks import Callbacks
from gateway.store.memory_claims import Claims

_ADVANCED = ("phase", "status", "attempts", "provider", "provider_run_id")
_FINISHED = ("status", "document", "finished_at", "attempts", "provider_run_id")


class MemoryStore:
    """A `Store` in dictionaries. What it holds stays when it is closed and opened again."""

    shared = False
    weakness = "it is kept in memory only (store.url is memory://)"
    failing = False

    def __init__(self, clock: Clock) -> None:
        self._changes = Changes(clock)
        self._open = False
        self._runs: dict[str, StoredRun] = {}
        self._unfinished: set[str] = set()
        self._claims = Claims()
        self._callbacks = Callbacks()
        self._turns: dict[str, int] = {}  # in which an unfinished run was adopted by its owner
        self._secrets: dict[str, bytes] = {}

    async def open(self) -> None:
        """See `Store.open`."""
        self._open = True
        for run in self._working():
            self._keep(replace(run, leased_until_at=0.0))

    async def close(self) -> None:
        """See `Store.close`."""
        self._open = False

    async def ping(self) -> None:
        """See `Store.ping`."""
        self._require_open()

    async def begin(self, run: StoredRun, key: Key | None) -> Claim | None:
        """See `Store.begin`."""
        self._require_open()
        claim = None if key is None else self._claims.find(key.client, key.text)
        if claim is not None:
            return claim
        if run.id in self._runs:
            raise ValueError("there is a run with this id")
        self._keep(run)
        self._unfinished.add(run.id)
        if key is not None:
            self._claims.add(key, run)
        return None

    async def advance(self, run: StoredRun) -> bool:
        """See `Store.advance`."""
        self._require_open()
        kept = self._runs.get(run.id)
        if kept is None or kept.owner != run.owner or kept.phase > run.phase or run.phase is Phase.DONE:
            return False
        self._keep(replace(kept, **{name: getattr(run, name) for name in _ADVANCED}))
        self._changes.tell(run.id)
        return True

    async def unsent(self, run: StoredRun) -> bool:
        """See `Store.unsent`."""
        self._require_open()
        kept = self._runs.get(run.id)
        wanted = (run.owner, Phase.SENDING, run.attempts)
        if kept is None or (kept.owner, kept.phase, kept.attempts) != wanted:
            return False
        self._keep(replace(kept, phase=Phase.QUEUED))
        self._changes.tell(run.id)
        return True

    async def finish(self, run_id: str, finish: Finish) -> bool:
        """See `Store.finish`."""
        self._require_open()
        if not self._works_on(run_id, finish.owner):
            return False
        self._unfinished.discard(run_id)
        self._turns.pop(run_id, None)
        ending = {name: getattr(finish, name) for name in _FINISHED}
        run = self._keep(replace(self._runs[run_id], phase=Phase.DONE, **ending))
        self._claims.answer(run_id, finish.answer)
        self._call_back(run, finish)
        self._changes.tell(run_id)
        return True

    async def drop(self, run_id: str, *, owner: str) -> None:
        """See `Store.drop`."""
        self._require_open()
        if self._works_on(run_id, owner):
            self._claims.drop(run_id)
            self._forget(run_id)
            self._changes.tell(run_id)

    async def run(self, run_id: str) -> StoredRun | None:
        """See `Store.run`."""
        self._require_open()
        return self._runs.get(run_id)

    async def runs(self, filter: Filter) -> list[StoredRun]:  # noqa: A002 - the contract's word
        """See `Store.runs`."""
        self._require_open()
        return nlargest(filter.limit, (run for run in self._runs.values() if _fits(run, filter)), key=_age)

    async def claim(self, client: str, text: str) -> Claim | None:
        """See `Store.claim`."""
        self._require_open()
        return self._claims.find(client, text)

    async def renew(self, owner: str, until_at: float) -> None:
        """See `Store.renew`."""
        self._require_open()
        for run in self._working():
            if run.owner == owner:
                self._keep(replace(run, leased_until_at=until_at))

    async def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, turn: int = 0) -> list[StoredRun]:
        """See `Store.adopt`."""
        self._require_open()
        wanted = [
            run
            for run in self._working()
            if (turn and self._turns.get(run.id) == turn if run.owner == owner else run.leased_until_at <= now_at)
        ]
        found = nsmallest(limit, wanted, key=lambda run: (run.owner != owner, *_age(run)))
        self._turns |= {run.id: turn for run in found}
        return [self._keep(replace(run, owner=owner, leased_until_at=until_at)) for run in found]

    async def due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        self._require_open()
        return self._callbacks.take(now_at=now_at, until_at=until_at, limit=limit)

    async def delivered(self, run_id: str, state: str) -> None:
        """See `Store.delivered`."""
        self._require_open()
        if self._callbacks.pending(run_id):
            self._callbacks.settle(run_id)
            self._set_callback_state(run_id, state)

    async def postpone(self, run_id: str, *, due_at: float) -> None:
        """See `Store.postpone`."""
        self._require_open()
        self._callbacks.postpone(run_id, due_at)

    async def redeliver(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""
        self._require_open()
        found = self._callbacks.revive(run_id, now_at)
        if found:
            self._set_callback_state(run_id, PENDING)
        return found

    async def called_back(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        self._require_open()
        return nsmallest(limit, (r.id for r in self._runs.values() if r.callback_state == state and r.id > after))

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """See `Store.purge`."""
        self._require_open()
        ended = [
            run.id
            for run in self._runs.values()
            if run.finished_at is not None and run.finished_at < runs_before_at and not self._callbacks.pending(run.id)
        ]
        for run_id in ended:
            self._forget(run_id)
        return len(ended) + self._claims.purge(keys_before_at)

    async def tell(self, name: str) -> None:
        """See `Store.tell`."""
        self._require_open()
        self._changes.tell(name)

    async def secret(self, name: str, fresh: bytes) -> bytes:
        """See `Store.secret`."""
        self._require_open()
        return self._secrets.setdefault(name, fresh)

    def told(self, name: str) -> bool:
        """See `Store.told`."""
        return self._changes.told(name)

    async def wait(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._require_open()
        await self._changes.wait(run_ids, seconds)

    def _working(self) -> list[StoredRun]:
        return [self._runs[run_id] for run_id in self._unfinished]

    def _works_on(self, run_id: str, owner: str) -> bool:
        return run_id in self._unfinished and self._runs[run_id].owner == owner

    def _keep(self, run: StoredRun) -> StoredRun:
        self._runs[run.id] = run
        return run

    def _forget(self, run_id: str) -> None:
        del self._runs[run_id]
        self._unfinished.discard(run_id)
        self._turns.pop(run_id, None)
        self._claims.forget_run(run_id)
        self._callbacks.forget(run_id)

    def _call_back(self, run: StoredRun, finish: Finish) -> None:
        if run.callback_url is not None and finish.callback is not None:
            delivery = Delivery(run.id, run.client, run.callback_url, finish.callback, finish.finished_at, 0)
            self._callbacks.add(delivery, due_at=finish.due_at)
            self._set_callback_state(run.id, PENDING)

    def _set_callback_state(self, run_id: str, state: str) -> None:
        self._keep(replace(self._runs[run_id], callback_state=state))
        self._changes.tell(run_id)

    def _require_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the store is not open")


def _age(run: StoredRun) -> tuple[float, str]:
    return run.created_at, run.id


def _fits(run: StoredRun, wanted: Filter) -> bool:
    return (
        run.client == wanted.client
        and wanted.status in {None, run.status}
        and wanted.workflow in {None, run.workflow}
        and (wanted.before is None or _age(run) < wanted.before)
    )
