"""Around every route: who asks is known, every request is seen once, and the surplus is refused without harm."""

from __future__ import annotations

import asyncio
import json
import random
import re
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from gateway.access.clients import Client
from gateway.access.keys import KeyRing, hash_key, new_key
from gateway.api.middleware import Doors
from gateway.api.server import Request, Route
from gateway.problems import Problem
from gateway.runs.record import Order, RunRecord
from tests.api.listening import (
    EXPIRED,
    KEY,
    STRANGE,
    Answered,
    Listening,
    answers,
    listening,
    request,
    run_request,
    until,
)
from tests.manual_clock import ManualClock

RUN = b'{"workflow":"w"}'


def samples(here: Listening) -> list[Sample]:
    """What a scrape sees."""
    families = text_string_to_metric_families(here.metrics.render().decode())
    return [sample for family in families for sample in family.samples]


def total(here: Listening, name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels."""
    return sum(s.value for s in samples(here) if s.name == name and labels.items() <= s.labels.items())


# Who asks.


def wrong_keys() -> dict[str, list[str | bytes]]:
    """Ways of not having a good key, as header lines."""
    return {
        "none": [],
        "empty": ["Authorization:"],
        "empty bearer": ["Authorization: Bearer "],
        "empty X-API-KEY": ["X-API-KEY:"],
        "unknown": [f"Authorization: Bearer {STRANGE}"],
        "unknown in X-API-KEY": [f"X-API-KEY: {STRANGE}"],
        "expired": [f"Authorization: Bearer {EXPIRED}"],
        "malformed": ["Authorization: Bearer CANARY"],
        "one character off": [f"Authorization: Bearer {KEY[:-1]}{'0' if KEY[-1] != '0' else '1'}"],
        "cut off": [f"Authorization: Bearer {KEY[:-1]}"],
        "too long": [f"Authorization: Bearer {KEY}{KEY}"],
        "another scheme": [f"Authorization: Basic {KEY}"],
        "no scheme": [f"Authorization: {KEY}"],
        "raw bytes": [b"Authorization: Bearer \x80\xff\xfe"],
        "raw bytes in X-API-KEY": [b"X-API-KEY: \xc3\x28"],
        "a bad bearer beside a good key": ["Authorization: Bearer CANARY", f"X-API-KEY: {KEY}"],
        "two keys": [f"X-API-KEY: {STRANGE}", f"X-API-KEY: {KEY}"],
        "in the query": ["X-Nothing: 1"],
    }


async def test_every_wrong_key_gets_the_same_answer(here: Listening) -> None:
    """R75: but for the request's id and the date, to the byte; why it was refused stands in the log alone."""
    seen = set()
    for name, headers in wrong_keys().items():
        path = f"/run?key={KEY}" if name == "in the query" else "/run"
        found = await here.ask("POST", path, *headers)
        assert (401, "unauthorized") == (found.status, found.code), name
        assert 'Bearer realm="runward"' == found.headers["www-authenticate"]
        kept = {k: v for k, v in found.headers.items() if k not in {"x-request-id", "date"}}
        seen.add((str(kept), found.body.replace(found.headers["x-request-id"].encode(), b"ID")))
    assert 1 == len(seen)
    why = {line["why"] for line in here.lines if line["event"] == "key_refused"}
    assert {"missing", "malformed", "unknown", "expired"} == why


async def test_a_refused_key_is_not_in_the_log(here: Listening) -> None:
    """R79: a mistyped key is nearly a key."""
    for headers in wrong_keys().values():
        await here.ask("POST", "/run", *headers)
    for secret in (KEY, KEY[:-1], STRANGE, EXPIRED, "CANARY"):
        assert secret not in repr(here.lines)
        assert secret.encode() not in here.metrics.render()


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer {}",
        "authorization: bearer {}",
        "Authorization: BEARER   {}  ",
        "X-API-KEY: {}",
        "x-api-key:{}",
    ],
)
async def test_a_good_key_is_taken_from_either_header(here: Listening, header: str) -> None:
    own = run_request(RUN).replace(f"Authorization: Bearer {KEY}".encode(), header.format(KEY).encode())
    [found] = answers(await here.talk(own))
    assert (200, "one") == (found.status, here.lines[-1]["client"])


