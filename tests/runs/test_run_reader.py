"""Reader of stored runs: no payload is read before the end, and readers of one run share the reads."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from gateway.json import strict_json
from gateway.runs.durable import codec
from gateway.runs.durable.codec import encode_run
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.run_reader import RunReader
from gateway.store.contract import StoreUnavailable
from gateway.store.memory.store import MemoryStore
from gateway.store.records import FinalState, Phase, RunOverview, StoredRun
from gateway.store.run_filter import RunFilter
from providers.contract import JsonValue
from tests.support.virtual_clock import VirtualClock

WAITERS = 50


class CountingStore(MemoryStore):
    """Store that counts its reads."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.reads: Counter[str] = Counter()
        self.failing_reads = 0

    async def get_run(self, run_id: str) -> StoredRun | None:
        self.reads["run"] += 1
        return await super().get_run(run_id)

    async def get_overview(self, run_id: str) -> RunOverview | None:
        self.reads["overview"] += 1
        await asyncio.sleep(0)
        if self.failing_reads:
            self.failing_reads -= 1
            raise StoreUnavailable
        run = self._runs.get(run_id)
        return None if run is None else run.overview

    async def get_document(self, run_id: str) -> bytes | None:
        self.reads["document"] += 1
        await asyncio.sleep(0)
        run = self._runs.get(run_id)
        return None if run is None else run.document


