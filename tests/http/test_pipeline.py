"""Middlewares: authentication, request ids, access log, metrics, load shedding, graceful shutdown."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Coroutine
from ipaddress import ip_network
from types import SimpleNamespace
from typing import cast

import pytest
import structlog
from prometheus_client.samples import Sample
from structlog.testing import LogCapture

from gateway.auth.client import Client
from gateway.auth.keys import KeyRing, hash_key, new_key
from gateway.http.pipeline import InFlightLimiter, RequestPipeline, prefix_locations
from gateway.http.request import AnyResponse, Handler, Request, Route
from gateway.http.response import make_response
from gateway.observability.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.model import RunRecord, RunSpec
from tests.http.server_harness import (
    EXPIRED_KEY,
    KEY,
    OTHER_KEY,
    THIRD_KEY,
    UNKNOWN_KEY,
    ParsedResponse,
    ServerHarness,
    build_request,
    build_run_request,
    parse_responses,
    running_server,
)
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics
from tests.support.waiting import wait_until

RUN = b'{"workflow":"w"}'


def samples(server: ServerHarness) -> list[Sample]:
    """Return the parsed exposition."""
    return parse_metrics(server.metrics.render().decode())


def total(server: ServerHarness, name: str, **labels: str) -> float:
    """The sum of the samples of that name with these labels."""
    return metric_sum(samples(server), name, **labels)


# Authentication.


def wrong_keys() -> dict[str, list[str | bytes]]:
    """Header lines without a valid key."""
    return {
        "none": [],
        "empty": ["Authorization:"],
        "empty bearer": ["Authorization: Bearer "],
        "empty X-API-KEY": ["X-API-KEY:"],
        "unknown": [f"Authorization: Bearer {UNKNOWN_KEY}"],
        "unknown in X-API-KEY": [f"X-API-KEY: {UNKNOWN_KEY}"],
        "expired": [f"Authorization: Bearer {EXPIRED_KEY}"],
        "malformed": ["Authorization: Bearer CANARY"],
        "one character off": [f"Authorization: Bearer {KEY[:-1]}{'0' if KEY[-1] != '0' else '1'}"],
        "cut off": [f"Authorization: Bearer {KEY[:-1]}"],
        "too long": [f"Authorization: Bearer {KEY}{KEY}"],
        "another scheme": [f"Authorization: Basic {KEY}"],
        "no scheme": [f"Authorization: {KEY}"],
        "raw bytes": [b"Authorization: Bearer \x80\xff\xfe"],
        "raw bytes in X-API-KEY": [b"X-API-KEY: \xc3\x28"],
        "a bad bearer beside a good key": ["Authorization: Bearer CANARY", f"X-API-KEY: {KEY}"],
        "two keys": [f"X-API-KEY: {UNKNOWN_KEY}", f"X-API-KEY: {KEY}"],
        "in the query": ["X-Nothing: 1"],
    }


async def test_every_wrong_key_gets_the_same_answer(server: ServerHarness) -> None:
    """R75: identical bytes except request id and date; only the log has the reason."""
    seen = set()
    for name, headers in wrong_keys().items():
        path = f"/run?key={KEY}" if name == "in the query" else "/run"
        found = await server.send_request("POST", path, *headers)
        assert (401, "unauthorized") == (found.status, found.code), name
        assert 'Bearer realm="runward"' == found.headers["www-authenticate"]
        kept = {k: v for k, v in found.headers.items() if k not in {"x-request-id", "date"}}
        seen.add((str(kept), found.body.replace(found.headers["x-request-id"].encode(), b"ID")))
    assert 1 == len(seen)
    why = {line["why"] for line in server.log_entries if line["event"] == "key_refused"}
    assert {"missing", "malformed", "unknown", "expired"} == why


async def test_a_refused_key_is_not_in_the_log(server: ServerHarness) -> None:
    """R79: a mistyped key is close to a valid one."""
    for headers in wrong_keys().values():
        await server.send_request("POST", "/run", *headers)
    for secret in (KEY, KEY[:-1], UNKNOWN_KEY, EXPIRED_KEY, "CANARY"):
        assert secret not in repr(server.log_entries)
        assert secret.encode() not in server.metrics.render()


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
async def test_a_good_key_is_taken_from_either_header(server: ServerHarness, header: str) -> None:
    own = build_run_request(RUN).replace(f"Authorization: Bearer {KEY}".encode(), header.format(KEY).encode())
    [found] = parse_responses(await server.send_raw(own))
    assert (200, "one") == (found.status, server.log_entries[-1]["client"])


async def test_a_body_is_not_read_without_a_key(server: ServerHarness) -> None:
    """R65: it would use memory for an unauthenticated client."""
    sent = build_request("POST", "/run", "Content-Type: application/json", "Content-Length: 100000000")
    [found] = parse_responses(await server.send_raw(sent, half_close=True))
    assert 401 == found.status


async def test_many_failed_keys_of_one_address_are_answered_with_429(server: ServerHarness) -> None:
    """R76: after 20 refused keys; a valid key from the same address is still accepted."""
    codes = [(await server.post_run(RUN, key=UNKNOWN_KEY)).code for _ in range(22)]
    assert ["unauthorized"] * 20 + ["too_many_failures"] * 2 == codes
    found = await server.post_run(RUN, key=UNKNOWN_KEY)
    assert (429, "3") == (found.status, found.headers["retry-after"])
    assert 200 == (await server.post_run(RUN)).status
    server.clock.advance(3)
    assert "unauthorized" == (await server.post_run(RUN, key=UNKNOWN_KEY)).code


async def test_failed_keys_are_counted_per_forwarded_address_behind_a_trusted_proxy() -> None:
    """R82: an untrusted client cannot pretend to have many addresses."""
    for trusted, last in ((["127.0.0.0/8"], "unauthorized"), ([], "too_many_failures")):
        async with running_server(trusted_proxies=[ip_network(network) for network in trusted]) as server:
            fields = [f"X-Forwarded-For: 203.0.113.{number}" for number in range(21)]
            assert last == [(await server.post_run(RUN, field, key=UNKNOWN_KEY)).code for field in fields][-1]


# Access log and metrics.


async def test_each_request_is_one_log_entry_and_one_count(server: ServerHarness) -> None:
    """R91, R92."""
    found = await server.post_run(RUN)
    [line] = server.log_entries
    assert {
        "event": "request",
        "log_level": "info",
        "request_id": found.headers["x-request-id"],
        "route": "run",
        "client": "one",
        "status": 200,
        "ms": 0.0,
    } == line
    assert 1 == total(server, "runward_requests_total")


async def test_some_routes_are_counted_and_not_logged(server: ServerHarness) -> None:
    """Load balancers poll /healthz constantly."""
    await server.send_request()
    assert ([], 1) == (server.log_entries, total(server, "runward_requests_total", route="healthz", status="200"))


@pytest.mark.parametrize("given", ["a", "req_1", "A-b.c:d/e+f=", "0" * 128])
async def test_a_request_may_bring_its_own_id(server: ServerHarness, given: str) -> None:
    """The id is in the response, the problem document and the log."""
    found = await server.post_run(b"{}", f"X-Request-Id: {given}")
    assert {given} == {found.headers["x-request-id"], found.json["request_id"], server.log_entries[-1]["request_id"]}


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
async def test_a_hostile_id_is_replaced(server: ServerHarness, given: bytes) -> None:
    """R91: it would be written into the logs of every system on the way."""
    found = await server.post_run(b"{}", b"X-Request-Id: " + given)
    used = found.headers["x-request-id"]
    assert re.fullmatch("req_[0-9a-f]{24}", used)
    assert {used} == {found.json["request_id"], server.log_entries[-1]["request_id"]}


async def test_each_request_has_another_id(server: ServerHarness) -> None:
    ids = [(await server.send_request()).headers["x-request-id"] for _ in range(5)]
    assert 5 == len(set(ids))


async def test_an_unavailable_store_is_a_503_that_may_be_retried(server: ServerHarness) -> None:
    """One mapping for every handler; without a run, nothing can have been started."""
    found = await server.send_request("GET", "/store-down")
    assert (503, "store_unavailable", "1") == (found.status, found.code, found.headers["retry-after"])
    assert found.json["retryable"] is True
    assert "CANARY" not in found.body.decode()


async def test_an_unavailable_store_during_a_run_is_not_called_retryable(server: ServerHarness) -> None:
    """The run may have been started."""
    found = await server.send_request("GET", "/store-down?run")
    assert (500, "internal", False) == (found.status, found.code, found.json["retryable"])


async def test_an_internal_error_is_a_500_without_details(server: ServerHarness) -> None:
    """The log has the exception's class and location, not its message; the request id connects both entries."""
    found = await server.send_request("GET", "/mistake")
    assert (500, "internal") == (found.status, found.code)
    mistake, line = server.log_entries
    assert ("internal_error", "error", "RuntimeError") == (mistake["event"], mistake["log_level"], mistake["exception"])
    assert "mistake" in str(mistake["places"])
    assert mistake["request_id"] == line["request_id"] == found.headers["x-request-id"]
    assert "CANARY" not in repr(server.log_entries) + found.body.decode()