async def test_a_body_is_not_read_for_whoever_has_no_key(here: Listening) -> None:
    """R65: it would be memory for a stranger."""
    sent = request("POST", "/run", "Content-Type: application/json", "Content-Length: 100000000")
    [found] = answers(await here.talk(sent, half_close=True))
    assert 401 == found.status


async def test_a_stranger_with_many_keys_is_told_to_wait(here: Listening) -> None:
    """R76: after 20 refused keys from one address; a good key from the same address is served all the same."""
    codes = [(await here.run(RUN, key=STRANGE)).code for _ in range(22)]
    assert ["unauthorized"] * 20 + ["too_many_failures"] * 2 == codes
    found = await here.run(RUN, key=STRANGE)
    assert (429, "3") == (found.status, found.headers["retry-after"])
    assert 200 == (await here.run(RUN)).status
    here.clock.advance(3)
    assert "unauthorized" == (await here.run(RUN, key=STRANGE)).code


async def test_strangers_are_told_apart_behind_a_proxy_that_is_trusted() -> None:
    """R82: and only there; whoever is not trusted can not pretend to be many."""
    for trusted, last in ((["127.0.0.0/8"], "unauthorized"), ([], "too_many_failures")):
        async with listening(trusted=[ip_network(network) for network in trusted]) as here:
            fields = [f"X-Forwarded-For: 203.0.113.{number}" for number in range(21)]
            assert last == [(await here.run(RUN, field, key=STRANGE)).code for field in fields][-1]


# What is seen of a request.


async def test_each_request_is_one_line_and_one_count(here: Listening) -> None:
    """R91, R92."""
    found = await here.run(RUN)
    [line] = here.lines
    assert {
        "event": "request",
        "log_level": "info",
        "request_id": found.headers["x-request-id"],
        "route": "run",
        "client": "one",
        "status": 200,
        "ms": 0.0,
    } == line
    assert 1 == total(here, "runward_requests_total")


async def test_some_routes_are_counted_and_not_logged(here: Listening) -> None:
    """A load balancer asks for /healthz all day."""
    await here.ask()
    assert ([], 1) == (here.lines, total(here, "runward_requests_total", route="healthz", status="200"))


@pytest.mark.parametrize("given", ["a", "req_1", "A-b.c:d/e+f=", "0" * 128])
async def test_a_request_may_bring_its_own_id(here: Listening, given: str) -> None:
    """It stands in the answer, in the document and in the log."""
    found = await here.run(b"{}", f"X-Request-Id: {given}")
    assert {given} == {found.headers["x-request-id"], found.json["request_id"], here.lines[-1]["request_id"]}


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"a b",
        b"0" * 129,
        b"x" * 1000,
        b"<script>",
        b'"}',
        "ü".encode(),
        b"\x80",
        b"a\tb",
        b"a,b",
        b"{CANARY}",
        b"%0d%0a",
    ],
)
async def test_a_hostile_id_is_replaced(here: Listening, given: bytes) -> None:
    """R91: it would be written into every log between here and there."""
    found = await here.run(b"{}", b"X-Request-Id: " + given)
    used = found.headers["x-request-id"]
    assert re.fullmatch("req_[0-9a-f]{24}", used)
    assert {used} == {found.json["request_id"], here.lines[-1]["request_id"]}


async def test_each_request_has_another_id(here: Listening) -> None:
    ids = [(await here.ask()).headers["x-request-id"] for _ in range(5)]
    assert 5 == len(set(ids))


async def test_a_mistake_is_a_500_that_says_nothing(here: Listening) -> None:
    """The log has its kind and its place, but not its words; the request's id leads from one to the other."""
    found = await here.ask("GET", "/mistake")
    assert (500, "internal") == (found.status, found.code)
    mistake, line = here.lines
    assert ("mistake", "error", "RuntimeError") == (mistake["event"], mistake["log_level"], mistake["exception"])
    assert "mistake" in str(mistake["places"])
    assert mistake["request_id"] == line["request_id"] == found.headers["x-request-id"]
    assert "CANARY" not in repr(here.lines) + found.body.decode()


