"""Driver of an adapter's generator with prepared replies: no I/O, no mocks."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TypeVar

from providers.contract import Call, Reply, Step

T = TypeVar("T")


def drive(steps: Generator[Step, Reply, T], replies: Iterable[Reply]) -> tuple[list[Step], T | None]:
    """Answer each `Call` with the next reply; return every step, and the outcome.

    The outcome is that of a run, or what the steps of a cancellation return; None where the replies ran out first, or
    the adapter rejected one.
    """
    taken: list[Step] = []
    remaining = iter(replies)
    try:
        step = next(steps)
        while True:
            taken.append(step)
            if isinstance(step, Call):
                reply = next(remaining, None)
                if reply is None:
                    return taken, None
                step = steps.send(reply)
            elif isinstance(step, Exception):
                return taken, None
            else:
                step = steps.send(Reply(0))
    except StopIteration as end:
        return taken, end.value


def calls(steps: Iterable[Step]) -> list[Call]:
    """Return the calls among the steps."""
    return [step for step in steps if isinstance(step, Call)]
