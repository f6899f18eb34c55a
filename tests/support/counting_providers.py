"""Fake providers that count the starts of each input."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.support.fake_upstream.provider_responses import (
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
    from tests.support.fake_upstream.connection import UpstreamConnection
    from tests.support.fake_upstream.upstream import FakeUpstream


class CountingProviders:
    """Both providers on one listener. A start takes up to `starting` seconds, an execution up to `running`.

    An input is known by its `question`, which is also the output. `starts` counts what arrived, answered or not.
    """

    def __init__(self, upstream: FakeUpstream, *, max_start_seconds: float, max_run_seconds: float) -> None:
        self.starts: Counter[str] = Counter()
        self._max_start_seconds = max_start_seconds
        self._max_run_seconds = max_run_seconds
        self._numbers = itertools.count(1)
        self._executions: dict[str, tuple[str, float]] = {}
        upstream.always("POST", STUDIO_RUN, self._answer_prompt_studio_run)
        upstream.always("POST", LAYER_RUN, self._answer_promptlayer_run)
        upstream.always("GET", LAYER_RESULTS, self._answer_promptlayer_results)

    async def _answer_prompt_studio_run(self, wire: UpstreamConnection) -> None:
        question = self._count_start(wire, "input")
        await asyncio.sleep(random.uniform(0, self._max_run_seconds))
        await prompt_studio_reply(question)(wire)

    async def _answer_promptlayer_run(self, wire: UpstreamConnection) -> None:
        question, number = self._count_start(wire, "input_variables"), next(self._numbers)
        self._executions[str(number)] = question, time.monotonic() + random.uniform(0, self._max_run_seconds)
        await asyncio.sleep(random.uniform(0, self._max_start_seconds))
        await promptlayer_started(number)(wire)

    async def _answer_promptlayer_results(self, wire: UpstreamConnection) -> None:
        assert wire.request is not None
        (number,) = parse_qs(urlsplit(wire.request.target).query)["workflow_version_execution_id"]
        question, done_at = self._executions[number]
        done = time.monotonic() >= done_at
        await (promptlayer_done({"Answer": node(question)}) if done else promptlayer_running())(wire)

    def _count_start(self, wire: UpstreamConnection, member: str) -> str:
        assert wire.request is not None
        question = str(json.loads(wire.request.body)[member]["question"])
        self.starts[question] += 1
        return question
