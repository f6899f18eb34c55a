"""Memory of a run is freed at its end by reference counting, without the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from providers.contract import Cause, JsonValue, Reply
from tests.runs.executor_harness import DONE, ENDED, RUNNING, STARTED, ExecutorHarness, ScriptStep, fault

ENDINGS: dict[str, tuple[ScriptStep, ...]] = {
    "done": (DONE,),
    "failed": (Reply(500),),
    "refused answer": (Reply(502),),
    "wrong shape": (Reply(200, {"what": 1}),),
    "throttled": (Reply(429),),
    "throttled, then done": (Reply(429), Reply(429), DONE),
    "unreachable": (fault(Cause.UNREACHABLE),),
    "unreachable, then done": (fault(Cause.UNREACHABLE), DONE),
    "disconnected": (fault(Cause.DISCONNECTED),),
    "followed": (STARTED, RUNNING, ENDED),
    "followed past faults": (STARTED, Reply(500), fault(Cause.TIMEOUT), RUNNING, Reply(502), ENDED),
    "followed in vain": (STARTED, Reply(401)),
    "our mistake": (RuntimeError("ours"),),
}


class Input(dict[str, JsonValue]):
    """Input with weak references."""


@pytest.fixture(autouse=True)
def garbage_collector_off() -> Iterator[None]:
    """Disable the garbage collector, so that only reference counting frees memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("how", ENDINGS)
async def test_nothing_of_a_run_that_ended_waits_for_the_collector(how: str) -> None:
    """R34: faults, retries and adapters hold no circles; a large input would be kept by them, thousands of times."""
    harness = ExecutorHarness()
    script = ENDINGS[how]
    workflow = harness.layer(*script) if script[0] is STARTED else harness.studio(*script)
    given = Input(question="why?")
    watched = weakref.ref(given)
    record = harness.new_run(input=given)
    del given
    await harness.run(workflow, record)
    del record
    for step in script:  # the script's own faults are raised again and again
        if isinstance(step, BaseException):
            step.__traceback__ = step.__context__ = step.__cause__ = None
    workflow.provider.upstream.sent.clear()  # type: ignore[attr-defined]  # the script remembers, a provider does not
    assert None is watched()
