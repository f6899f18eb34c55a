"""`GET /api/runs` by Idempotency-Key, with every store: the one run of the key, however its time is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from multidict import MultiDict

from gateway.api.admin.run_search import parse_run_query
from gateway.api.admin.runs import RunAdminHandlers
from tests.store.samples import NOW, SAMPLE_KEY, STORES, new_run
from tests.support.clock import ManualClock


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("created_at", [NOW, NOW + 0.123456789, 1_795_000_000.1, 1_795_000_001.0])
async def test_the_run_of_a_key_is_found(tmp_path: Path, kind: str, created_at: float) -> None:
    clock = ManualClock()
    store = STORES[kind](tmp_path, clock)
    await store.open()
    try:
        run_id = "run_" + 32 * "a"
        await store.create_run(new_run(1, id=run_id, created_at=created_at), SAMPLE_KEY)
        await store.create_run(new_run(2, id="run_" + 32 * "b", created_at=created_at), None)
        conditions = MultiDict({"client": SAMPLE_KEY.client, "idempotency_key": SAMPLE_KEY.text})
        for further, expected in (({}, [run_id]), ({"status": "failed"}, []), ({"id": run_id[:12]}, [run_id])):
            query = parse_run_query(MultiDict({**conditions, **further}))
            wanted = await RunAdminHandlers(store, clock).filter_of_key(query)
            assert wanted is not None
            assert expected == [run.id for run in (await store.list_runs(wanted)).runs]
    finally:
        await store.close()
