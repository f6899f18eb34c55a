"""Both providers, remembering how often each input was started: that number is what costs money."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

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

if TYPE_CHECKING:
    from tests.faults.upstream import Upstream
    from tests.faults.wire import Wire


class Providers:
    """Answer for both on one listener. A start takes up to `starting` seconds, an execution up to `running`.

    An input is known by its `question`, which is also the output. `starts` counts what arrived, answered or not.
    """

    def __init__(self, upstream: Upstream, *, starting: float, running: float) -> None:
        self.starts: Counter[str] = Counter()
        self._starting = starting
        self._running = running
        self._numbers = itertools.count(1)
        self._executions: dict[str, tuple[str, float]] = {}
        upstream.always("POST", STUDIO_RUN, self._run)
        upstream.always("POST", LAYER_RUN, self._begin)
        upstream.always("GET", LAYER_RESULTS, self._results)

    async def _run(self, wire: Wire) -> None:
        question = self._counted(wire, "input")
        await asyncio.sleep(random.uniform(0, self._running))
        await prompt_studio_reply(question)(wire)

    async def _begin(self, wire: Wire) -> None:
        question, number = self._counted(wire, "input_variables"), next(self._numbers)
        self._executions[str(number)] = question, time.monotonic() + random.uniform(0, self._running)
        await asyncio.sleep(random.uniform(0, self._starting))
        await promptlayer_started(number)(wire)

    async def _results(self, wire: Wire) -> None:
        assert wire.request is not None
        (number,) = parse_qs(urlsplit(wire.request.target).query)["workflow_version_execution_id"]
        question, done_at = self._executions[number]
        done = time.monotonic() >= done_at
        await (promptlayer_done({"Answer": node(question)}) if done else promptlayer_running())(wire)

    def _counted(self, wire: Wire, member: str) -> str:
        assert wire.request is not None
        question = str(json.loads(wire.request.body)[member]["question"])
        self.starts[question] += 1
        return question