async def test_a_problem_is_counted_by_its_code_and_client(here: Listening) -> None:
    found = await here.ask("POST", "/refuse", f"Authorization: Bearer {KEY}")
    assert (503, "overloaded", "2") == (found.status, found.code, found.headers["retry-after"])
    await here.ask("POST", "/refuse")
    assert 1 == total(here, "runward_refusals_total", client="one", code="overloaded")
    assert 1 == total(here, "runward_refusals_total", client="", code="unauthorized")
    assert ["overloaded", "unauthorized"] == [line["code"] for line in here.lines if line["event"] == "request"]


async def test_the_series_do_not_grow_with_what_is_sent(here: Listening) -> None:
    """R93: random paths, methods, keys, ids and agents end up under the same few names."""
    chance = random.Random(1)
    clock = ManualClock()

    async def anything() -> Answered:
        word = f"{chance.getrandbits(64):x}"
        method = chance.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS"])
        path = chance.choice(["/" + word, f"/run?{word}", f"/run/{word}", "/healthz?" + word])
        return await here.ask(
            method, path, f"Authorization: Bearer {new_key(clock)}", f"X-Request-Id: {word}", f"User-Agent: {word}"
        )

    for _ in range(60):
        await anything()
    before = len(samples(here))
    for _ in range(60):
        await anything()
    assert before == len(samples(here))
    assert 120 == total(here, "runward_requests_total")


# The surplus, and the end.


async def waiting(here: Listening, count: int) -> list[asyncio.Task[bytes]]:
    """So many requests that are being worked on."""
    sent = request("POST", "/wait", f"Authorization: Bearer {KEY}")
    tasks = [asyncio.create_task(here.talk(sent)) for _ in range(count)]
    await until(lambda: here.doors.in_flight == count)
    return tasks


async def test_the_surplus_is_refused_at_once() -> None:
    """R30: with a hint, without a run; routes for load balancers are not counted."""
    async with listening(limit=2) as here:
        tasks = await waiting(here, 2)
        found = await here.run(RUN)
        assert (503, "overloaded", "1") == (found.status, found.code, found.headers["retry-after"])
        assert ("not_run", True) == (found.json["outcome"], found.json["retryable"])
        assert 200 == (await here.ask()).status
        here.go.set()
        assert [200, 200] == [answers(raw)[0].status for raw in await asyncio.gather(*tasks)]
        assert 200 == (await here.run(RUN)).status


