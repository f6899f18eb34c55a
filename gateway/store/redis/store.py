"""Redis store: one Redis or Valkey server, shared by all replicas.

Every operation is one Lua script. `layout` has the keys.

Earlier versions do not write `runs:`, `tagged:0::TAG`, `status:STATUS` and `unfinished`: after `open`, a task
adds the runs that are missing from them, if `runs:` has fewer runs than there are. Until then, lists of all clients are
without such runs.

An empty index does not exist. One server holds all keys: Redis Cluster is not supported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from math import inf

from typing_extensions import override

from gateway.clock import Clock
from gateway.redis.connection import RedisConnection
from gateway.redis.errors import RedisUnavailable
from gateway.redis.lua_script import RedisArgument, RedisReply, RedisScript
from gateway.store.audit import AuditStore
from gateway.store.budgets import BudgetStore
from gateway.store.bulk_replay import BulkReplayStore
from gateway.store.client_key import ClientKeyStore
from gateway.store.contract import Store, StoreReplaced, StoreUnavailable
from gateway.store.history import HistoryEntry, SuccessRecord
from gateway.store.provider_override import ProviderOverride
from gateway.store.records import (
    CancelResult,
    Delivery,
    FinalState,
    IdempotencyKey,
    IdempotencyRecord,
    Phase,
    RunOverview,
    RunPage,
    StoredRun,
)
from gateway.store.redis import codec, scripts
from gateway.store.redis.announcements import RedisAnnouncements
from gateway.store.redis.audit import RedisAudit
from gateway.store.redis.budgets import RedisBudgets
from gateway.store.redis.bulk_replays import RedisBulkReplays
from gateway.store.redis.client_keys import RedisClientKeys
from gateway.store.redis.durability import check_durability
from gateway.store.redis.layout import LAYOUT_VERSION
from gateway.store.redis.pubsub import ChangeSubscriber
from gateway.store.redis.run_index import complete_index
from gateway.store.redis.run_search import search_runs
from gateway.store.redis.script_executor import ScriptBatcher, translate_store_error
from gateway.store.redis.usage import RedisUsage
from gateway.store.run_filter import RunFilter
from gateway.store.usage import UsageStore

_PURGE_BATCH = 100  # runs, and idempotency records, deleted by one script
_HISTORY_BATCH = 100  # runs recorded by one script
_ACTIVITY_BATCH = 200  # activities set by one script


class RedisStore(Store):
    """A `Store` on a Redis server, shared with other processes."""

    shared = True

    def __init__(self, connection: RedisConnection, clock: Clock, *, prefix: str = "runward:") -> None:
        self._connection = connection
        self._clock = clock
        self.announcements = RedisAnnouncements(self._write)
        self._prefix = prefix
        self._key_prefix = f"{prefix}{LAYOUT_VERSION}:"
        self._subscriber = ChangeSubscriber(connection, f"{self._key_prefix}changed", clock)
        self.bulk_replays: BulkReplayStore = RedisBulkReplays(self._write_generation, self._read)
        self.budgets: BudgetStore = RedisBudgets(self._write_generation, self._write_behind)
        self.usage: UsageStore = RedisUsage(self._write, self._read)
        self.client_keys: ClientKeyStore = RedisClientKeys(self._write_generation, self._read)
        self.audit: AuditStore = RedisAudit(self._write_generation, self._read)
        self._write_batcher: ScriptBatcher | None = None
        self._read_batcher: ScriptBatcher | None = None
        self._indexing: asyncio.Task[None] | None = None
        self._durability_warning: str | None = None
        self._generation = b""
        self._replaced = False  # as the last script found that checks the generation

    @property
    @override
    def durability_warning(self) -> str | None:
        return self._durability_warning

    @property
    @override
    def failing(self) -> bool:
        return self._connection.failing or self._replaced

    @override
    async def open(self) -> None:
        try:
            durability = await check_durability(self._connection)
            read_batcher = ScriptBatcher(self._connection, self._key_prefix)
            write_batcher = ScriptBatcher(self._connection, self._key_prefix, wait_for_fsync=durability.wait_for_fsync)
            await self._require_layout_version()
            token = self._clock.token(16).hex()
            self._generation = bytes(await write_batcher.execute(scripts.GET_OR_SET_GENERATION, token))
            await self._subscriber.open()
        except (StoreUnavailable, RedisUnavailable) as error:
            await self._connection.close()
            raise (error if isinstance(error, StoreUnavailable) else translate_store_error(error)) from None
        self._durability_warning, self._replaced = durability.warning, False
        self._read_batcher, self._write_batcher = read_batcher, write_batcher
        self._indexing = asyncio.create_task(complete_index(read_batcher))

    @override
    async def close(self) -> None:
        if self._indexing is not None:
            self._indexing.cancel()
            await asyncio.wait([self._indexing])
        batchers, self._read_batcher, self._write_batcher = (self._read_batcher, self._write_batcher), None, None
        for each in batchers:
            if each is not None:
                await each.close()
        await self._subscriber.close()
        await self._connection.close()

    @override
    async def ping(self) -> None:
        await self._write_generation(scripts.PING, codec.encode_float(self._clock.now().timestamp()))

    @override
    async def create_run(
        self, run: StoredRun, key: IdempotencyKey | None, tags: Sequence[str] = ()
    ) -> IdempotencyRecord | None:
        record_key, fingerprint = (
            ("", b"") if key is None else (codec.idempotency_record_name(key.client, key.text), key.fingerprint)
        )
        times = codec.encode_float(run.created_at), run.owner, codec.encode_float(run.leased_until_at)
        names = record_key, fingerprint, run.status, " ".join(tags)
        reply = await self._write_generation(
            scripts.CREATE_RUN, run.id, run.client, *times, *names, *codec.encode_run(run)
        )
        if reply == 0:
            raise ValueError("a run with this id exists")
        return None if reply is None or key is None else codec.decode_idempotency_record(key.client, key.text, reply)

    @override
    async def advance(self, run: StoredRun, events: bytes = b"") -> bool:
        if run.phase is Phase.DONE:
            self._require_open(self._write_batcher)
            return False
        state = run.owner, run.phase.value, run.status, events
        return await self._change_run(scripts.ADVANCE, run.id, *state, *codec.encode_progress(run))

    @override
    async def revert_to_queued(self, run: StoredRun) -> bool:
        return await self._change_run(scripts.REVERT_TO_QUEUED, run.id, run.owner, run.attempts)

    @override
    async def finish(self, run_id: str, final_state: FinalState) -> bool:
        return bool(await self._end_run(scripts.FINISH, run_id, final_state))

    @override
    async def revise(self, run_id: str, final_state: FinalState) -> bool:
        return bool(await self._end_run(scripts.REVISE, run_id, final_state))

    @override
    async def cancel_queued(self, run_id: str, final_state: FinalState) -> CancelResult:
        return CancelResult(await self._end_run(scripts.CANCEL_QUEUED, run_id, final_state))

    async def _end_run(self, script: RedisScript, run_id: str, final_state: FinalState) -> int:
        fields, response = codec.encode_final_state(final_state), codec.encode_response(final_state.response)
        callback = [] if final_state.callback is None else [final_state.callback]
        times = codec.encode_float(final_state.finished_at), codec.encode_float(final_state.due_at)
        ended = final_state.status, final_state.events, codec.encode_usage(final_state.usage)
        arguments = (*times, *ended, len(fields), len(response), *fields, *response, *callback)
        return int(await self._change(script, run_id, final_state.owner, *arguments))

    @override
    async def discard_run(self, run_id: str, *, owner: str) -> None:
        await self._change_run(scripts.DISCARD_RUN, run_id, owner)

    @override
    async def get_run(self, run_id: str) -> StoredRun | None:
        return codec.decode_stored_run(await self._read(scripts.GET_RUN, run_id))

    @override
    async def get_overview(self, run_id: str) -> RunOverview | None:
        return codec.decode_overview(await self._read(scripts.GET_OVERVIEW, run_id))

    @override
    async def get_document(self, run_id: str) -> bytes | None:
        document: bytes | None = await self._read(scripts.GET_DOCUMENT, run_id)
        return document

    @override
    async def list_runs(self, run_filter: RunFilter) -> RunPage:
        return await search_runs(self._read, run_filter)

    @override
    async def get_idempotency_record(self, client: str, text: str) -> IdempotencyRecord | None:
        return codec.decode_idempotency_record(
            client, text, await self._read(scripts.GET_IDEMPOTENCY_RECORD, codec.idempotency_record_name(client, text))
        )

    @override
    async def renew_leases(self, owner: str, until_at: float) -> None:
        # One script for each few hundred runs, so that other scripts can run in between.
        after: RedisReply = "-"
        while after is not None:
            last = await self._write_generation(scripts.RENEW_LEASES, owner, codec.encode_float(until_at), after)
            after = None if last is None else b"(" + last

    @override
    async def adopt(
        self, owner: str, *, now_at: float, until_at: float, limit: int, batch_id: int = 0
    ) -> list[StoredRun]:
        times = codec.encode_float(now_at), codec.encode_float(until_at)
        found = await self._write(scripts.ADOPT, owner, *times, limit, batch_id)
        return codec.decode_stored_runs(found)

    @override
    async def take_due_callbacks(
        self, *, now_at: float, until_at: float, limit: int, latest_at: float = inf
    ) -> list[Delivery]:
        times = (codec.encode_float(each) for each in (now_at, until_at, latest_at))
        found = await self._write(scripts.TAKE_DUE_CALLBACKS, *times, limit)
        return [codec.decode_delivery(row, size, taken_until_at=until_at) for row, size in found]

    @override
    async def load_callback(self, delivery: Delivery, *, until_at: float) -> bytes | None:
        times = codec.encode_float(delivery.taken_until_at), codec.encode_float(until_at)
        body: bytes | None = await self._write(scripts.LOAD_CALLBACK, delivery.run_id, delivery.revision, *times)
        return body

    @override
    async def settle_callback(self, run_id: str, state: str, *, revision: int = 0, events: bytes = b"") -> None:
        await self._change_run(scripts.SETTLE_CALLBACK, run_id, state, revision, events)

    @override
    async def postpone_callback(self, run_id: str, *, due_at: float, revision: int = 0, events: bytes = b"") -> None:
        if not await self._write(scripts.POSTPONE_CALLBACK, run_id, codec.encode_float(due_at), revision, events):
            raise KeyError(run_id)

    @override
    async def redeliver_callback(self, run_id: str, *, now_at: float) -> bool:
        return await self._change_run(scripts.REDELIVER_CALLBACK, run_id, codec.encode_float(now_at))

    @override
    async def list_by_callback_state(self, state: str, *, limit: int, after: str = "") -> list[str]:
        return [run_id.decode() for run_id in await self._read(scripts.LIST_BY_CALLBACK_STATE, state, after, limit)]

    @override
    async def purge(self, *, runs_before_at: float, keys_before_at: float) -> int:
        deleted = 0
        before = codec.encode_float(runs_before_at), codec.encode_float(keys_before_at)
        while batch := await self._write(scripts.PURGE, *before, _PURGE_BATCH):
            deleted += batch
        return deleted

    @override
    async def add_history(self, entries: Sequence[HistoryEntry]) -> None:
        # One script for each part, so that other scripts can run in between.
        for first in range(0, len(entries), _HISTORY_BATCH):
            words = codec.encode_entries(entries[first : first + _HISTORY_BATCH])
            await self._write_behind(scripts.ADD_HISTORY, *words)

    @override
    async def add_successes(self, records: Sequence[SuccessRecord]) -> None:
        await self.add_history([record.entry for record in records])

    @override
    async def purge_history(self, *, before_at: float, most: int) -> int:
        deleted = 0
        limits = codec.encode_float(before_at), most
        while batch := await self._write_behind(scripts.PURGE_HISTORY, *limits, _PURGE_BATCH):
            deleted += batch
        return deleted

    @override
    async def purge_content(self, *, before_at: float) -> int:
        deleted = 0
        while batch := await self._write_behind(scripts.PURGE_CONTENT, codec.encode_float(before_at), _PURGE_BATCH):
            deleted += batch
        return deleted

    @override
    async def get_timeline(self, run_id: str) -> bytes | None:
        timeline: bytes | None = await self._read(scripts.GET_TIMELINE, run_id)
        return timeline

    @override
    async def set_activities(self, owner: str, activities: Sequence[tuple[str, bytes]]) -> None:
        for first in range(0, len(activities), _ACTIVITY_BATCH):
            part = activities[first : first + _ACTIVITY_BATCH]
            await self._write_behind(scripts.SET_ACTIVITIES, owner, *(word for pair in part for word in pair))
            for run_id, _ in part:
                self._subscriber.notify(run_id)

    @override
    async def judge(self, run_id: str, judgement: bytes) -> bool:
        return bool(await self._write(scripts.JUDGE, run_id, judgement))

    @override
    async def mark_collected(self, run_id: str) -> bool:
        return bool(await self._write(scripts.MARK_COLLECTED, run_id))

    @override
    async def get_or_create_secret(self, name: str, default: bytes) -> bytes:
        return bytes(await self._write(scripts.GET_OR_CREATE_SECRET, name, default))

    @override
    async def set_override(self, override: ProviderOverride) -> None:
        await self._write_generation(scripts.SET_OVERRIDE, override.provider, codec.encode_override(override))

    @override
    async def remove_override(self, provider: str) -> None:
        await self._write_generation(scripts.REMOVE_OVERRIDE, provider)

    @override
    async def list_overrides(self) -> list[ProviderOverride]:
        return codec.decode_overrides(await self._read(scripts.LIST_OVERRIDES, self._generation))

    @override
    async def notify(self, name: str) -> None:
        await self._read(scripts.NOTIFY, name)  # writes nothing, so it need not wait for the disk

    @override
    def recently_notified(self, name: str) -> bool:
        return self._subscriber.recently_notified(name)

    @override
    def recent_suffix(self, prefix: str) -> str | None:
        return self._subscriber.recent_suffix(prefix)

    @override
    async def wait_for_change(self, run_ids: Sequence[str], seconds: float) -> None:
        self._require_open(self._read_batcher)
        await self._subscriber.wait_for_change(run_ids, seconds)

    async def _require_layout_version(self) -> None:
        found = await ScriptBatcher(self._connection, self._prefix).execute(scripts.GET_OR_SET_LAYOUT, LAYOUT_VERSION)
        if int(found) > LAYOUT_VERSION:
            raise StoreUnavailable(
                f"the server has layout {int(found)}, and this version of Runward supports {LAYOUT_VERSION}"
            )

    async def _change_run(self, script: RedisScript, run_id: str, *arguments: RedisArgument) -> bool:
        return bool(await self._change(script, run_id, *arguments))

    async def _change(self, script: RedisScript, run_id: str, *arguments: RedisArgument) -> RedisReply:
        """Run a script that changes a run, and wake the tasks of this process that wait for the run."""
        try:
            return await self._write(script, run_id, *arguments)
        finally:
            self._subscriber.notify(run_id)

    async def _write_generation(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        """Run a script that has the generation as its first argument. Raises StoreReplaced if it has changed."""
        try:
            reply = await self._write(script, self._generation, *arguments)
        except StoreReplaced:
            self._replaced = True
            raise
        self._replaced = False
        return reply

    async def _write(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        return await self._require_open(self._write_batcher).execute(script, *arguments)

    async def _write_behind(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        """Run a script whose writes may be lost in a crash of the server: they need not wait for its disk."""
        return await self._require_open(self._read_batcher).execute(script, *arguments)

    async def _read(self, script: RedisScript, *arguments: RedisArgument) -> RedisReply:
        return await self._require_open(self._read_batcher).execute(script, *arguments)

    @staticmethod
    def _require_open(batcher: ScriptBatcher | None) -> ScriptBatcher:
        if batcher is None:
            raise StoreUnavailable("the store is not open")
        return batcher
