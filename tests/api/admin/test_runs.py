"""`GET /api/runs` and `GET /api/runs/{id}` of both operations ports: conditions, pages, records, refusals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.clock import SystemClock
from gateway.runs.timeline import CLIENT_FIELDS, encode_event
from gateway.store.contract import StoreUnavailable
from tests.support.openapi_conversation import Conversation, node
from tests.support.runs_port import OWNER, RunsPort, run_id, runs_port


@pytest.fixture(params=[False, True], ids=["process", "supervisor"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    """An operations port with runs of two clients: 1 to 4 are durable, 5 and 6 are not."""
    async with runs_port(SystemClock(), supervised=request.param) as running:
        labels = {"metadata": {"ticket": "4711"}, "label": "prod", "version": 3}
        await running.start(1, client="search", ago=60, key="key-1")
        await running.start(2, ago=50, tags=("a", "b"), details=labels, key="key-1")
        await running.end(2, "failed", error={"code": "run_failed", "detail": "No."}, api="promptlayer")
        await running.start(3, ago=40, workflow="other", tags=("a",), callback_url="https://hooks.example.com/x")
        await running.act(3, state="queued", waiting_for="backoff", retrying=True)
        await running.start(4, ago=30, provider="layer")
        await running.act(4, state="following", polls=3, next_poll_at=1_795_000_000.5)
        await running.record(
            5, ago=20, status="unknown", details=labels | {"duration_ms": 20_000, "waits": {"limit": 2}}
        )
        await running.store.judge(run_id(5), b'{"outcome":"not_run"}')
        await running.record(6, ago=2, provider_run_id="4242", tags=("b",))
        yield running


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, Any]]:
    """Return status and document; nothing of an input or output is in it."""
    async with session.get(url) as answer:
        body = await answer.read()
        assert (False, True) == (b"SECRET" in body, answer.content_type.endswith("json"))
        document: dict[str, Any] = orjson.loads(body)
        return answer.status, document


async def found(session: aiohttp.ClientSession, port: RunsPort, query: str) -> list[int]:
    """Return the numbers of the runs that a query selects."""
    status, document = await get(session, f"{port.url}/api/runs?{query}")
    assert (200, True, None) == (status, document["complete"], document["next"]), document
    return [int(run["id"].removeprefix("run_"), 16) for run in document["runs"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [6, 5, 4, 3, 2, 1]),
        ("client=search", [1]),
        ("client=nothing", []),
        ("workflow=other", [3]),
        ("provider=layer", [4]),
        ("api=promptlayer", [2]),
        ("status=failed", [2]),
        ("outcome=unknown", [5]),
        ("outcome=succeeded&client=checkout", [6]),
        ("code=run_failed", [2]),
        ("tag=a", [3, 2]),
        ("tag=a&tag=b", [2]),
        ("meta.ticket=4711", [5]),
        ("provider_run_id=4242", [6]),
        (f"id={run_id(3)}", [3]),
        ("min_duration=10&max_duration=30", [5]),
        ("waiting_for=backoff", [3]),
        ("waiting_for=limit", []),
        ("retrying=true", [3]),
        ("kept=true", [4, 3, 2, 1]),
        ("kept=false", [6, 5]),
        ("judged=true", [5]),
        ("judged=false&kept=false", [6]),
        ("client=search&idempotency_key=key-1", [1]),
        ("client=checkout&idempotency_key=key-1", [2]),
        ("client=checkout&idempotency_key=key-1&limit=1&status=failed", [2]),
        ("client=checkout&idempotency_key=key-1&status=queued", []),
        ("client=checkout&idempotency_key=key-1&created_before=2020-01-01T00:00:00Z", []),
        ("client=checkout&idempotency_key=key-1&created_after=2020-01-01T00:00:00Z&tag=b", [2]),
        (f"client=checkout&idempotency_key=key-1&id={run_id(3)}", []),
        ("client=checkout&idempotency_key=key-2", []),
        ("created_before=2020-01-01T00:00:00Z", []),
        ("created_after=2020-01-01T00:00:00Z&limit=100", [6, 5, 4, 3, 2, 1]),
    ],
)
async def test_each_condition(session: aiohttp.ClientSession, port: RunsPort, query: str, expected: list[int]) -> None:
    assert expected == await found(session, port, query)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("unknown=1", "?unknown"),
        ("client=", "?client"),
        ("client=a&client=b", "?client"),
        ("status=failed&outcome=failed", "?outcome"),
        ("outcome=queued", "?outcome"),
        ("api=soap", "?api"),
        ("waiting_for=money", "?waiting_for"),
        ("retrying=false", "?retrying"),
        ("kept=yes", "?kept"),
        ("judged=1", "?judged"),
        ("idempotency_key=key-1", "?idempotency_key"),
        ("client=a&idempotency_key=", "?idempotency_key"),
        ("client=a&idempotency_key=k&idempotency_key=l", "?idempotency_key"),
        ("limit=101", "?limit"),
        ("limit=0", "?limit"),
        ("created_after=yesterday", "?created_after"),
        ("code=nonsense", "?code"),
        ("id=abc", "?id"),
        ("cursor=x", "?cursor"),
    ],
)
async def test_what_has_no_meaning_is_refused(
    session: aiohttp.ClientSession, port: RunsPort, query: str, pointer: str
) -> None:
    """Nothing is ignored: the list would have runs that were not asked for."""
    status, problem = await get(session, f"{port.url}/api/runs?{query}")
    assert (422, "invalid_request") == (status, problem["code"])
    assert [pointer] == [error["pointer"] for error in problem["errors"]]


async def test_pages_have_every_run_once(session: aiohttp.ClientSession, port: RunsPort) -> None:
    """And a cursor belongs to its conditions: those of another list are refused."""
    ids, query, cursors = [], "limit=2&kept=true", []
    for _ in range(3):
        status, page = await get(session, f"{port.url}/api/runs?{query}")
        assert (200, True) == (status, page["complete"])
        ids += [run["id"] for run in page["runs"]]
        cursors.append(page["next"])
        query = f"limit=2&kept=true&cursor={page['next']}"
    assert ([run_id(number) for number in (4, 3, 2, 1)], None) == (ids, cursors[-1])
    for other in ("", "kept=false", "kept=true&client=checkout", "kept=true&judged=false"):
        status, problem = await get(session, f"{port.url}/api/runs?{other}&cursor={cursors[0]}")
        assert (422, "?cursor") == (status, problem["errors"][0]["pointer"])
    _, problem = await get(session, f"{port.url}/api/runs?client=a&idempotency_key=b&cursor=x")
    assert "?cursor" == problem["errors"][0]["pointer"]


async def test_a_search_that_stops_at_its_bound_is_not_complete(session: aiohttp.ClientSession, port: RunsPort) -> None:
    """Its `next` goes on with the search."""
    for number in range(100, 5_150):
        await port.record(number, workflow="frequent")
    status, page = await get(session, f"{port.url}/api/runs?workflow=triage")
    assert (200, False, []) == (status, page["complete"], page["runs"])
    _, page = await get(session, f"{port.url}/api/runs?workflow=triage&cursor={page['next']}")
    assert (True, 5, None) == (page["complete"], len(page["runs"]), page["next"])


async def test_a_record_has_facts_for_operators(session: aiohttp.ClientSession, port: RunsPort) -> None:
    """Those of a list of a client, and what only operators see."""
    _, page = await get(session, f"{port.url}/api/runs")
    recorded, followed, waiting, failed = (page["runs"][index] for index in (1, 2, 3, 4))
    assert {
        "client": "checkout",
        "api": "run",
        "label": "prod",
        "version": 3,
        "waits": {"limit": 2},
        "activity": None,
        "kept": False,
        "judgement": {"outcome": "not_run"},
        "duration_ms": 20_000,
        "metadata": {"ticket": "4711"},
    }.items() <= recorded.items()
    assert {"output", "input", "outputs"}.isdisjoint(recorded)
    next_poll = {"state": "following", "polls": 3, "next_poll_at": "2026-11-18T11:06:40.500Z"}
    assert (next_poll, True, {}) == (followed["activity"], followed["kept"], followed["waits"])
    assert {"state": "queued", "waiting_for": "backoff", "retrying": True} == waiting["activity"]
    assert {"state": "pending"} == waiting["callback"]
    assert (["a", "b"], "run_failed") == (failed.get("tags", ["a", "b"]), failed["error"]["code"])
    assert {"client", "workflow", "provider", "created_at"} <= page["runs"][5].keys()
    assert page["runs"][0]["duration_ms"] == pytest.approx(2_000, abs=100)  # not in its details


async def test_a_run_is_shown_with_its_timeline(session: aiohttp.ClientSession, port: RunsPort) -> None:
    """What cannot be read, as another version has written it, is left out."""
    events = [
        encode_event(1_795_000_000.0, "waited", "limit", 1.5),
        b"not json\n",
        b'[[1795000001,["list"]],[1795000001],{"at":1795000001}]\n',
        encode_event(1_795_000_002.0, "called", "start", 200, None, "yes", 0.25, True, None),
        encode_event(1_795_000_003.0, "adopted", OWNER),
        b'[[1795000004,"newer",1]]\n',
    ]
    await port.end(3, events=b"".join(events))
    status, run = await get(session, f"{port.url}/api/runs/{run_id(3)}")
    assert (200, run_id(3), True, None) == (status, run["id"], run["kept"], run["activity"])
    assert [
        {"at": "2026-11-18T11:06:40.000Z", "event": "waited", "for": "limit", "seconds": 1.5},
        {
            "at": "2026-11-18T11:06:42.000Z",
            "event": "called",
            "operation": "start",
            "status": 200,
            "sent": "yes",
            "seconds": 0.25,
            "connection_reused": True,
        },
        {"at": "2026-11-18T11:06:43.000Z", "event": "adopted", "owner": OWNER},
    ] == run["timeline"]


async def test_the_responses_fit_the_document(session: aiohttp.ClientSession, port: RunsPort) -> None:
    """With every kind of run, and a timeline with every kind of event."""
    values: dict[str, tuple[object, ...]] = {
        "waited": ("limit", 1.5),
        "called": ("start", None, "unreachable", "no", 0.25, None, 2),
        "fell_back": ("other", "layer"),
        "adopted": (OWNER,),
        "ended": ("failed", "internal"),
        "callback_attempted": (1, "503", 0.1),
    }
    events = [encode_event(1_795_000_000.0, kind, *values.get(kind, ())) for kind in CLIENT_FIELDS]
    events.append(encode_event(1_795_000_000.0, "called", "poll", 200, None, "yes", 0.25, True, None))
    await port.end(4, "failed", b"".join(events), error={"code": "internal", "detail": None})
    talk = await Conversation(session, port.url).open()
    page = node(await talk.send("GET", "/api/runs"))
    runs = page["runs"]
    assert isinstance(runs, list)
    for number in range(1, 7):
        shown = node(await talk.send("GET", "/api/runs/{id}", run_id(number)))
        timeline = shown.pop("timeline")
        assert shown in runs
        assert (len(events) if number == 4 else 0) == len(timeline or ())  # type: ignore[arg-type]


@pytest.mark.parametrize("unknown", [run_id(99), "run_", "x" * 65, "a%2Fb", ""])
async def test_an_unknown_id_is_not_found(session: aiohttp.ClientSession, port: RunsPort, unknown: str) -> None:
    status, problem = await get(session, f"{port.url}/api/runs/{unknown}")
    assert (404, "not_found") == (status, problem["code"])


async def test_a_store_that_is_away_is_no_empty_list(
    session: aiohttp.ClientSession, port: RunsPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise StoreUnavailable("away")

    for name in ("list_runs", "get_overview", "get_idempotency_record"):
        monkeypatch.setattr(type(port.store), name, fail)
    for path in ("/api/runs", f"/api/runs/{run_id(1)}", "/api/runs?client=a&idempotency_key=b"):
        status, problem = await get(session, port.url + path)
        assert (503, "store_unavailable", True) == (status, problem["code"], problem["retryable"])