async def test_a_problem_is_counted_by_its_code_and_client(server: ServerHarness) -> None:
    found = await server.send_request("POST", "/refuse", f"Authorization: Bearer {KEY}")
    assert (503, "overloaded", "2") == (found.status, found.code, found.headers["retry-after"])
    await server.send_request("POST", "/refuse")
    assert 1 == total(server, "runward_refusals_total", client="one", code="overloaded")
    assert 1 == total(server, "runward_refusals_total", client="", code="unauthorized")
    assert ["overloaded", "unauthorized"] == [line["code"] for line in server.log_entries if line["event"] == "request"]


async def test_the_series_do_not_grow_with_what_is_sent(server: ServerHarness) -> None:
    """R93: random paths, methods, keys, ids and agents have a fixed set of label values."""
    rng = random.Random(1)
    clock = ManualClock()

    async def anything() -> ParsedResponse:
        word = f"{rng.getrandbits(64):x}"
        method = rng.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS"])
        path = rng.choice(["/" + word, f"/run?{word}", f"/run/{word}", "/healthz?" + word])
        return await server.send_request(
            method, path, f"Authorization: Bearer {new_key(clock)}", f"X-Request-Id: {word}", f"User-Agent: {word}"
        )

    for _ in range(60):
        await anything()
    before = len(samples(server))
    for _ in range(60):
        await anything()
    assert before == len(samples(server))
    assert 120 == total(server, "runward_requests_total")