class Harness:
    """A reader and the store of one run."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = CountingStore(self.clock)
        self.reader = RunReader(self.store, self.clock)

    async def store_run(self, **changes: Any) -> RunOverview:
        """Store a run; returns its overview."""
        await self.store.open()
        spec = RunSpec("one", "w", timeout=60.0, input={"text": "x" * 1000}, metadata=changes.pop("metadata", {}))
        spec.tags = changes.pop("tags", ())
        run = encode_run(RunRecord.create(spec, "layer", self.clock), owner="me", leased_until_at=0, callback_url=None)
        await self.store.create_run(replace(run, **changes), None)
        return replace(run, **changes).overview

    async def finish(self, run: RunOverview, **changes: Any) -> None:
        """End the run."""
        document: dict[str, JsonValue] = {
            "id": run.id,
            "output": "y" * 1000,
            "metadata": {},
            "warning": None,
            "duration_ms": 5000,
        }
        end = FinalState("me", "succeeded", strict_json.write(document), 5.0, 1)
        await self.store.finish(run.id, replace(end, **changes))

    async def wait_until_ended(self, run: RunOverview) -> bytes | None:
        """Wait as `GET /runs/{id}?wait` does."""
        while run.phase is not Phase.DONE:
            later = await self.reader.next_overview(run, 60.0)
            assert later is not None
            run = later
        return await self.reader.view(run)


async def test_waiters_of_one_run_share_one_look_up_for_each_period() -> None:
    """They read nothing but overviews until the run has ended, and then its document once."""
    harness = Harness()
    run = await harness.store_run()
    waiting = [asyncio.create_task(harness.wait_until_ended(run)) for _ in range(WAITERS)]
    await harness.clock.run_for(10)
    assert 8 <= harness.store.reads["overview"] <= 11
    await harness.finish(run)
    views = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {"y" * 1000} == {json.loads(view or b"")["output"] for view in views}
    assert (0, 1) == (harness.store.reads["run"], harness.store.reads["document"])
    assert harness.store.reads["overview"] <= 13
    assert not harness.reader._shared


async def test_a_wait_ends_with_its_time() -> None:
    harness = Harness()
    run = await harness.store_run()
    waiting = asyncio.create_task(harness.reader.next_overview(run, 0.3))
    await harness.clock.run_for(0.3)
    assert waiting.done()
    assert run == waiting.result()


async def test_those_who_join_a_wait_see_what_has_changed_since_they_read() -> None:
    """A look-up that has begun to read is not joined: its result may be older than what the caller knows."""
    harness = Harness()
    run = await harness.store_run()
    release = asyncio.Event()
    read = harness.store.get_overview

    async def slow(run_id: str) -> RunOverview | None:
        overview = await read(run_id)
        await release.wait()
        return overview

    harness.store.get_overview = slow  # type: ignore[method-assign]
    early = asyncio.create_task(harness.reader.find_later(run.id))
    await harness.clock.run_for(1)
    await harness.finish(run)
    late = asyncio.create_task(harness.reader.find_later(run.id))
    await harness.clock.run_for(1)
    release.set()
    before, after = await asyncio.gather(early, late)
    assert before is not None
    assert after is not None
    assert (Phase.QUEUED, Phase.DONE) == (before.phase, after.phase)


async def test_a_deleted_run_is_not_found() -> None:
    harness = Harness()
    run = await harness.store_run()
    waiting = asyncio.create_task(harness.reader.next_overview(run, 60.0))
    await asyncio.sleep(0)
    await harness.store.discard_run(run.id, owner="me")
    await harness.clock.run_for(1)
    assert waiting.result() is None
    assert await harness.reader.view(replace(run, phase=Phase.DONE)) is None


async def test_an_outage_is_told_to_every_waiter_and_the_next_wait_works() -> None:
    harness = Harness()
    run = await harness.store_run()
    harness.store.failing_reads = 1
    waiting = [asyncio.create_task(harness.reader.next_overview(run, 60.0)) for _ in range(3)]
    await harness.clock.run_for(1)
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert [StoreUnavailable] * 3 == [type(failure) for failure in failures]
    later = asyncio.create_task(harness.reader.next_overview(run, 60.0))
    await harness.clock.run_for(1)
    assert run == await later


async def test_a_waiter_that_leaves_does_not_end_the_wait_of_the_others() -> None:
    harness = Harness()
    run = await harness.store_run()
    leaving, staying = (asyncio.create_task(harness.reader.next_overview(run, 60.0)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await harness.clock.run_for(1)
    assert run == await staying


@pytest.mark.parametrize("size", [10, 10_000])
async def test_metadata_are_shown_whatever_their_size(size: int) -> None:
    """Those above 8 kB are read from the run, and are null in lists."""
    harness = Harness()
    run = await harness.store_run(metadata={"a": "b" * size})
    view = await harness.reader.view(run)
    assert {"a": "b" * size} == json.loads(view or b"")["metadata"]
    listed = json.loads(await harness.reader.list_item(run))
    assert (None if size > 8192 else {"a": "b" * size}) == listed["metadata"]
    assert (1 if size > 8192 else 0) == harness.store.reads["run"]


@pytest.mark.parametrize("size", [10, 10_000])
async def test_tags_are_shown_whatever_the_size_of_the_metadata(size: int) -> None:
    harness = Harness()
    for tags in ((), ("b", "a")):
        run = await harness.store_run(metadata={"a": "b" * size}, tags=tags)
        for rendered in (await harness.reader.view(run), await harness.reader.list_item(run)):
            assert (list(tags) or None) == json.loads(rendered or b"").get("tags")


async def test_tags_stay_in_lists_after_the_end() -> None:
    ended = codec.encode_details({"metadata": {}, "tags": ("b", "a"), "duration_ms": 1})
    assert {"metadata": {}, "tags": ["b", "a"], "duration_ms": 1} == json.loads(ended)


async def test_a_run_of_an_earlier_version_is_listed_with_its_details() -> None:
    """One replica of that version may also end a run that was stored by this one."""
    harness = Harness()
    unfinished = await harness.store_run(metadata={"a": "b"}, details=None)
    assert {"a": "b"} == json.loads(await harness.reader.list_item(unfinished))["metadata"]
    run = await harness.store_run(metadata={"a": "b"})
    for details in (None, run.details):
        await harness.finish(run, details=details)
        harness.store._runs[run.id] = replace(harness.store._runs[run.id], details=details)
        [listed] = [each for each in (await harness.store.list_runs(RunFilter("one"))).runs if each.id == run.id]
        shown = json.loads(await harness.reader.list_item(listed))
        assert ("succeeded", 5000, False) == (shown["status"], shown["duration_ms"], "output" in shown)


async def test_a_read_from_before_the_end_is_not_shared_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness()
    queued = await harness.store_run()
    read_run, release = harness.store.get_run, asyncio.Event()

    async def read_slowly(run_id: str) -> StoredRun | None:
        found = await read_run(run_id)
        await release.wait()
        return found

    monkeypatch.setattr(harness.store, "get_run", read_slowly)
    early = asyncio.create_task(harness.reader.find_whole(queued))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await harness.finish(queued)
    ended = await harness.reader.find(queued.id)
    assert ended is not None
    late = asyncio.create_task(harness.reader.find_whole(ended))
    await asyncio.sleep(0)
    release.set()
    found = [await early, await late]
    assert [Phase.QUEUED, Phase.DONE] == [run and run.phase for run in found]
