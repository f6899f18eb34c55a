"""Authentication: responses to invalid keys, permissions of valid ones, and no information without a key."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Sequence
from statistics import NormalDist

import pytest

from gateway.auth.keys import hash_key, new_key
from gateway.clock import SystemClock
from tests.security.gateway_harness import GatewayHarness, assert_problem
from tests.security.sample_requests import bearer_header, run_with_headers
from tests.support.configuration import CLIENT_KEYS, PROVIDER_SECRETS
from tests.support.raw_client import RawConnection, RawResponse, raw_connection, send_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = CLIENT_KEYS["one"]
BURST = 20  # bad keys that an address may send at once


BAD_KEYS = {
    "none": [],
    "empty": [b"Authorization:"],
    "scheme alone": [b"Authorization: Bearer"],
    "scheme and a space": [b"Authorization: Bearer "],
    "other scheme": [b"Authorization: Basic " + KEY.encode()],
    "no scheme": [b"Authorization: " + KEY.encode()],
    "malformed": [bearer_header("hunter2")],
    "first character wrong": [bearer_header("x" + KEY[1:])],
    "last character wrong": [bearer_header(KEY[:-1] + ("0" if KEY[-1] != "0" else "1"))],
    "other case": [bearer_header(KEY.swapcase())],
    "too short": [bearer_header(KEY[:-1])],
    "too long": [bearer_header(KEY + "0")],
    "unknown": [bearer_header(new_key(SystemClock()))],
    "hash for a key": [bearer_header(hash_key(KEY))],
    "provider's key": [bearer_header(PROVIDER_SECRETS["PROMPT_STUDIO_API_KEY"])],
    "raw bytes": [b"Authorization: Bearer \xff\xfe" + KEY.encode()],
    "eight kilobytes": [bearer_header("rw_" + "a" * 8000)],
    "bad bearer beside a good key": [bearer_header("hunter2"), b"X-API-KEY: " + KEY.encode()],
    "X-API-KEY, unknown": [b"X-API-KEY: " + new_key(SystemClock()).encode()],
    "X-API-KEY, empty": [b"X-API-KEY: "],
    "other header": [b"API_KEY: " + KEY.encode()],
    "cookie": [b"Cookie: Authorization=Bearer " + KEY.encode()],
}


async def test_every_bad_key_gets_the_same_answer(harness: GatewayHarness) -> None:
    """R75: identical 401 with WWW-Authenticate; nothing is run, and only the log has the reason."""
    replies = {
        name: await send_request(harness.url, run_with_headers(*BAD_KEYS[name]), f"127.0.1.{n}")
        for n, name in enumerate(BAD_KEYS, 1)
    }
    for name, reply in replies.items():
        assert_problem(reply, 401, "unauthorized")
        assert replies["none"].comparable == reply.comparable, name
        assert len(replies["none"].raw) == len(reply.raw), name
    assert 'Bearer realm="runward"' == replies["none"].header("WWW-Authenticate")
    assert [] == harness.upstream.received
    why = {word for word in ("missing", "malformed", "unknown") if f'"why":"{word}"' in harness.log_output}
    assert {"missing", "malformed", "unknown"} == why


@pytest.mark.parametrize(
    "line",
    [
        bearer_header(KEY),
        b"authorization: bearer " + KEY.encode(),
        b"Authorization: BEARER   " + KEY.encode() + b"  ",
        b"X-API-KEY: " + KEY.encode(),
        b"x-api-key:" + KEY.encode(),
    ],
    ids=["bearer", "lower case", "upper case and spaces", "X-API-KEY", "x-api-key without a space"],
)
async def test_a_good_key_may_be_presented_in_several_ways(harness: GatewayHarness, line: bytes) -> None:
    assert 200 == (await send_request(harness.url, run_with_headers(line))).status


def p_value(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the p-value of the Mann-Whitney U test for two samples, by its normal approximation."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in two])
    ranks = sum(rank for rank, (_, sample) in enumerate(ranked, 1) if sample == 0)
    n, m = len(one), len(two)
    deviation = (ranks - n * (n + m + 1) / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return 2 * NormalDist().cdf(-abs(deviation))


async def response_seconds(caller: RawConnection, data: bytes) -> float:
    began = time.perf_counter()
    await caller.send(data)
    assert (await caller.read_response()).status in {401, 429}
    return time.perf_counter() - began


async def test_time_does_not_tell_how_far_a_key_is_right(harness: GatewayHarness) -> None:
    """R75: keys wrong in the first or last character: two interleaved samples of 1 000 do not differ."""
    first, last = (run_with_headers(*BAD_KEYS[name]) for name in ("first character wrong", "last character wrong"))
    shuffle = random.Random(75)
    p_values: list[float] = []
    async with raw_connection(harness.url, "127.0.2.1") as caller:
        while not p_values or (p_values[-1] < 0.01 and len(p_values) < 3):  # one sample in a hundred looks so by chance
            seconds: dict[bytes, list[float]] = {first: [], last: []}
            for _ in range(1000):
                for data in shuffle.sample([first, last], 2):
                    seconds[data].append(await response_seconds(caller, data))
            p_values.append(p_value(seconds[first], seconds[last]))
    assert p_values[-1] >= 0.01, p_values


async def test_the_comparison_of_times_can_fail() -> None:
    """Negative control: a difference of a twentieth of the spread is detected."""
    rng = random.Random(1)
    one = [rng.gauss(1.0, 0.1) for _ in range(1000)]
    assert p_value(one, [value + 0.02 for value in one]) < 0.01 < p_value(one, [rng.gauss(1.0, 0.1) for _ in one])


async def try_random_keys(harness: GatewayHarness, count: int, source: str, *fields: bytes) -> list[RawResponse]:
    """Send this number of runs with a new key each, from that address."""
    clock = SystemClock()
    async with raw_connection(harness.url, source) as caller:
        await caller.send(b"".join(run_with_headers(bearer_header(new_key(clock)), *fields) for _ in range(count)))
        return [await caller.read_response() for _ in range(count)]


async def test_key_guessing_is_answered_with_429(harness: GatewayHarness) -> None:
    """R76: 2 000 keys from one address: 20 times 401, then 429 with Retry-After; memory hardly grows."""
    began = time.monotonic()
    with harness.memory_growth_below(10_000_000):
        replies = await try_random_keys(harness, 2000, "127.0.3.1")
    passed = [reply for reply in replies if reply.status == 401]
    assert BURST <= len(passed) <= BURST + (time.monotonic() - began) / 3 + 1
    assert [401] * BURST == [reply.status for reply in replies[:BURST]]
    refused = [reply for reply in replies if reply.status != 401]
    assert_problem(refused[0], 429, "too_many_failures")
    assert {(429, "too_many_failures")} == {reply.summary for reply in refused}
    assert {"1", "2", "3"} >= {reply.header("Retry-After") for reply in refused}
    assert [] == harness.upstream.received


async def test_valid_keys_and_other_addresses_are_not_throttled(harness: GatewayHarness) -> None:
    """R76: valid keys from the same address pass; invalid keys from others get a 401."""
    await try_random_keys(harness, 2 * BURST, "127.0.3.2")
    for source in ("127.0.3.2", "127.0.3.3"):
        assert 200 == (await send_request(harness.url, run_with_headers(bearer_header(KEY)), source)).status
    assert [401] == [reply.status for reply in await try_random_keys(harness, 1, "127.0.3.3")]


async def test_waiting_as_long_as_was_said_is_enough(harness: GatewayHarness) -> None:
    """R76: Retry-After is exact: then exactly one more invalid key gets a 401."""
    refused = (await try_random_keys(harness, BURST + 1, "127.0.3.4"))[-1]
    assert (429, "3") == (refused.status, refused.header("Retry-After"))
    await asyncio.sleep(3)
    assert [401, 429] == [reply.status for reply in await try_random_keys(harness, 2, "127.0.3.4")]