# The surplus, and the end.


async def start_waiting_requests(server: ServerHarness, count: int, key: str = KEY) -> list[asyncio.Task[bytes]]:
    """Start this number of requests that stay in progress."""
    sent = build_request("POST", "/wait", f"Authorization: Bearer {key}")
    expected = server.limiter.in_flight + count
    tasks = [asyncio.create_task(server.send_raw(sent)) for _ in range(count)]
    await wait_until(lambda: server.limiter.in_flight == expected)
    return tasks


async def test_requests_over_the_in_flight_limit_are_refused_at_once() -> None:
    """R30: with Retry-After, without a run; health routes are not counted."""
    async with running_server(max_in_flight=2) as server:
        tasks = await start_waiting_requests(server, 2)
        found = await server.post_run(RUN)
        assert (503, "overloaded", "1") == (found.status, found.code, found.headers["retry-after"])
        assert ("not_run", True) == (found.json["outcome"], found.json["retryable"])
        assert 200 == (await server.send_request()).status
        server.release.set()
        assert [200, 200] == [parse_responses(raw)[0].status for raw in await asyncio.gather(*tasks)]
        assert 200 == (await server.post_run(RUN)).status


async def test_one_client_with_all_places_does_not_keep_the_others_out() -> None:
    """R88: each client has its share although another holds everything; in sum there are twice the limit at most."""
    async with running_server(max_in_flight=8) as server:
        tasks = await start_waiting_requests(server, 8)
        assert "overloaded" == (await server.post_run(RUN)).code
        tasks += await start_waiting_requests(server, 4, OTHER_KEY)  # 8 / 2 clients
        assert "overloaded" == (await server.post_run(RUN, key=OTHER_KEY)).code
        tasks += await start_waiting_requests(server, 2, THIRD_KEY)  # 8 / 3 clients
        assert "overloaded" == (await server.post_run(RUN, key=THIRD_KEY)).code
        assert "overloaded" == (await server.post_run(RUN)).code
        server.release.set()
        assert [200] * 14 == [parse_responses(raw)[0].status for raw in await asyncio.gather(*tasks)]
        server.release.clear()
        await start_waiting_requests(server, 8, OTHER_KEY)
        assert 200 == (await server.post_run(RUN)).status, "a client without requests in progress has no share"


