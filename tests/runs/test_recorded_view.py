"""View of a recorded run whose content cannot be decrypted: its record is shown without the output."""

from __future__ import annotations

import json

import orjson

from gateway.runs.run_reader import RunReader
from gateway.store.history import HistoryEntry
from gateway.store.memory.store import MemoryStore
from gateway.store.records import Phase
from tests.store.samples import CONTENT_KEY, encrypted, new_run
from tests.support.clock import ManualClock


async def test_a_record_is_shown_although_its_content_cannot_be_decrypted() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    await store.open()
    details = orjson.dumps({"metadata": {}, "content": "kept"})
    run = new_run(
        1, phase=Phase.DONE, status="failed", finished_at=1.0, durable=False, details=details, document=b'{"output":1}'
    )
    await encrypted(store, CONTENT_KEY).add_history([HistoryEntry(run, content_until_at=2e9)])
    overview = await store.get_overview(run.id)
    assert overview is not None
    view = await RunReader(encrypted(store, bytes(32)), clock).view(overview)
    assert view is not None
    shown = json.loads(view)
    assert ("failed", None, False) == (shown["status"], shown["output"], shown["output_kept"])
