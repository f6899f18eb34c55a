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
from gateway.redis.connection import RedisConnection
from gateway.redis.errors import RedisUnavailable
from gateway.redis.script import RedisArgument, RedisReply, RedisScript
from gateway.store.contract import (
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunFilter,
    StoredRun,
    StoreUnavailable,
)
from gateway.store.redis import codec, scripts
from gateway.store.redis.batches import ScriptBatcher
from gateway.store.redis.durability import check_durability
from gateway.store.redis.pubsub import ChangeSubscriber

LAYOUT_VERSION = 1
_PURGE_BATCH = 100  # runs, and claims, that go at once
_LIST_BATCH = 20  # rows that are read at once: they may be large


class RedisStore:
    """A `Store` on the server at the end of `link`, beside others that use the same server."""

    shared = True

    def __init__(self, connection: RedisConnection, clock: Clock, *, prefix: str = "runward:") -> None:
        self._connection = connection
        self._clock = clock
        self._prefix = prefix
        self._key_prefix = f"{prefix}{LAYOUT_VERSION}:"
        self._subscriber = ChangeSubscriber(connection, f"{self._key_prefix}changed", clock)
        self._write_batcher: ScriptBatcher | None = None
        self._read_batcher: ScriptBatcher | None = None
        self._durability_warning: str | None = None

    @property
    def durability_warning(self) -> str | None:
        """See `Store.weakness`."""
        return self._durability_warning

    @property
    def failing(self) -> bool:
        """See `Store.failing`."""
        return self._connection.failing

    async def open(self) -> None:
        """See `Store.open`."""
        try:
            durability = await check_durability(self._connection)
            read_batcher = ScriptBatcher(self._connection, self._key_prefix)
            await self._require_layout_version()
            await self._subscriber.open()
        except (StoreUnavailable, RedisUnavailable) as error:
            await self._connection.close()
            raise StoreUnavailable(str(error)) from None
        self._durability_warning = durability.warning
        self._read_batcher, self._write_batcher = (
            read_batcher,
            ScriptBatcher(self._connection, self._key_prefix, wait_for_fsync=durability.wait_for_fsync),
        )

    async def close(self) -> None:
        """See `Store.close`."""
        batchers, self._read_batcher, self._write_batcher = (self._read_batcher, self._write_batcher), None, None
        for each in batchers:
            if each is not None:
                await each.close()
        await self._subscriber.close()
        await self._connection.close()

    async def ping(self) -> None:
        """See `Store.ping`."""
        await self._write(scripts.PING, codec.encode_float(self._clock.now().timestamp()))

    async def create_run(self, run: StoredRun, key: IdempotencyKey | None) -> IdempotencyRecord | None:
        """See `Store.begin`."""
        record_key, fingerprint = (
            ("", b"") if key is None else (codec.idempotency_record_name(key.client, key.text), key.fingerprint)
        )
        times = codec.encode_float(run.created_at), run.owner, codec.encode_float(run.leased_until_at)
        reply = await self._write(
            scripts.CREATE_RUN, run.id, run.client, *times, record_key, fingerprint, *codec.encode_run(run)
        )
        if reply == 0:
            raise ValueError("there is a run with this id")
        return None if reply is None or key is None else codec.decode_idempotency_record(key.client, key.text, reply)

    async def advance(self, run: StoredRun) -> bool:
        """See `Store.advance`."""
        if run.phase is Phase.DONE:
            self._require_open(self._write_batcher)
            return False
        return await self._change_run(scripts.ADVANCE, run.id, run.owner, run.phase.value, *codec.encode_progress(run))

    async def revert_to_queued(self, run: StoredRun) -> bool:
        """See `Store.unsent`."""
        return await self._change_run(scripts.REVERT_TO_QUEUED, run.id, run.owner, run.attempts)

    async def finish(self, run_id: str, final_state: FinalState) -> bool:
        """See `Store.finish`."""
        fields, response = codec.encode_final_state(final_state), codec.encode_response(final_state.response)
        callback = [] if final_state.callback is None else [final_state.callback]
        times = codec.encode_float(final_state.finished_at), codec.encode_float(final_state.due_at)
        counts = len(fields), len(response)
        return await self._change_run(
            scripts.FINISH, run_id, final_state.owner, *times, *counts, *fields, *response, *callback
        )

    async def discard_run(self, run_id: str, *, owner: str) -> None:
        """See `Store.drop`."""
        await self._change_run(scripts.DISCARD_RUN, run_id, owner)

    async def get_run(self, run_id: str) -> StoredRun | None:
        """See `Store.run`."""
        return codec.decode_stored_run(await self._read(scripts.GET_RUN, run_id))

    async def list_runs(self, run_filter: RunFilter) -> list[StoredRun]:
        """See `Store.runs`. A script for each part of a long search, so that others get their turn in between."""
        before_at, before = run_filter.before or (float("inf"), "")
        position: list[RedisArgument] = [codec.encode_float(before_at), before]
        conditions = ["" if each is None else f"={each}" for each in (run_filter.status, run_filter.workflow)]
        found: list[StoredRun] = []
        while len(found) < run_filter.limit:
            page_size = min(_LIST_BATCH, run_filter.limit - len(found))
            page, *position = await self._read(scripts.LIST_RUNS, run_filter.client, *position, *conditions, page_size)
            found += codec.decode_stored_runs(page)
            if not position:
                break
        return found

    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        """See `Store.claim`."""
        return codec.decode_idempotency_record(
            client, text, await self._read(scripts.GET_IDEMPOTENCY_RECORD, codec.idempotency_record_name(client, text))
        )

    async def renew_leases(self, owner: str, until_at: float) -> None:
        """See `Store.renew`. A script for each few hundred runs, so that others get their turn in between."""
        after: RedisReply = "-"
        while after is not None:
            last = await self._write(scripts.RENEW_LEASES, owner, codec.encode_float(until_at), after)
            after = None if last is None else b"(" + last

    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        """See `Store.adopt`."""
        times = codec.encode_float(now_at), codec.encode_float(until_at)
        found = await self._write(scripts.ADOPT, owner, *times, limit, batch_id)
        return codec.decode_stored_runs(found)

    async def take_due_callbacks(self, *, now_at: float, until_at: float, limit: int) -> list[Delivery]:
        """See `Store.due`."""
        found = await self._write(
            scripts.TAKE_DUE_CALLBACKS, codec.encode_float(now_at), codec.encode_float(until_at), limit
        )
        return [codec.decode_delivery(row) for row in found]

    async def settle_callback(self, run_id: str, state: str) -> None:
        """See `Store.delivered`."""
        await self._change_run(scripts.SETTLE_CALLBACK, run_id, state)

    async def postpone_callback(self, run_id: str, *, due_at: float) -> None:
        """See `Store.postpone`."""
        if not await self._write(scripts.POSTPONE_CALLBACK, run_id, codec.encode_float(due_at)):
            raise KeyError(run_id)

    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        """See `Store.redeliver`."""
        return await self._change_run(scripts.REDELIVER_CALLBACK, run_id, codec.encode_float(now_at))

    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        """See `Store.called_back`."""
        return [run_id.decode() for run_id in await self._read(scripts.LIST_BY_CALLBACK_STATE, state, after, limit)]

    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        """See `Store.purge`."""
        deleted = 0
        before = codec.encode_float(runs_before_at), codec.encode_float(keys_before_at)
        while batch := await self._write(scripts.PURGE, *before, _PURGE_BATCH):
            deleted += batch
        return deleted

    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        """See `Store.secret`."""
        return bytes(await self._write(scripts.GET_OR_CREATE_SECRET, name, default))

    async def notify(self, name: str) -> None:
        """See `Store.tell`."""
        await self._read(scripts.NOTIFY, name)  # nothing is written, so nothing has to reach the disk

    def recently_notified(self, name: str) -> bool:
        """See `Store.told`."""
        return self._subscriber.recently_notified(name)

    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        """See `Store.wait`."""
        self._require_open(self._read_batcher)
        await self._subscriber.wait_for_change(run_ids, seconds)

    async def _require_layout_version(self) -> None:
        found = await ScriptBatcher(self._connection, self._prefix).execute(scripts.GET_OR_SET_LAYOUT, LAYOUT_VERSION)
        if int(found) > LAYOUT_VERSION:
            raise StoreUnavailable(
                f"the server has layout {int(found)}, and this version of Runward knows {LAYOUT_VERSION}"
            )

    async def _change_run(self, script: RedisScript, run_id: str, *arguments: RedisArgument) -> bool:
        """Run a script that changes a run, which is told to who waits here at once."""
        try:
            return bool(await self._write(script, run_id, *arguments))
        finally:
            self._subscriber.notify(run_id)

    async def _write(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        return await self._require_open(self._write_batcher).execute(script, *arguments)

    async def _read(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        return await self._require_open(self._read_batcher).execute(script, *arguments)

    @staticmethod
    def _require_open(batcher: ScriptBatcher | None) -> ScriptBatcher:
        if batcher is None:
            raise StoreUnavailable("the store is not open")
        return batcher
