"""PromptLayer callbacks: at the end of an execution its results are posted to the `callback_url`.

The body has the form that the documentation showed until May 2026: the id of the execution, and the requested form of
the results. A failed delivery is not repeated, as the documentation does not mention retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeAlias

from aiohttp import web

from gateway.clock import Clock
from gateway.json import strict_json
from gateway.sandbox.promptlayer.executions import Execution, main_output, node_results

PostCallback: TypeAlias = Callable[[str, bytes], Awaitable[object]]
"""Posts JSON to a URL. Raises OSError; the response is ignored."""

_MAX_PENDING = 10_000


class SandboxCallbacks:
    """Pending callbacks, at most the newest 10 000; none without a `post_callback` function."""

    def __init__(self, clock: Clock, post_callback: PostCallback | None) -> None:
        self._clock = clock
        self._post_callback = post_callback
        self._tasks: dict[asyncio.Task[None], None] = {}

    def schedule(self, execution: Execution, url: str, *, all_outputs: bool) -> None:
        """Post the results to `url` when the execution ends."""
        if self._post_callback is None:
            return
        task = asyncio.create_task(self._deliver_at_end(self._post_callback, execution, url, all_outputs=all_outputs))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))
        if len(self._tasks) > _MAX_PENDING:
            next(iter(self._tasks)).cancel()

    async def cleanup_context(self, _: web.Application) -> AsyncIterator[None]:
        """Cancel pending callbacks when the application ends."""
        yield
        for task in self._tasks:
            task.cancel()

    async def _deliver_at_end(
        self, post_callback: PostCallback, execution: Execution, url: str, *, all_outputs: bool
    ) -> None:
        seconds = execution.workflow.duration(execution.run_input)
        await self._clock.sleep(execution.started + seconds - self._clock.monotonic())
        node_outcomes = node_results(execution, self._clock.monotonic())
        document = {
            "workflow_version_execution_id": execution.id,
            "final_output": node_outcomes if all_outputs else main_output(node_outcomes),
        }
        with suppress(OSError):
            await post_callback(url, strict_json.write(document))