async def test_the_shares_of_many_clients_are_bounded_in_sum() -> None:
    limiter = InFlightLimiter(4)
    release = asyncio.Event()

    async def wait(_request: Request) -> AnyResponse:
        await release.wait()
        return make_response(200, b"", "text/plain")

    handle = limiter.limit_in_flight(wait)
    route = Route("GET", "/", wait, "wait", requires_key=True)
    requests = [
        cast("Request", SimpleNamespace(route=route, client_name=name, run=None, serving_task=None))
        for name in [*"aaaa", *"bcdefgh"]
    ]
    tasks = [asyncio.create_task(cast("Coroutine[None, None, AnyResponse]", handle(each))) for each in requests]
    await asyncio.sleep(0)
    refused = [task for task in tasks if task.done()]
    assert (7, 4) == (limiter.in_flight, len(refused)), "with five clients a share is less than one request"
    release.set()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert 4 == sum(isinstance(each, Problem) for each in ended)
    assert 0 == limiter.in_flight


async def test_slow_bodies_of_one_client_do_not_keep_the_others_out() -> None:
    """R88."""
    async with running_server(max_in_flight=3) as server:
        unfinished = build_run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 9")
        tasks = [asyncio.create_task(server.send_raw(unfinished)) for _ in range(3)]
        await wait_until(lambda: server.limiter.in_flight == 3)
        assert ["overloaded", 200] == [
            (await server.post_run(RUN)).code,
            (await server.post_run(RUN, key=OTHER_KEY)).status,
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_each_request_releases_its_slot_however_it_ends() -> None:
    """R90: after success, a problem, an internal error, an invalid key, and disconnects."""
    async with running_server(max_in_flight=2) as server:
        for path in ("/refuse", "/mistake", "/run"):
            for _ in range(3):
                await server.send_request("POST", path, f"Authorization: Bearer {KEY}")
        for _ in range(3):
            await server.post_run(RUN)
            await server.post_run(RUN, key=UNKNOWN_KEY)
            await server.send_and_reset(build_run_request(b"").replace(b"Content-Length: 0", b"Content-Length: 9"))
        await server.wait_until_logged(24)
        assert (0, 200) == (server.limiter.in_flight, (await server.post_run(RUN)).status)


async def test_a_cancelled_request_releases_its_slot() -> None:
    """R33: as if the server ended before it responded; the log entry says that there was no response."""
    async with running_server(max_in_flight=2) as server:
        await start_waiting_requests(server, 2)
        lines = server.log_entries
        limiter = server.limiter
        server.release = asyncio.Event()
    assert 0 == limiter.in_flight
    assert {"request"} == {line["event"] for line in lines}


DRAINED = {
    "a run": build_run_request(RUN),
    "a wrong body": build_run_request(b"{}"),
    "no key": build_request("POST", "/run"),
    "health": build_request("GET", "/healthz"),
    "an unknown path": build_request("GET", "/nothing"),
    "a wrong method": build_request("PUT", "/run"),
    "a mistake": build_request("GET", "/mistake"),
    "no HTTP": b"garbage\r\n\r\n",
}


@pytest.mark.parametrize("kind", DRAINED)
async def test_every_answer_of_a_draining_server_is_the_last_of_its_connection(
    server: ServerHarness, kind: str
) -> None:
    """R97: with `Connection: close`, or the client would reuse a closing connection."""
    server.limiter.draining = True
    [found] = parse_responses(await server.send_raw(DRAINED[kind].replace(b"Connection: close\r\n", b"")))
    assert "close" == found.headers["connection"]


async def test_a_server_that_stays_keeps_its_connections(server: ServerHarness) -> None:
    """Negative control of the previous test."""
    kept = build_run_request(RUN).replace(b"Connection: close\r\n", b"")
    first, second, last = parse_responses(await server.send_raw(kept, kept, build_request("GET", "/healthz")))
    assert ["keep-alive", "keep-alive", "close"] == [
        one.headers.get("connection", "keep-alive") for one in (first, second, last)
    ]


async def test_a_draining_server_still_works(server: ServerHarness) -> None:
    """R97: requests are served until the load balancer has reacted."""
    server.limiter.draining = True
    assert 200 == (await server.post_run(RUN)).status


# Cancellation at the end of the grace period.


def run_record(**state: object) -> RunRecord:
    """Return a run record in this state."""
    run = RunRecord.create(RunSpec(client="one", workflow="w", timeout=9.0), "p", ManualClock())
    for name, value in state.items():
        setattr(run, name, value)
    return run


def pending_request(
    limiter: InFlightLimiter, run: RunRecord | None, *, never_ends: bool = True
) -> asyncio.Task[AnyResponse]:
    """Return a request in progress."""

    async def inner(_request: Request) -> AnyResponse:
        await (asyncio.Event().wait() if never_ends else asyncio.sleep(0))
        return make_response(200, b"", "text/plain")

    route = Route("POST", "/run", inner, "run", requires_key=True)
    request = cast("Request", SimpleNamespace(route=route, client_name="one", run=run, serving_task=None))
    return asyncio.ensure_future(limiter.limit_in_flight(inner)(request))


DRAINING_PROBLEMS: dict[str, tuple[dict[str, object], tuple[str, bool, float | None, bool]]] = {
    "it waited for its turn": ({}, ("not_run", True, 1, False)),
    "and was kept": ({"durable": True}, ("not_run", True, 1, False)),
    "it was started": ({"maybe_started": True, "attempts": 1}, ("unknown", False, None, False)),
    "and was kept, too": ({"maybe_started": True, "durable": True}, ("unknown", False, None, True)),
    "it was over already": ({"status": "succeeded", "finished_at": 1}, ("unknown", False, None, False)),
    "it had failed": ({"status": "failed", "finished_at": 1}, ("failed", False, None, False)),
    "nothing had run": ({"status": "not_run", "finished_at": 1}, ("not_run", True, 1, False)),
}


@pytest.mark.parametrize("how", DRAINING_PROBLEMS)
async def test_a_cancelled_run_is_reported_with_its_known_outcome(how: str) -> None:
    """R98: never more than is known; a stored run can be looked up."""
    state, expected = DRAINING_PROBLEMS[how]
    limiter, run = InFlightLimiter(10), run_record(**state)
    task = pending_request(limiter, run)
    await asyncio.sleep(0)
    limiter.cancel_runs()
    limiter.cancel_runs()
    with pytest.raises(Problem) as caught:
        await task
    document = json.loads(caught.value.document("req"))
    assert ("draining", run.id, "p", run.attempts) == tuple(
        document[name] for name in ("code", "run_id", "provider", "attempts")
    )
    asks_again = "Idempotency-Key" in document["detail"]
    assert expected == (document["outcome"], document["retryable"], caught.value.retry_after, asks_again)
    assert (0, 0) == (limiter.in_flight, task.cancelling())


async def test_only_requests_with_a_run_are_cancelled() -> None:
    """R98: requests without a run and finished requests are not cancelled."""
    limiter = InFlightLimiter(10)
    without, ended, run = (
        pending_request(limiter, None),
        pending_request(limiter, run_record(), never_ends=False),
        pending_request(limiter, run_record()),
    )
    await ended
    limiter.cancel_runs()
    await asyncio.wait([run])
    assert (False, True, 200) == (without.done(), isinstance(run.exception(), Problem), ended.result().status)
    without.cancel()
    with pytest.raises(asyncio.CancelledError):  # as anybody else may cancel it
        await without
    assert 0 == limiter.in_flight


async def test_other_keys_and_clients_hold_at_once(server: ServerHarness) -> None:
    """R100: from the next request on, on any connection."""
    assert 200 == (await server.post_run(RUN)).status
    server.authenticator.reconfigure(KeyRing({"two": [(hash_key(UNKNOWN_KEY), None)]}), {"two": Client("two", ("*",))})
    assert [401, 200] == [(await server.post_run(RUN, key=key)).status for key in (KEY, UNKNOWN_KEY)]
    assert "two" == server.log_entries[-1]["client"]


# Disconnects while a response is written.


async def test_a_disconnect_during_a_large_response_is_no_error(server: ServerHarness) -> None:
    """The response was complete for the gateway; the rest of it is dropped without an error in the log."""
    await server.send_and_reset(build_request("GET", "/large"))
    await server.wait_until_logged()
    await server.send_request("GET", "/large")
    await server.wait_until_logged(2)
    assert {("info", 200)} == {(line["log_level"], line["status"]) for line in server.log_entries}


async def test_a_connection_error_is_internal_while_the_client_is_connected() -> None:
    """Only one of the client's own connection is a disconnect; another is a defect."""

    def fail(_inner: Handler) -> Handler:
        async def handle(_request: Request) -> AnyResponse:
            raise ConnectionResetError("CANARY")

        return handle

    log, metrics = LogCapture(), Metrics()
    logger = structlog.wrap_logger(None, processors=[log], wrapper_class=structlog.make_filtering_bound_logger(10))
    async with running_server(middlewares=[RequestPipeline(metrics, logger, ManualClock()), fail]) as server:
        response = await server.send_request()
    assert (500, "internal") == (response.status, response.code)
    assert ["internal_error"] == [line["event"] for line in log.entries]


# The prefix of a proxy.


@pytest.mark.parametrize(
    ("network", "expected"), [("127.0.0.0/8", "/ai/runs/1"), ("192.0.2.0/24", "/runs/1")], ids=["trusted", "another"]
)
async def test_locations_lead_through_the_proxy_that_removed_a_prefix(network: str, expected: str) -> None:
    def accept(_inner: Handler) -> Handler:
        async def handle(_request: Request) -> AnyResponse:
            return make_response(202, b"{}", "application/json", (("Location", "/runs/1"),))

        return handle

    async with running_server(middlewares=[prefix_locations([ip_network(network)]), accept]) as server:
        response = await server.send_request("GET", "/healthz", "X-Forwarded-Prefix: /ai/")
        without = await server.send_request("GET", "/healthz")
    assert (expected, "/runs/1") == (response.headers["location"], without.headers["location"])
