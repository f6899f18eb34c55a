"""The table of log events and fields equals the calls in the code, and docs/logs.md equals the table."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.observability.json_logging import describe_exception
from gateway.observability.log_reference import log_page
from gateway.observability.log_schema import COMMON_FIELDS, COMMON_OPTIONAL, EVENTS, FIELDS
from tests.observability.log_calls import LogCall, log_calls
from tests.support.callback_receiver import CALLBACK_PATH
from tests.support.client import PROMPT_STUDIO_BODY, auth_headers
from tests.support.fake_upstream.provider_responses import STUDIO_RUN, prompt_studio_reply
from tests.support.fake_upstream.responses import reply
from tests.support.gateway_restarts import RestartableGateway
from tests.support.log_lines import deviations
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    import aiohttp

    from tests.conftest import StartGateway
    from tests.support.fake_upstream.upstream import FakeUpstream

PAGE = Path(__file__).parent.parent.parent / "docs" / "logs.md"


def calls_by_event() -> dict[str, list[LogCall]]:
    """Return the log calls of the code by event."""
    found: defaultdict[str, list[LogCall]] = defaultdict(list)
    for call in log_calls():
        found[call.event].append(call)
    return found


def test_the_page_is_as_generated() -> None:
    """`make log-reference` regenerates it."""
    assert log_page() == PAGE.read_text()


def test_every_event_of_the_code_is_in_the_table_and_the_reverse() -> None:
    assert set(calls_by_event()) == set(EVENTS)
    assert list(EVENTS) == sorted(EVENTS)


def test_every_field_of_the_code_is_in_the_table_and_the_reverse() -> None:
    """What every call has is always there; what some have may be absent."""
    wrong = {}
    for name, calls in calls_by_event().items():
        always = frozenset.intersection(*(call.fields for call in calls))
        ever = frozenset.union(*(call.fields | call.optional for call in calls))
        event = EVENTS[name]
        if (always, ever - always) != (frozenset(event.fields), frozenset(event.optional)):
            wrong[name] = (sorted(always), sorted(ever - always), [call.place for call in calls])
    assert {} == wrong


def test_every_event_has_its_level() -> None:
    wrong = [call for call in log_calls() if call.level != EVENTS[call.event].level]
    assert [] == wrong


def test_the_table_of_fields_has_those_of_the_events_and_no_others() -> None:
    used = {name for event in EVENTS.values() for name in (*event.fields, *event.optional)}
    assert used | {*COMMON_FIELDS, *COMMON_OPTIONAL} == set(FIELDS)
    rest = [*FIELDS][len(COMMON_FIELDS) + len(COMMON_OPTIONAL) :]
    assert rest == sorted(rest)


def test_the_fields_of_an_exception_are_those_that_the_scan_assumes() -> None:
    assert ["exception", "places"] == list(describe_exception(ValueError("secret")))


def test_no_cell_breaks_the_table() -> None:
    for line in log_page().splitlines():
        if line.startswith("| `"):
            assert line.count("|") in {4, 6}, line


def test_a_line_that_differs_from_the_table_is_found() -> None:
    """Of each kind of difference."""
    good: dict[str, object] = {"time": "2026-11-21T12:00:00Z", "level": "info", "event": "ready", "pid": 1}
    assert [] == deviations([good, {**good, "worker": 0}])
    wrong = [
        {**good, "event": "unheard_of"},
        {**good, "pid": "1"},
        {**good, "extra": 1},
        {**good, "level": "error"},
        {name: value for name, value in good.items() if name != "pid"},
        {**good, "time": "2026-11-21T12:00:00"},
        {**good, "worker": True},
    ]
    assert [1] * len(wrong) == [len(deviations([line])) for line in wrong]


async def test_a_gateway_under_mixed_load_writes_lines_of_the_table_only(
    gateway: StartGateway,
    upstream: FakeUpstream,
    receiver: FakeUpstream,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """At the level debug; the fixture `gateway` examines the lines of every other test in the same way."""
    answers = [prompt_studio_reply("x"), reply(500, {}), reply(429, {}), reply(200, b"{"), prompt_studio_reply("y")]
    upstream.script("POST", STUDIO_RUN, answers * 4)
    upstream.always("POST", STUDIO_RUN, prompt_studio_reply("z"))
    receiver.script("POST", CALLBACK_PATH, [reply(410)])
    restartable = RestartableGateway(gateway, session, tmp_path / "runward.db")
    running = await restartable.start()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    async def get(path: str, key: str = "") -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else auth_headers("one")
        async with session.get(running.url + path, headers=headers) as response:
            await response.read()

    await asyncio.gather(
        *(restartable.post(PROMPT_STUDIO_BODY, **trace) for _ in range(12)),
        *(restartable.post({"workflow": "nothing", "input": {}}) for _ in range(3)),
        *(restartable.post({**PROMPT_STUDIO_BODY, "timeout": 0.01}) for _ in range(2)),
        restartable.submit_async({**PROMPT_STUDIO_BODY, "callback_url": receiver.url + CALLBACK_PATH}),
        *(get(path) for path in ("/runs", "/runs/none", "/nowhere", "/\udcff", "/docs")),
        *(get("/runs", key) for key in ("wrong", "rw_" + 49 * "a")),
    )
    await wait_until(lambda: running.logs("run_ended") and running.logs("callback_given_up"))
    await running.stop()
    lines = running.logs()
    assert {"request", "key_refused", "listening", "draining", "run_ended"} <= {line["event"] for line in lines}
    assert any("trace_id" in line for line in lines)
    assert [] == deviations(lines)
