"""The books balance: what was counted is what happened, under names that nobody outside can choose (R92, R93)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from prometheus_client.samples import Sample

from gateway.access.keys import new_key
from gateway.clock import SystemClock
from providers.contract import JsonValue
from tests.edge.raw import Reply, ask, calling, get, head, post
from tests.edge.requests import posting, refusals, run_of
from tests.edge.world import World, serving
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.faults import Script
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    STUDIO_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.process import total

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENDS: Sequence[Script] = [
    prompt_studio_reply({}), prompt_studio_reply({}), reply(500, {}), reply(400, {}), reply(404, {}), reply(401, {}),
    reply(429, {}), reply(503, {}), faults.rst_after_request, faults.fin_after_request, faults.GARBAGE,
    faults.truncate(3), faults.headers_then_fin, reply(200, b"[]"), faults.after(0.05, prompt_studio_reply({})),
]  # fmt: skip


def mixed_requests(chance: random.Random) -> list[bytes]:
    """Three hundred, in no order: a third of them are runs."""
    runs = [run_of(chance.choice(["studio", "layer"])) for _ in range(100)]
    others = [chance.choice([*refusals().values()])[0] for _ in range(150)]
    open_ones = [get(chance.choice(["/healthz", "/readyz", "/docs"])) for _ in range(50)]
    mixed = runs + others + open_ones
    chance.shuffle(mixed)
    return mixed


def unreliable(world: World, chance: random.Random) -> None:
    """Let the upstream do this and that."""
    world.upstream.script("POST", STUDIO_RUN, [chance.choice(ENDS) for _ in range(400)])
    world.upstream.script(
        "POST", LAYER_RUN, [promptlayer_started(787) if n % 3 else reply(429, {}) for n in range(400)]
    )
    done = promptlayer_done({"Answer": node("because")})
    world.upstream.script("GET", LAYER_RESULTS, chance.choices([promptlayer_running(), done, reply(500, {})], k=400))


async def answers_to(world: World, sent: Sequence[bytes]) -> list[Reply]:
    """Send all, ten at a time, from so many addresses that none has too many failures."""
    answers: list[Reply] = []
    for first in range(0, len(sent), 10):
        asked = enumerate(sent[first : first + 10], first)
        answers += await asyncio.gather(*(ask(world.url, data, f"127.0.6.{n % 250 + 1}") for n, data in asked))
    return answers


def by_label(samples: Sequence[Sample], name: str, label: str) -> dict[str, float]:
    """What was counted, by the values of one label."""
    return {s.labels[label]: total(samples, name, **{label: s.labels[label]}) for s in samples if s.name == name}


async def test_the_books_balance(tmp_path: Path) -> None:
    """R92: what the gateway counted is what was sent, answered and seen upstream; nothing is left in flight."""
    chance = random.Random(92)
    breaker: JsonValue = {"failures": 1_000_000}
    async with serving(tmp_path, breaker=breaker, clients={"two": {"workflows": ["layer"]}}) as world:
        unreliable(world, chance)
        answers = await answers_to(world, mixed_requests(chance))
        samples = await world.gateway.metrics()
        assert Counter(str(a.status) for a in answers) == by_label(samples, "runward_requests_total", "status")
        codes = Counter(str(answer.json["code"]) for answer in answers if answer.status >= 400)
        assert codes == by_label(samples, "runward_refusals_total", "code")
        runs = [answer.json for answer in answers if b'"attempts":' in answer.body]
        outcomes = Counter(str(run.get("outcome", run.get("status"))) for run in runs)
        assert outcomes == by_label(samples, "runward_runs_total", "outcome")
        assert (100, {"succeeded", "failed", "unknown", "not_run"}) == (len(runs), set(outcomes))
        assert 100 == total(samples, "runward_run_duration_seconds_count")
        assert len(world.upstream.log) == total(samples, "runward_upstream_calls_total")
        starts = sum(int(str(run["attempts"])) for run in runs)
        assert len(world.upstream.requests("POST")) == starts
        assert starts == total(samples, "runward_upstream_calls_total", operation="start")
        assert 0 == total(samples, "runward_requests_in_flight")


async def test_clients_that_leave_are_counted_too(world: World) -> None:
    """R92: whoever hangs up in the middle of its run leaves nothing in flight, and its run is counted."""
    world.upstream.always("POST", STUDIO_RUN, faults.after(0.3, prompt_studio_reply({})))
    before = await world.gateway.metrics()
    for _ in range(20):
        async with calling(world.url) as caller:
            await caller.send(post())
            await asyncio.sleep(0.01)
    lines = await world.lines("run", 20)
    after = await world.gateway.metrics()
    for name in ("runward_runs_total", "runward_upstream_calls_total"):
        assert 20 == total(after, name) - total(before, name)
    requests = [total(samples, "runward_requests_total", route="run") for samples in (before, after)]
    assert (20, 20, 20) == (requests[1] - requests[0], len(world.upstream.log), len(lines))
    assert 0 == total(after, "runward_requests_in_flight")


def noise(chance: random.Random) -> bytes:
    """A request with random path, method, key, user agent and names."""
    word = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.~%", k=chance.randint(1, 60)))
    key = {"Authorization": f"Bearer {new_key(SystemClock())}"}
    agent = {"User-Agent": word, "X-Request-Id": word, "Referer": word, "X-" + word.strip("%~."): word}
    kinds = [
        get(f"/{word}", agent),
        head(chance.choice(["PUT", "DELETE", "PATCH", "OPTIONS"]), f"/{word}", agent, client=None),
        head(chance.choice(["GET", "PUT", "TRACE", "PROPFIND"]), f"/run?{word}", agent),
        post(headers=agent | key, client=None),
        run_of(word),
        run_of(f"nobody/{word}"),
        run_of(f"prompt_studio/{word}"),
        run_of(f"promptlayer/{word}", label=word, metadata={word: word}, input={word: word}),
        posting({word: word}),
        post(word.encode()),
        f"{word.upper()} /{word} HTTP/1.1\r\n\r\n".encode(),
    ]
    return chance.choice(kinds)


async def test_the_number_of_series_depends_on_nobody(world: World) -> None:
    """R93: 1 000 random paths, methods, keys, user agents, names: not one series more than after the first hundred."""
    chance = random.Random(93)
    world.upstream.route(lambda r: r.path.startswith("/workflows/"), promptlayer_started(787))
    world.upstream.always("GET", LAYER_RESULTS, promptlayer_done({"Answer": node("because")}))
    for _ in range(30):  # more bad keys than an address may send
        await ask(world.url, post(headers={"X-API-KEY": "x"}, client=None), "127.0.7.1")
    series = []
    for count in (300, 1000):
        for number in range(count):
            assert (await ask(world.url, noise(chance), f"127.0.7.{number % 5 + 1}")).status < 500
        series.append({(s.name, *sorted(s.labels.items())) for s in await world.gateway.metrics()})
    assert set() == series[1] - series[0]
    assert len(series[1]) < 400
