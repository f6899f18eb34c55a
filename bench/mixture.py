"""What a soak is made of: how the provider answers, and what clients send."""

from __future__ import annotations

import asyncio
import json
import random
from types import MappingProxyType
from typing import TYPE_CHECKING

from tests.configuration import KEYS, MAX_RESPONSE
from tests.faults import faults
from tests.faults.answers import reply
from tests.faults.provider_answers import (
    LAYER_RESULTS,
    LAYER_RUN,
    node,
    prompt_studio_reply,
    promptlayer_done,
    promptlayer_running,
    promptlayer_started,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.contract import JsonValue
    from tests.faults.faults import Script
    from tests.faults.wire import Wire

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
_FAULTS: tuple[Script, ...] = (
    faults.rst_after_request,
    faults.fin_after_request,
    faults.headers_then_fin,
    faults.truncate(9),
    faults.truncate(200_000, _LARGE),
    faults.chunked_cut_off(),
    faults.GARBAGE,
    faults.big(MAX_RESPONSE + 1),
    faults.drip(50),
    faults.hang,
    faults.two_lengths(),
    faults.long_header(),
    faults.second_answer(_DONE, _DONE),
    faults.close_idle(_DONE, lambda: 0.01),
    *(reply(status, {"message": "no"}) for status in (400, 401, 404, 422, 429, 500, 502, 503)),
    reply(429, {}, [("Retry-After", "0")]),
    reply(503, {}, [("Retry-After", "0")]),
    reply(200, {"what": "is this"}),
)


def script(chance: random.Random) -> Script:
    """One of four requests meets a fault; of the others most are answered soon, some late or at length."""

    async def answer(wire: Wire) -> None:
        if chance.random() < 0.25:
            await chance.choice(_FAULTS)(wire)
            return
        await asyncio.sleep(chance.expovariate(1 / 0.05))
        await _good(wire, chance)(wire)

    return answer


def _good(wire: Wire, chance: random.Random) -> Script:
    assert wire.request is not None
    path = wire.request.path
    if path == LAYER_RUN:
        return promptlayer_started(787)
    if path == LAYER_RESULTS:
        return promptlayer_done({"Answer": node("because")}) if chance.random() < 0.4 else promptlayer_running()
    return _LARGE if chance.random() < 0.05 else _DONE


def bodies(chance: random.Random) -> bytes:
    """What a client asks for: small or large, sensible or not, with time or in a hurry."""
    body: dict[str, JsonValue] = {"workflow": chance.choice(("studio", "studio", "layer"))}
    body["input"] = {"question": "why?", "text": "x" * chance.choice((10, 10, 10, 1_000, 1_000, 100_000))}
    if chance.random() < 0.1:
        body["timeout"] = chance.choice((0.001, 0.05, 0.5))
    if chance.random() < 0.03:
        body["what"] = "is this"
    encoded = json.dumps(body).encode()
    return encoded[:-3] if chance.random() < 0.02 else encoded


def headers(chance: random.Random) -> dict[str, str]:
    """Whose request it is; some come with a key that nobody has."""
    key = "unknown" if chance.random() < 0.001 else KEYS["two" if chance.random() < 0.1 else "one"]
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
