"""The store for replicas: one Redis or Valkey server that all of them use.

Every change is one Lua script. All keys begin with `runward:1:`, where 1 is the version of this layout:

| key | type | what |
|---|---|---|
| `layout` | string | the version of the newest layout that was used here (the prefix is `runward:`) |
| `run:ID` | hash | a `StoredRun`; its claim's name; its callback's body and attempts; the turn that adopted it |
| `runs:CLIENT` | sorted set | the ids of a client's runs, by `created_at` |
| `leases` | sorted set | the ids of unfinished runs, by `leased_until_at` |
| `owned:OWNER` | sorted set | the ids of an owner's unfinished runs, by id |
| `taken:OWNER:TURN` | set | the ids of what was adopted in one turn; gone after a day |
| `ended` | sorted set | the ids of runs with nothing left to be done, by `finished_at` |
| `due` | sorted set | the ids of runs whose callback is PENDING, by when it is due |
| `callbacks:STATE` | sorted set | the ids of runs of whose callback that became, by id |
| `claim:LENGTH:CLIENT:TEXT` | hash | a `Claim`; the length is the client's |
| `claims` | sorted set | the names of claims, by `created_at` |
| `secret:NAME` | string | a secret that all replicas share |
| `ping` | string | what was last written to prove that it can be |
| `changed` | channel | the id of each run that changes |

An index that holds nothing is gone. One server holds all keys: Redis Cluster is not supported.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import Clock
from gateway.store import redis_rows as rows
from gateway.store import redis_scripts as scripts
from gateway.store.contract import Claim, Delivery, Filter, Finish, Key, Phase, StoredRun, StoreUnavailable
from gateway.store.redis_batches import Batches
from gateway.store.redis_hearing import Hearing
from gateway.store.redis_link import RedisLink, Reply
from gateway.store.redis_look import look
from gateway.store.redis_scripts import Script, Word

LAYOUT = 1
_PURGED = 100  # runs, and claims, that go at once
_LISTED = 20  # rows that are read at once: they may be large


class RedisStore:
    """A `Store` on the server at the end of `link`, beside others that use the same server."""

    shared = True

    def __init__(self, link: RedisLink, clock: Clock, *, prefix: str = "runward:") -> None:
        self._link = link
        self._clock = clock
        self._prefix = prefix
        self._keys = f"{prefix}{LAYOUT}:"
        self._hearing = Hearing(link, f"{self._keys}changed", clock)
        self._writes: Batches | None = None
        self._reads: Batches | None = None
        self._weakness: str | None = None

    @property
    def weakness(self) -> str | None:
        """See `Store.weakness`."""
        return self._weakness

    @property
    def failing(self) -> bool:
        """See `Store.failing`."""
        return self._link.failing

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            durability = await look(self._link)
            reads = Batches(self._link, self._keys)
            await self._require_layout()
            await self._hearing.open()
        except StoreUnavailable:
            await self._link.close()
            raise
        self._weakness = durability.weakness
        self._reads, self._writes = reads, Batches(self._link, self._keys, until_on_disk=durability.wait)

    async def close(self) -> None:
        """See `Store.close`."""
        batches, self._reads, self._writes = (self._reads, self._writes), None, None
        for each in batches:
            if each is not None:
                await each.close()
        await self._hearing.close()
        await self._link.close()

    async def ping(self) -> None:
        """See `Store.ping`."""
        await self._write(scripts.PING, rows.number(self._clock.now().timestamp()))

    async def begin(self, run: StoredRun, key: Key | None) -> Claim | None:
        """See `Store.begin`."""
        name, fingerprint = ("", b"") if key is None else (rows.claim_name(key.client, key.text), key.fingerprint)
        times = rows.number(run.created_at), run.owner, rows.number(run.leased_until_at)
        reply = await self._write(scripts.BEGIN, run.id, run.client, *times, name, fingerprint, *rows.written_run(run))
        if reply == 0:
            raise ValueError("there is a run with this id")
        return None if reply is None or key is None else rows.claim(key.client, key.text, reply)

    async def advance(self, run: StoredRun) -> bool:
        """See `Store.advance`."""
        if run.phase is Phase.DONE:
            self._required(self._writes)
            return False
        return await self._change(scripts.ADVANCE, run.id, run.owner, run.phase.value, *rows.written_step(run))

    async def unsent(self, run: StoredRun) -> bool:
        """See `Store.unsent`."""
        return await self._change(scripts.UNSENT, run.id, run.owner, run.attempts)

    async def finish(self, run_id: str, finish: Finish) -> bool:
        """See `Store.finish`."""
        end, answer = rows.written_end(finish), rows.written_answer(finish.answer)
        callback = [] if finish.callback is None else [finish.callback]
        times = rows.number(finish.finished_at), rows.number(finish.due_at)
        counts = len(end), len(answer)
        return await self._change(scripts.FINISH, run_id, finish.owner, *times, *counts, *end, *answer, *callback)

    async def drop(self, run_id: str, *, owner: str) -> None:
        """See `Store.drop`."""
        await self._change(scripts.DROP, run_id, owner)

    async def run(self, run_id: str) -> StoredRun | None:
        """See `Store.run`."""
        return rows.stored_run(await self._read(scripts.RUN_OF, run_id))

    async def runs(self, filter: Filter) -> list[StoredRun]:  # noqa: A002 - the contract's word
        """See `Store.runs`. A script for each part of a long search, so that others get their turn in between."""
        before_at, before = filter.before or (float("inf"), "")
        position: list[Word] = [rows.number(before_at), before]
        wanted = ["" if each is None else f"={each}" for each in (filter.status, filter.workflow)]
        found: list[StoredRun] = []
        while len(found) < filter.limit:
            most = min(_LISTED, filter.limit - len(found))
            page, *position = await self._read(scripts.LIST, filter.client, *position, *wanted, most)
            found += rows.stored_runs(page)
            if not position:
                break
        return found

    async def claim(self, client: str, text: str) -> Claim | None:
        """See `Store.claim`."""
        return rows.claim(client, text, await self._read(scripts.CLAIM_OF, rows.claim_name(client, text)))

    async def renew(self, owner: str, until_at: float) -> None:
        """See `Store.renew`. A script for each few hundred runs, so that others get their turn in between."""
        after: Reply = "-"
        while after is not None:
            last = await self._write(scripts.RENEW, owner, rows.number(until_at), after)
            after = None if last is None else b"(" + last

    async def adopt(self, owner: str, *, now_at: float, until_at: float, limit: int, turn: int = 0) -> list[StoredRun]:
        """See `Store.adopt`."""
        times = rows.number(now_at), rows.number(until_at)
        found = await self._write(scripts.ADOPT, owner, *times, limit, turn)
        return rows.stored_runs(found)

    async def due(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        found = await self._write(scripts.DUE, rows.number(now_at), rows.number(until_at), limit)
        return [rows.delivery(row) for row in found]

    async def delivered(self, run_id: str, state: str) -> None:
        """See `Store.delivered`."""
        await self._change(scripts.SETTLE, run_id, state)

    async def postpone(self, run_id: str, *, due_at: float) -> None:
        """See `Store.postpone`."""
        if not await self._write(scripts.POSTPONE, run_id, rows.number(due_at)):
            raise KeyError(run_id)

    async def redeliver(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""
        return await self._change(scripts.REDELIVER, run_id, rows.number(now_at))

    async def called_back(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        return [run_id.decode() for run_id in await self._read(scripts.CALLED_BACK, state, after, limit)]

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """See `Store.purge`."""
        gone = 0
        before = rows.number(runs_before_at), rows.number(keys_before_at)
        while batch := await self._write(scripts.PURGE, *before, _PURGED):
            gone += batch
        return gone

    async def secret(self, name: str, fresh: bytes) -> bytes:
        """See `Store.secret`."""
        return bytes(await self._write(scripts.SECRET, name, fresh))

    async def tell(self, name: str) -> None:
        """See `Store.tell`."""
        await self._read(scripts.TELL, name)  # nothing is written, so nothing has to reach the disk

    def told(self, name: str) -> bool:
        """See `Store.told`."""
        return self._hearing.told(name)

    async def wait(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._required(self._reads)
        await self._hearing.wait(run_ids, seconds)

    async def _require_layout(self) -> None:
        found = await Batches(self._link, self._prefix).run(scripts.LAYOUT, LAYOUT)
        if int(found) > LAYOUT:
            raise StoreUnavailable(f"the server has layout {int(found)}, and this version of Runward knows {LAYOUT}")

    async def _change(self, script: Script, run_id: str, *words: Word) -> bool:
        """Run a script that changes a run, which is told to who waits here at once."""
        try:
            return bool(await self._write(script, run_id, *words))
        finally:
            self._hearing.tell(run_id)

    async def _write(self, script: Script, *words: Word) -> Reply:
        return await self._required(self._writes).run(script, *words)

    async def _read(self, script: Script, *words: Word) -> Reply:
        return await self._required(self._reads).run(script, *words)

    @staticmethod
    def _required(batches: Batches | None) -> Batches:
        if batches is None:
            raise StoreUnavailable("the store is not open")
        return batches