async def test_each_request_gives_its_place_back_however_it_ends() -> None:
    """R90: after success, a problem, a mistake, a wrong key, and clients that left."""
    async with listening(limit=2) as here:
        for path in ("/refuse", "/mistake", "/run"):
            for _ in range(3):
                await here.ask("POST", path, f"Authorization: Bearer {KEY}")
        for _ in range(3):
            await here.run(RUN)
            await here.run(RUN, key=STRANGE)
            await here.leave(run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 9"))
        await here.until_logged(24)
        assert (0, 200) == (here.doors.in_flight, (await here.run(RUN)).status)


async def test_a_request_that_is_cancelled_gives_its_place_back() -> None:
    """R33: as when the server ends before it has answered; the line says that there was no answer."""
    async with listening(limit=2) as here:
        await waiting(here, 2)
        lines = here.lines
        doors = here.doors
        here.go = asyncio.Event()
    assert 0 == doors.in_flight
    assert {"request"} == {line["event"] for line in lines}


DRAINED = {
    "a run": run_request(RUN),
    "a wrong body": run_request(b"{}"),
    "no key": request("POST", "/run"),
    "health": request("GET", "/healthz"),
    "an unknown path": request("GET", "/nothing"),
    "a wrong method": request("PUT", "/run"),
    "a mistake": request("GET", "/mistake"),
    "no HTTP": b"garbage\r\n\r\n",
}


@pytest.mark.parametrize("kind", DRAINED)
async def test_every_answer_of_a_draining_server_is_the_last_of_its_connection(here: Listening, kind: str) -> None:
    """R97: and says so, or the client would send its next request into a closing connection."""
    here.doors.draining = True
    [found] = answers(await here.talk(DRAINED[kind].replace(b"Connection: close\r\n", b"")))
    assert "close" == found.headers["connection"]


async def test_a_server_that_stays_keeps_its_connections(here: Listening) -> None:
    """Or the test above would say nothing."""
    kept = run_request(RUN).replace(b"Connection: close\r\n", b"")
    first, second, last = answers(await here.talk(kept, kept, request("GET", "/healthz")))
    assert ["keep-alive", "keep-alive", "close"] == [
        one.headers.get("connection", "keep-alive") for one in (first, second, last)
    ]


async def test_a_draining_server_still_works(here: Listening) -> None:
    """R97: whoever comes while the balancer has not noticed is served."""
    here.doors.draining = True
    assert 200 == (await here.run(RUN)).status


# Who is sent away at the end of the grace.


def record(**state: object) -> RunRecord:
    """A run that has come so far."""
    made = RunRecord.open(Order(client="one", workflow="w", timeout=9.0), "p", ManualClock())
    for name, value in state.items():
        setattr(made, name, value)
    return made


class Kept:
    """A journal, by being there."""

    async def sending(self, run: RunRecord) -> None:
        """See `Journal.sending`."""

    async def following(self, run: RunRecord) -> None:
        """See `Journal.following`."""


def asking(doors: Doors, run: RunRecord | None, *, for_ever: bool = True) -> asyncio.Task[web.StreamResponse]:
    """A request that is in work."""

    async def inner(_request: Request) -> web.StreamResponse:
        await (asyncio.Event().wait() if for_ever else asyncio.sleep(0))
        return web.Response()

    route = Route("POST", "/run", inner, "run", keyed=True)
    request = cast("Request", SimpleNamespace(route=route, run=run))
    return asyncio.ensure_future(doors.guard(inner)(request))


ENDINGS: dict[str, tuple[dict[str, object], tuple[str, bool, float | None, bool]]] = {
    "it waited for its turn": ({}, ("not_run", True, 1, False)),
    "and was kept": ({"journal": Kept()}, ("not_run", True, 1, False)),
    "it was started": ({"maybe_started": True, "attempts": 1}, ("unknown", False, None, False)),
    "and was kept, too": ({"maybe_started": True, "journal": Kept()}, ("unknown", False, None, True)),
    "it was over already": ({"status": "succeeded", "finished_at": 1}, ("unknown", False, None, False)),
    "it had failed": ({"status": "failed", "finished_at": 1}, ("failed", False, None, False)),
    "nothing had run": ({"status": "not_run", "finished_at": 1}, ("not_run", True, 1, False)),
}


@pytest.mark.parametrize("how", ENDINGS)
async def test_whoever_is_sent_away_is_told_how_far_the_run_came(how: str) -> None:
    """R98: never more than is known, and that a kept one can be asked for again."""
    state, expected = ENDINGS[how]
    doors, run = Doors(10), record(**state)
    task = asking(doors, run)
    await asyncio.sleep(0)
    doors.clear()
    doors.clear()
    with pytest.raises(Problem) as caught:
        await task
    told = json.loads(caught.value.document("req"))
    assert ("draining", run.id, "p", run.attempts) == tuple(
        told[name] for name in ("code", "run_id", "provider", "attempts")
    )
    asks_again = "Idempotency-Key" in told["detail"]
    assert expected == (told["outcome"], told["retryable"], caught.value.retry_after, asks_again)
    assert (0, 0) == (doors.in_flight, task.cancelling())


async def test_only_who_has_a_run_is_sent_away() -> None:
    """R98: of the others nobody can say what they have begun; and who has ended has ended."""
    doors = Doors(10)
    without, ended, run = asking(doors, None), asking(doors, record(), for_ever=False), asking(doors, record())
    await ended
    doors.clear()
    await asyncio.wait([run])
    assert (False, True, 200) == (without.done(), isinstance(run.exception(), Problem), ended.result().status)
    without.cancel()
    with pytest.raises(asyncio.CancelledError):  # as anybody else may cancel it
        await without
    assert 0 == doors.in_flight


async def test_other_keys_and_clients_hold_at_once(here: Listening) -> None:
    """R100: from the next request on, on whatever connection it comes."""
    assert 200 == (await here.run(RUN)).status
    here.porter.reconfigure(KeyRing({"two": [(hash_key(STRANGE), None)]}), {"two": Client("two", ("*",))})
    assert [401, 200] == [(await here.run(RUN, key=key)).status for key in (KEY, STRANGE)]
    assert "two" == here.lines[-1]["client"]
