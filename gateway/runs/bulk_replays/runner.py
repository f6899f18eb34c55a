"""Runner of bulk replays: takes those that no live process works on, and starts their runs at their rate.

Each start is idempotent (`gateway.runs.run_replay`). A process that dies is followed by another one, which begins at
the last progress that was stored: what was started since is found, and not started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from gateway.clock import Clock
from gateway.errors import GatewayError, IdempotencyInFlight, IdempotencyMismatch, Overloaded, StoreError
from gateway.observability import json_logging
from gateway.observability.logger_protocol import Logger
from gateway.runs.bulk_replays.plan import ReplayPlan, decode_plan
from gateway.runs.bulk_replays.progress import ReplayProgress, decode_progress
from gateway.runs.idempotent_submission import Finished, InFlight, Replayed, Started
from gateway.runs.run_replay import Requester, RunReplayer, check_replayable
from gateway.store.bulk_replay import BulkReplay
from gateway.store.contract import ContentUnreadable, Store, StoreUnavailable
from gateway.store.records import RunOverview

BULK_REPLAYS_CHANGED = "bulk_replays:changed"
"""Name of the notification that a bulk replay was started or aborted."""

_LEASE = 30.0  # seconds
_CHECK_INTERVAL = 2.0  # seconds between two searches for bulk replays to take
_STORE_INTERVAL = 0.5  # seconds between two writes of the progress: an abort takes effect within that time
_RETRY = 1.0  # seconds
_MAX_FAILURES = 30  # attempts of one start that the store refuses, or that another process may be storing
_MAX_AGE = 86_400.0  # seconds after its start: a forgotten bulk replay must not start runs days later


class _TryAgain(Exception):
    """The run cannot be started now. `code`: why it is refused if that lasts; None: it is waited for."""

    def __init__(self, code: str | None) -> None:
        super().__init__()
        self.code = code


@dataclass(slots=True)
class BulkReplayRunner:
    """Runner of this process. `find_client` returns a client as it is now; None if it is no longer configured."""

    store: Store
    replayer: RunReplayer
    find_client: Callable[[str], Requester | None]
    clock: Clock
    log: Logger
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by the id of the bulk replay

    @property
    def owner(self) -> str:
        """Name of this process in the store."""
        return self.replayer.durable_runs.owner

    async def run_forever(self) -> None:
        """Take bulk replays until the process ends."""
        try:
            while True:
                try:
                    await self.take_running()
                    await self.store.wait_for_change([BULK_REPLAYS_CHANGED], _CHECK_INTERVAL)
                except StoreUnavailable:  # others log it
                    await self.clock.sleep(_CHECK_INTERVAL)
                except Exception as error:  # noqa: BLE001 - a defect must not end the loop
                    self.log.error("internal_error", **json_logging.describe_exception(error))
                    await self.clock.sleep(_CHECK_INTERVAL)
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def take_running(self) -> None:
        """Work on the bulk replays that no live process works on, each in a task. Raises StoreUnavailable."""
        for replay in await self.store.bulk_replays.list_running():
            free = replay.owner == self.owner or replay.leased_until_at <= self._now
            if free and replay.id not in self._tasks and not self.replayer.durable_runs.closing:
                task = self._tasks[replay.id] = asyncio.create_task(self._take(replay))
                task.add_done_callback(lambda _, name=replay.id: self._tasks.pop(name, None))  # type: ignore[misc]

    async def _take(self, replay: BulkReplay) -> None:
        try:
            mine = await self._store(replay, decode_progress(replay.progress))
            whole = await self.store.bulk_replays.get(replay.id)
            if mine is not None and whole is not None and whole.revision == mine.revision:
                await self._work(mine, decode_plan(whole.plan))
        except StoreUnavailable:
            self.log.warning("store_unavailable")  # it is taken again, at the last stored progress
        except Exception as error:  # noqa: BLE001 - a defect must not end the other bulk replays
            self.log.error("internal_error", **json_logging.describe_exception(error))

    async def _work(self, replay: BulkReplay, plan: ReplayPlan) -> None:
        """Start the runs that are left. Raises StoreUnavailable."""
        progress, mine = decode_progress(replay.progress), replay
        stored_at = next_start = self.clock.monotonic()
        failures = 0
        while progress.done < len(plan.runs) and not self._is_too_old(progress):
            now = self.clock.monotonic()
            if self.replayer.durable_runs.closing:
                await self._store(mine, progress, lease=0.0)
                return
            if now - stored_at >= _STORE_INTERVAL:
                changed = await self._store(mine, progress)
                if changed is None:  # aborted, or taken by another process
                    return
                mine, stored_at = changed, now
            if now < next_start:
                await self.clock.sleep(min(next_start - now, _STORE_INTERVAL))
                continue
            try:
                await self._replay(*plan.runs[progress.done], plan, progress)
            except _TryAgain as error:
                failures += error.code is not None
                if error.code is None or failures < _MAX_FAILURES:
                    next_start = now + _RETRY
                    continue
                progress.refused[error.code] += 1
            progress.done, failures = progress.done + 1, 0
            next_start = max(next_start + 1 / plan.rate, now)
        await self._end(mine, plan, progress)

    async def _end(self, mine: BulkReplay, plan: ReplayPlan, progress: ReplayProgress) -> None:
        progress.ended_at = self._now
        complete = progress.done == len(plan.runs)
        ended = replace(mine, state="done" if complete else "aborted")
        if await self._store(ended, progress, lease=0.0) is not None:
            refused = progress.refused.total()
            self.log.warning(
                "bulk_replay_ended", replay=mine.id, state=ended.state, started=progress.started, refused=refused
            )

    async def _replay(self, run_id: str, status: str, plan: ReplayPlan, progress: ReplayProgress) -> None:
        """Start the replay of one run and count it. Raises _TryAgain."""
        try:
            reason = await self._start(run_id, status, plan, progress)
        except _TryAgain:
            raise
        except IdempotencyMismatch:
            progress.already_started += 1
        except Overloaded:
            raise _TryAgain(None) from None
        except ContentUnreadable:
            progress.refused["content_unreadable"] += 1
        except (StoreError, StoreUnavailable):
            raise _TryAgain(StoreError.code) from None
        except GatewayError as refusal:
            progress.refused[refusal.code] += 1
        except Exception as error:  # noqa: BLE001 - a run with a defect must not stop the others
            self.log.error("internal_error", run_id=run_id, **json_logging.describe_exception(error))
            progress.refused[GatewayError.code] += 1
        else:
            if reason is not None:
                progress.refused[reason] += 1

    async def _start(self, run_id: str, status: str, plan: ReplayPlan, progress: ReplayProgress) -> str | None:
        """Start the replay of one run, unless it was started; returns why not, or None."""
        stored = await self.store.get_run(run_id)
        if stored is None:
            return "not_found"
        if stored.status != status:
            return "changed"
        check_replayable(stored.overview, include_unknown=plan.include_unknown)
        client = self.find_client(stored.client)
        if client is None:
            return "unknown_client"
        submission, workflow = await self.replayer.submit(stored, client)
        match submission:
            case Started(run):
                self.replayer.durable_runs.run_in_background(run, workflow)
                progress.started += 1
            case InFlight():
                raise _TryAgain(IdempotencyInFlight.code)
            case Replayed(earlier):
                self._count_earlier(earlier.overview, progress)
            case Finished(earlier_id):
                self._count_earlier(await self.store.get_overview(earlier_id), progress)
            case _:
                progress.already_started += 1
        return None

    @staticmethod
    def _count_earlier(earlier: RunOverview | None, progress: ReplayProgress) -> None:
        """Count a replay that exists: as started if it was created since, before a crash, else as already started."""
        if earlier is not None and earlier.created_at >= (progress.started_at or 0.0):
            progress.started += 1
        else:
            progress.already_started += 1

    async def _store(self, replay: BulkReplay, progress: ReplayProgress, *, lease: float = _LEASE) -> BulkReplay | None:
        """Write the progress and renew the lease; None if the bulk replay was aborted or taken by another process."""
        changed = replace(
            replay, progress=progress.encode(), owner=self.owner, leased_until_at=self._now + lease if lease else 0.0
        )
        if not await self.store.bulk_replays.change(changed):
            return None
        return replace(changed, revision=replay.revision + 1)

    def _is_too_old(self, progress: ReplayProgress) -> bool:
        return self._now > (progress.started_at or 0.0) + _MAX_AGE

    @property
    def _now(self) -> float:
        return self.clock.now().timestamp()
