"""Traffic of `runward demo --traffic`: plausible requests, with times in which a provider fails or is slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from gateway.cli.errors import CliError
from gateway.cli.http_client import post_run
from gateway.clock import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from providers.contract import JsonValue

CYCLE = 180.0
"""Seconds after which the episodes begin again."""
EPISODES: Sequence[tuple[float, str]] = ((0.0, "usual"), (70.0, "failing"), (100.0, "usual"), (130.0, "slow"))
"""Episodes of a cycle: the second at which each begins, and its name."""

_MAX_PARALLEL = 12  # requests; further ones are left out
_READ_TIMEOUT = 30.0  # seconds
_PAUSE = (0.2, 0.9)  # seconds between two requests: the shortest, and the most that chance adds

Choice: TypeAlias = tuple[float, str]
"""A weight, and an alias of a workflow."""

CHOICES: dict[str, Sequence[Choice]] = {
    "usual": (
        (40, "support-triage"),
        (35, "answer"),
        (12, "report"),
        (6, "falls-back"),
        (4, "always-fails"),
        (2, "always-busy"),
        (1, "never-answers"),
    ),
    "failing": (
        (20, "support-triage"),
        (15, "answer"),
        (35, "always-fails"),
        (15, "always-busy"),
        (15, "never-answers"),
    ),
    "slow": ((25, "support-triage"), (20, "answer"), (55, "report")),
}
"""Workflows that are requested in each episode."""

_MESSAGES = (
    "I was charged twice, please refund me",
    "How do I change the address of my order?",
    "The app closes when I open my invoices",
    "Cancel my subscription at the end of the month, please",
)


def episode_at(seconds: float) -> str:
    """Return the name of the episode at a time since the start."""
    passed = seconds % CYCLE
    return [name for begin, name in EPISODES if begin <= passed][-1]


def choose(choices: Sequence[Choice], share: float) -> str:
    """Return the workflow at a share in [0, 1) of the sum of the weights."""
    left = share * sum(weight for weight, _ in choices)
    for weight, alias in choices:
        left -= weight
        if left < 0:
            return alias
    return choices[-1][1]


@dataclass(slots=True)
class DemoTraffic:
    """Requests runs at a gateway until it is cancelled. Every run is durable, so that it can be replayed."""

    url: str
    key: str
    clock: Clock
    _count: int = 0
    _running: set[asyncio.Future[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Request runs in the background of this context."""
        executor = ThreadPoolExecutor(_MAX_PARALLEL, thread_name_prefix="traffic")
        task = asyncio.create_task(self._request_runs(executor))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            executor.shutdown(wait=False, cancel_futures=True)

    async def _request_runs(self, executor: ThreadPoolExecutor) -> None:
        started = self.clock.monotonic()
        while True:
            alias = choose(CHOICES[episode_at(self.clock.monotonic() - started)], self.clock.random())
            if len(self._running) < _MAX_PARALLEL:
                self._request_run(alias, executor)
            shortest, added = _PAUSE
            await self.clock.sleep(shortest + added * self.clock.random())

    def _request_run(self, alias: str, executor: ThreadPoolExecutor) -> None:
        self._count += 1
        number, message = self._count, _MESSAGES[self._count % len(_MESSAGES)]
        seconds = round(2 + 7 * self.clock.random(), 1)
        body: dict[str, JsonValue] = {
            "workflow": alias,
            "input": {"seconds": seconds} if alias == "report" else {"message": message, "prompt": message},
            "metadata": {"ticket": str(1000 + number)},
            "tags": ["traffic"],
        }
        idempotency_key = f"demo-{number:06}"
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(executor, _post, self.url, self.key, body, idempotency_key)
        self._running.add(future)
        future.add_done_callback(self._running.discard)


def _post(url: str, key: str, body: dict[str, JsonValue], idempotency_key: str) -> None:
    with suppress(CliError):  # the gateway is stopping
        post_run(url, key, body, _READ_TIMEOUT, idempotency_key)
