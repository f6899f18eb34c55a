"""Workload of the soak: responses of the provider and requests of the clients."""

from __future__ import annotations

import asyncio
import json
import random
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.support.configuration import CLIENT_KEYS, MAX_RESPONSE
from tests.support.fake_upstream import faults
from tests.support.fake_upstream.provider_responses import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)
from tests.support.fake_upstream.responses import reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.contract import JsonValue
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.faults import ResponseScript

CONFIG: Mapping[str, JsonValue] = MappingProxyType(
    {
        "logs": {"level": "info"},
        "server": {"header_timeout": "10s"},
        "breaker": {"cooldown": "500ms", "cooldown_max": "2s"},
        "workflows": {name: {"timeout": "2s", "max_timeout": "2s"} for name in ("studio", "layer")},
        "providers": {
            name: {"limits": {"rate": "2000/s", "concurrency": 300}} for name in ("promptlayer", "prompt_studio")
        },
        "clients": {"two": {"limits": {"rate": "20/s", "concurrency": 20, "daily": 1_000_000_000}}},
    }
)

_DONE = prompt_studio_reply({"completion": "because"})
_LARGE = prompt_studio_reply({"completion": "x" * 300_000})
_FAULTS: tuple[ResponseScript, ...] = (
    faults.rst_after_request,
    faults.fin_after_request,
    faults.headers_then_fin,
    faults.truncate(9),
    faults.truncate(200_000, _LARGE),
    faults.chunked_cut_off(),
    faults.GARBAGE,
    faults.large_response(MAX_RESPONSE + 1),
    faults.drip(50),
    faults.hang,
    faults.two_lengths(),
    faults.long_header(),
    faults.extra_response(_DONE, _DONE),
    faults.close_idle(_DONE, lambda: 0.01),
    *(reply(status, {"message": "no"}) for status in (400, 401, 404, 422, 429, 500, 502, 503)),
    reply(429, {}, [("Retry-After", "0")]),
    reply(503, {}, [("Retry-After", "0")]),
    reply(200, {"what": "is this"}),
)


def provider_script(rng: random.Random) -> ResponseScript:
    """Choose a response: a fault for one of four requests, else mostly fast ones, some slow or large."""

    async def answer(wire: UpstreamConnection) -> None:
        if rng.random() < 0.25:
            await rng.choice(_FAULTS)(wire)
            return
        await asyncio.sleep(rng.expovariate(1 / 0.05))
        await _good(wire, rng)(wire)

    return answer


def _good(wire: UpstreamConnection, rng: random.Random) -> ResponseScript:
    assert wire.request is not None
    path = wire.request.path
    if path == LAYER_RUN:
        return promptlayer_started(787)
    if path == LAYER_RESULTS:
        return promptlayer_done({"Answer": node("because")}) if rng.random() < 0.4 else promptlayer_running()
    return _LARGE if rng.random() < 0.05 else _DONE


def request_body(rng: random.Random) -> bytes:
    """Choose a request: small or large, valid or not, with a long or short timeout."""
    body: dict[str, JsonValue] = {"workflow": rng.choice(("studio", "studio", "layer"))}
    body["input"] = {"question": "why?", "text": "x" * rng.choice((10, 10, 10, 1_000, 1_000, 100_000))}
    if rng.random() < 0.1:
        body["timeout"] = rng.choice((0.001, 0.05, 0.5))
    if rng.random() < 0.03:
        body["what"] = "is this"
    encoded = json.dumps(body).encode()
    return encoded[:-3] if rng.random() < 0.02 else encoded


def request_headers(rng: random.Random) -> dict[str, str]:
    """Choose a key; some are unknown."""
    key = "unknown" if rng.random() < 0.001 else CLIENT_KEYS["two" if rng.random() < 0.1 else "one"]
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
