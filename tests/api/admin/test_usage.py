"""`GET /api/usage` of both operations ports: groups, conditions, formats, bounds, refusals."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from gateway.runs import usage_report
from gateway.safe_csv import safe_cell
from gateway.store.usage import RunUsage, UsageBatch, add_up
from tests.support.clock import ManualClock
from tests.support.openapi_conversation import Conversation
from tests.support.runs_port import RunsPort, runs_port

TODAY = 20_784  # 2026-11-27
NOW = TODAY * 86_400.0 + 3600
VIEWER = new_key(SystemClock())
OPERATOR = new_key(SystemClock())
CONFIG: dict[str, Any] = {
    "server": {
        "ops_keys": [
            {"hash": hash_key(VIEWER), "role": "viewer", "name": "vera", "team": "shop"},
            {"hash": hash_key(OPERATOR), "role": "viewer"},
        ]
    },
    "teams": {"shop": {}},
    "usage": {"currency": "EUR"},
}


def usage(day: int, client: str, outcome: str, spent: int = 0, unknown: int = 0, **changes: Any) -> RunUsage:
    """Return the usage of a run, `day` days before today; amounts in micros."""
    made = RunUsage(TODAY - day, client, "triage", "studio", "run", outcome, "shop" if client == "checkout" else "")
    return made._replace(spent=spent, unknown=unknown, **changes)


RUNS = [
    usage(0, "checkout", "succeeded", 40_000, tags=("a", "b")),
    usage(0, "checkout", "succeeded", 40_000, unknown=40_000, key="key_1"),
    usage(0, "search", "unknown", unknown=1_500_000, tags=("a",)),
    usage(1, "search", "failed", 1_500_000, workflow="=cmd|' /C calc'!A0", provider="layer", api="promptlayer"),
    usage(29, "search", "not_run"),
    usage(30, "search", "succeeded", 7_000_000),
]


@pytest.fixture(params=[False, True], ids=["process", "supervisor"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[RunsPort]:
    """An operations port with usage of two clients."""
    clock = ManualClock()
    clock.advance(NOW - clock.now().timestamp())
    async with runs_port(clock, supervised=request.param, config=CONFIG) as running:
        await running.store.usage.add(UsageBatch("test", 1, list(add_up(RUNS).items())), now_at=NOW)
        yield running


async def get(port: RunsPort, query: str = "", key: str = OPERATOR, **headers: str) -> tuple[int, str, Any]:
    """Return status, media type and body."""
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}", **headers}) as session,
        session.get(f"{port.url}/api/usage?{query}") as answer,
    ):
        body = await answer.json() if answer.content_type.endswith("json") else await answer.text()
        return answer.status, answer.content_type, body


async def rows(port: RunsPort, query: str, key: str = OPERATOR) -> list[tuple[str, ...]]:
    """Return the rows of a report: their values, runs, spent, unknown."""
    status, _, document = await get(port, query, key)
    assert status == 200, document
    assert document["group_by"] == (document["group_by"] and list(document["rows"][0])[:-3])
    return [tuple(map(str, row.values())) for row in document["rows"]]


async def test_the_last_thirty_days_are_shown_by_day(port: RunsPort) -> None:
    _, _, document = await get(port)
    assert document == {
        "from": "2026-10-29",
        "to": "2026-11-27",
        "currency": "EUR",
        "group_by": ["day"],
        "rows": [
            {"day": "2026-10-29", "runs": 1, "spent": "0", "unknown": "0"},
            {"day": "2026-11-26", "runs": 1, "spent": "1.5", "unknown": "0"},
            {"day": "2026-11-27", "runs": 3, "spent": "0.08", "unknown": "1.54"},
        ],
        "total": {"runs": 5, "spent": "1.58", "unknown": "1.54"},
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("group_by=", [("5", "1.58", "1.54")]),
        ("group_by=&from=2026-10-28", [("6", "8.58", "1.54")]),
        ("group_by=month", [("2026-10", "1", "0", "0"), ("2026-11", "4", "1.58", "1.54")]),
        ("group_by=week&from=2026-11-26", [("2026-W48", "4", "1.58", "1.54")]),
        ("group_by=client", [("checkout", "2", "0.08", "0.04"), ("search", "3", "1.5", "1.5")]),
        ("group_by=team&from=2026-11-27", [("", "1", "0", "1.5"), ("shop", "2", "0.08", "0.04")]),
        ("group_by=key&client=checkout", [("", "1", "0.04", "0"), ("key_1", "1", "0.04", "0.04")]),
        ("group_by=provider,api&outcome=failed", [("layer", "promptlayer", "1", "1.5", "0")]),
        ("group_by=outcome&from=2026-11-27", [("succeeded", "2", "0.08", "0.04"), ("unknown", "1", "0", "1.5")]),
        ("group_by=certainty", [("none", "1", "0", "0"), ("spent", "3", "1.58", "0"), ("unknown", "1", "0", "1.54")]),
        ("group_by=&certainty=unknown", [("1", "0", "1.54")]),
        ("group_by=&certainty=unknown&certainty=none", [("2", "0", "1.54")]),
        ("group_by=tag", [("a", "2", "0.04", "1.5"), ("b", "1", "0.04", "0")]),
        ("group_by=client,tag&tag=a", [("checkout", "a", "1", "0.04", "0"), ("search", "a", "1", "0", "1.5")]),
        ("group_by=&tag=b&tag=c&certainty=spent", [("1", "0.04", "0")]),
        ("group_by=&key=", [("4", "1.54", "1.5")]),
        ("group_by=client&client=nothing", []),
        ("from=2027-01-01", []),
        ("to=1970-01-01", []),
    ],
)  # fmt: skip
async def test_a_report_has_the_groups_that_are_asked_for(
    port: RunsPort, query: str, expected: list[tuple[str, ...]]
) -> None:
    if not expected:
        assert (await get(port, query))[2]["rows"] == []
    else:
        assert await rows(port, query) == expected


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("from=yesterday", "?from"),
        ("from=2026-02-30", "?from"),
        ("from=2026-11-27T00:00:00Z", "?from"),
        ("to=9999-12-31", "?to"),
        ("to=1969-12-31", "?to"),
        ("to=2026-11-20&from=2026-11-21", "?to"),
        ("from=2025-10-23&to=2026-11-27", "?from"),
        ("from=2026-11-01&from=2026-11-02", "?from"),
        ("group_by=day,colour", "?group_by"),
        ("group_by=day,day", "?group_by"),
        ("group_by=day,", "?group_by"),
        ("group_by=" + ",".join(["day"] * 1000), "?group_by"),
        ("group_by=workflow,tag", "?tag"),
        ("group_by=key&tag=a", "?tag"),
        ("outcome=maybe", "?outcome"),
        ("certainty=sure", "?certainty"),
        ("client=", "?client"),
        ("client=" + "x" * 513, "?client"),
        ("&".join(f"client=c{number}" for number in range(51)), "?client"),
        ("format=xml", "?format"),
        ("colour=red", "?colour"),
        ("limit=5", "?limit"),
    ],
)
async def test_a_query_without_a_meaning_is_refused(port: RunsPort, query: str, pointer: str) -> None:
    status, media, problem = await get(port, query)
    assert (status, media, problem["code"]) == (422, "application/problem+json", "invalid_request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert len(problem["errors"][0]["detail"]) < 200


async def test_the_longest_range_is_thirteen_months(port: RunsPort) -> None:
    assert (await get(port, "from=2025-10-24&to=2026-11-27"))[0] == 200


async def test_too_many_rows_are_refused_and_not_cut_off(port: RunsPort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_report, "MAX_GROUPS", 2)
    assert (await get(port, "group_by=client"))[0] == 200
    status, _, problem = await get(port, "group_by=outcome")
    assert (status, problem["errors"][0]["pointer"]) == (422, "?group_by")


@pytest.mark.parametrize("how", ["format=csv", "Accept"])
async def test_a_report_can_be_csv_that_no_spreadsheet_executes(port: RunsPort, how: str) -> None:
    query = "group_by=workflow,client&from=2026-11-26&"
    answer = await get(port, query, Accept="text/csv; q=1, */*") if how == "Accept" else await get(port, query + how)
    status, media, body = answer
    assert (status, media) == (200, "text/csv")
    assert body.splitlines()[0] == "workflow,client,runs,spent,unknown"
    assert list(csv.reader(io.StringIO(body)))[1:] == [
        ["'=cmd|' /C calc'!A0", "search", "1", "1.5", "0"],
        ["triage", "checkout", "2", "0.08", "0.04"],
        ["triage", "search", "1", "0", "1.5"],
    ]


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@a", "\t=1", "\r=1", "  =1", "\n=1", "%0A=1", "|x"])
def test_a_cell_is_never_a_formula(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "triage", "a=b", "1", "(all others)", "'=1"])
def test_other_cells_are_unchanged(text: str) -> None:
    assert safe_cell(text) == text


async def test_a_viewer_of_a_team_reads_the_usage_of_the_team(port: RunsPort) -> None:
    expected = [("checkout", "2", "0.08", "0.04")]
    assert await rows(port, "group_by=client", VIEWER) == expected
    assert await rows(port, "group_by=client&team=shop", VIEWER) == expected
    assert await rows(port, "group_by=client,tag", VIEWER) == [
        ("checkout", "a", "1", "0.04", "0"), ("checkout", "b", "1", "0.04", "0")
    ]  # fmt: skip
    for other in ("team=lab", "team=", "team=lab&team=shop"):
        assert (await get(port, other, VIEWER))[0] == 403
    assert (await get(port, "", "wrong"))[0] == 401


async def test_the_answers_fit_the_document_of_the_port(port: RunsPort) -> None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {OPERATOR}"}) as session:
        talk = await Conversation(session, port.url).open()
        for names in ("day,week,month", "client,team,key,workflow,provider,api,outcome,certainty", "tag", ""):
            await talk.send("GET", f"/api/usage?group_by={names}")
