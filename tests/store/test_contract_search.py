"""Store contract: every condition of a search, the bound on the runs that it examines, and its continuation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from gateway.store.contract import Store
from gateway.store.records import FinalState
from gateway.store.run_filter import RunFilter
from tests.store.samples import NOW, SAMPLE_FINAL_STATE, listed, new_run

CODE = "upstream_error"
ODD_TEXT = '"quoted" \\ \n %\x7f\u2028'
TAGS: dict[int, tuple[str, ...]] = {0: ("a", "team:b/c"), 1: ("a",), 2: ("b", "a"), 4: ("b",), 5: ("aa", "team:b")}
METADATA: dict[int, dict[str, str]] = {
    0: {"ticket": "4711", "é": ODD_TEXT},
    1: {"ticket": "4712"},
    2: {'a"ticket': "4711", "code": CODE},
    3: {"ticket": "4711", "team": "x"},
}
"""By the number of the run: run 2 has no `ticket`, but the text of its details has `"ticket":"4711"` in it."""


REPLAYS = {4: {"replay_of": "run_1", "team": "shop"}, 5: {"replay_of": "run_10", "team": "lab", "key": "key_1"}}


async def _store_six_runs(store: Store) -> None:
    """Runs 0 to 5, of which 0 to 3 ended after 1, 2, 4 and 8 seconds; 0 failed with CODE."""
    for number in range(6):
        details = orjson.dumps({"metadata": METADATA.get(number, {}), **REPLAYS.get(number, {})})
        run = new_run(number, provider="layer" if number % 2 else "studio", details=details)
        await store.create_run(run, None, TAGS.get(number, ()))
        if number < 4:
            await store.finish(run.id, _end(number))


def _end(number: int) -> FinalState:
    error = {"error": {"code": CODE if number == 0 else "internal", "detail": None}} if number < 2 else {}
    return replace(
        SAMPLE_FINAL_STATE,
        status="failed" if number < 2 else "succeeded",
        finished_at=NOW + number + 2**number,
        provider_run_id=f"9{number}",
        details=orjson.dumps({"metadata": METADATA[number], **error}),
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"provider": "layer"}, [5, 3, 1]),
        ({"provider": "none"}, []),
        ({"provider": "layer", "status": "succeeded"}, [3]),
        ({"provider_run_id": "92"}, [2]),
        ({"provider_run_id": "9"}, []),
        ({"code": CODE}, [0]),
        ({"code": "internal"}, [1]),
        ({"code": "none"}, []),
        ({"replay_of": "run_1"}, [4]),
        ({"replay_of": "run_1", "provider": "layer"}, []),
        ({"replay_of": "run_2"}, []),
        ({"team": "shop"}, [4]),
        ({"team": "shop", "key": "key_1"}, []),
        ({"key": "key_1"}, [5]),
        ({"tags": ("a",)}, [2, 1, 0]),
        ({"tags": ("aa",)}, [5]),
        ({"tags": ("team:b",)}, [5]),
        ({"tags": ("team:b/c",)}, [0]),
        ({"tags": ("A",)}, []),
        ({"tags": ("",)}, []),
        ({"tags": ("a", "b")}, [2]),
        ({"tags": ("b", "a")}, [2]),
        ({"tags": ("a", "none")}, []),
        ({"tags": ("none", "a")}, []),
        ({"tags": ("a", "b", "team:b/c")}, []),
        ({"tags": ("a",), "status": "failed"}, [1, 0]),
        ({"tags": ("b",), "status": "queued"}, [4]),
        ({"tags": ("a",), "created_from": NOW + 1}, [2, 1]),
        ({"tags": ("a",), "created_until": NOW + 2}, [1, 0]),
        ({"tags": ("a",), "limit": 2}, [2, 1]),
        ({"tags": ("a",), "before": (NOW + 2, "run_2")}, [1, 0]),
        ({"tags": ("a",), "metadata": (("ticket", "4712"),)}, [1]),
        ({"metadata": (("ticket", "4711"),)}, [3, 0]),
        ({"metadata": (("ticket", "4711"), ("team", "x"))}, [3]),
        ({"metadata": (("ticket", "47"),)}, []),
        ({"metadata": (("é", ODD_TEXT),)}, [0]),
        ({"metadata": (('a"ticket', "4711"),)}, [2]),
        ({"metadata": (("code", CODE),)}, [2]),
        ({"metadata": (("ticket", "4711"),), "code": CODE}, [0]),
        ({"id_prefix": "run_3"}, [3]),
        ({"id_prefix": "run_"}, [5, 4, 3, 2, 1, 0]),
        ({"id_prefix": "run_", "status": "queued"}, [5, 4]),
        ({"id_prefix": "run_", "tags": ("a", "b")}, [2]),
        ({"id_prefix": "run_", "before": (NOW + 1, "run_1")}, [0]),
        ({"id_prefix": "RUN_"}, []),
        ({"id_prefix": "run_33"}, []),
        ({"created_from": NOW + 4}, [5, 4]),
        ({"created_from": NOW + 4.1}, [5]),
        ({"created_until": NOW + 2}, [1, 0]),
        ({"created_until": NOW + 2.1}, [2, 1, 0]),
        ({"created_from": NOW + 1, "created_until": NOW + 3}, [2, 1]),
        ({"created_until": NOW + 3, "before": (NOW + 2, "run_2")}, [1, 0]),
        ({"created_until": NOW + 1, "before": (NOW + 2, "run_2")}, [0]),
        ({"created_from": NOW + 6}, []),
        ({"min_duration": 0.0}, [3, 2, 1, 0]),
        ({"min_duration": 4.0}, [3, 2]),
        ({"max_duration": 2.0}, [1, 0]),
        ({"min_duration": 1.5, "max_duration": 7.5}, [2, 1]),
        ({"min_duration": 9.0}, []),
        ({"min_duration": 4.0, "provider": "studio", "metadata": (("code", CODE),)}, [2]),
    ],
)
async def test_each_condition_selects_runs_and_all_of_them_hold(
    store: Store, wanted: dict[str, Any], expected: list[int]
) -> None:
    await _store_six_runs(store)
    await store.create_run(new_run(9, id="run_other", client="other", details=b"{}"), None, ("a", "b"))
    found = await listed(store, RunFilter("checkout", **wanted))
    assert [f"run_{number}" for number in expected] == [run.id for run in found]


@pytest.mark.parametrize(
    "details", [None, b"", b"[]", b"{", b'{"metadata":{"ticket":"4711"', b'["ticket","ticket":"4711"]', b'"metadata"']
)
async def test_details_that_cannot_be_read_match_no_condition(store: Store, details: bytes | None) -> None:
    """Another version may have written them."""
    await store.create_run(new_run(0, details=details), None)
    assert [] == await listed(store, RunFilter("checkout", metadata=(("ticket", "4711"),)))
    assert [] == await listed(store, RunFilter("checkout", code=CODE))
    assert ["run_0"] == [run.id for run in await listed(store, RunFilter("checkout"))]


async def test_a_client_finds_its_own_runs_only(store: Store) -> None:
    """R78: also if a name and a tag together look like those of another client."""
    await store.create_run(new_run(1, client="a:b"), None, ("c",))
    await store.create_run(new_run(2, client="a"), None, ("b:c",))
    for client, tag, expected in (("a:b", "c", ["run_1"]), ("a", "b:c", ["run_2"]), ("a", "c", []), ("a:b:c", "c", [])):
        assert expected == [run.id for run in await listed(store, RunFilter(client, tags=(tag,)))]


SELECTIVE: dict[str, dict[str, Any]] = {
    "status": {"status": "succeeded"},
    "code": {"code": "internal"},
    "tag": {"tags": ("all",), "status": "succeeded"},
    "duration": {"min_duration": 0.0},
    "metadata": {"metadata": (("a", "b"),)},
}


@pytest.mark.parametrize("condition", SELECTIVE)
async def test_a_search_stops_at_its_bound_and_goes_on_from_there(store: Store, condition: str) -> None:
    """Run 0 alone matches; 3 of 10 runs are examined at a time."""
    for number in range(10):
        await store.create_run(new_run(number), None, ("all",))
    end = orjson.dumps({"metadata": {"a": "b"}, "error": {"code": "internal"}})
    await store.finish("run_0", replace(SAMPLE_FINAL_STATE, details=end))
    wanted = RunFilter("checkout", max_examined=3, **SELECTIVE[condition])
    stops = []
    while (page := await store.list_runs(wanted)).stopped_at is not None:
        assert [] == page.runs
        stops.append(page.stopped_at)
        wanted = replace(wanted, before=page.stopped_at)
    assert [(NOW + number, f"run_{number}") for number in (7, 4, 1)] == stops
    assert ["run_0"] == [run.id for run in page.runs]


async def test_the_runs_of_the_rarest_tag_are_examined(store: Store) -> None:
    for number in range(10):
        await store.create_run(new_run(number), None, ("all", "rare") if number == 0 else ("all",))
    for tags in (("all", "rare"), ("rare", "all")):
        assert ["run_0"] == [run.id for run in await listed(store, RunFilter("checkout", tags=tags, max_examined=3))]


async def test_a_page_that_is_full_at_the_bound_was_not_stopped(store: Store) -> None:
    for number in range(6):
        await store.create_run(new_run(number), None)
    for limit, found, stopped_at in ((2, 2, None), (3, 3, None), (4, 3, (NOW + 3, "run_3"))):
        page = await store.list_runs(RunFilter("checkout", limit, provider="studio", max_examined=3))
        assert (found, stopped_at) == (len(page.runs), page.stopped_at)


async def test_a_search_is_longer_than_one_part_of_it(store: Store) -> None:
    """Redis reads some hundred runs at a time."""
    for number in range(1203):
        await store.create_run(new_run(number), None)
    await store.finish("run_1", SAMPLE_FINAL_STATE)
    for wanted in (RunFilter("checkout", status="succeeded"), RunFilter("checkout", min_duration=0.0)):
        assert ["run_1"] == [run.id for run in await listed(store, wanted)]
        page = await store.list_runs(replace(wanted, max_examined=1201))
        assert ([], (NOW + 2, "run_2")) == (page.runs, page.stopped_at)


async def test_deleted_runs_are_not_found_by_their_tags(store: Store) -> None:
    """Discarded before the start, and at the end of their retention."""
    for number in (1, 2, 3):
        await store.create_run(new_run(number), None, ("a", "b"))
    await store.discard_run("run_1", owner="one")
    await store.finish("run_2", SAMPLE_FINAL_STATE)
    await store.purge(runs_before_at=NOW + 9, keys_before_at=NOW)
    assert ["run_3"] == [run.id for run in await listed(store, RunFilter("checkout", tags=("b",)))]
    await store.create_run(new_run(1), None, ("c",))
    assert [["run_1"], []] == [
        [run.id for run in await listed(store, RunFilter("checkout", tags=tags))] for tags in (("c",), ("c", "a"))
    ]
