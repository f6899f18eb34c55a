"""PromptLayer's callbacks: when an execution ends, its results are posted to the `callback_url` that it was given.

The page no longer shows the body; this is as it was until May 2026: the execution's id, and the results in the form
that was asked for. Nobody says whether a failed delivery is repeated, so here it is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from aiohttp import web

from gateway import strictjson
from gateway.clock import Clock
from gateway.sandbox.executions import Execution, main_output, results

CallBack: TypeAlias = Callable[[str, bytes], Awaitable[object]]
"""Posts JSON to a URL. OSError where that does not work out; what is answered makes no difference."""

_MOST = 10_000


class Callbacks:
    """Those that are still to be made, the newest 10 000; none at all where nobody is there to make them."""

    def __init__(self, clock: Clock, call_back: CallBack | None) -> None:
        self._clock = clock
        self._call_back = call_back
        self._tasks: dict[asyncio.Task[None], None] = {}

    def promise(self, execution: Execution, url: str, *, all_outputs: bool) -> None:
        """Call when this execution has ended."""
        if self._call_back is None:
            return
        task = asyncio.create_task(self._keep(self._call_back, execution, url, all_outputs=all_outputs))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        if len(self._tasks) > _MOST:
            next(iter(self._tasks)).cancel()

    async def until_closed(self, _: web.Application) -> AsyncIterator[None]:
        """Forget, when the application ends, what was not done."""
        yield
        for task in self._tasks:
            task.cancel()

    async def _keep(self, call_back: CallBack, execution: Execution, url: str, *, all_outputs: bool) -> None:
        seconds = execution.workflow.seconds(execution.question)
        await self._clock.sleep(execution.started + seconds - self._clock.monotonic())
        found = results(execution, self._clock.monotonic())
        document = {
            "workflow_version_execution_id": execution.id,
            "final_output": found if all_outputs else main_output(found),
        }
        with suppress(OSError):
            await call_back(url, strictjson.write(document))
