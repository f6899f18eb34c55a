"""Successes that are to be recorded: what most runs are, so their records are made dozens at a time.

Made at once, each would cost twice as much: the code is not in the caches of the processor by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.runs.durable.codec import encode_success_details
from gateway.runs.model import RunRecord
from gateway.runs.timeline import Timeline
from gateway.runs.usage import DAY, SuccessFacts, usage_of, usage_of_success
from gateway.store.history import SuccessRecord
from gateway.store.usage import RunUsage

_TOGETHER = 64  # records that are made together; few, so that other tasks do not wait

_Facts: TypeAlias = tuple[str, SuccessFacts, float, float, float, float, int, str | None, bytes, Timeline]
"""What a record is made of, without the run, which would hold its request."""


class PendingSuccesses:
    """Records in the order of the ends of their runs. `on_defect` is called for each that could not be made.

    Its arguments are the id and the usage of the run, and the exception.
    """

    __slots__ = ("_facts", "_on_defect", "_records")

    def __init__(self, on_defect: Callable[[str, RunUsage, Exception], None]) -> None:
        self._on_defect = on_defect
        self._facts: list[_Facts] = []
        self._records: list[SuccessRecord] = []

    def __len__(self) -> int:
        return len(self._facts) + len(self._records)

    def add(self, run: RunRecord) -> None:
        """Add a run that has succeeded, without tags."""
        spec, facts = run.spec, self._facts
        try:
            details = encode_success_details(run)
        except Exception as defect:  # noqa: BLE001 - it must not keep the response from being sent
            self._on_defect(run.id, usage_of(run), defect)
            return
        # fmt: off
        facts.append((
            run.id, (spec.client, spec.workflow, run.provider, spec.api, spec.team, spec.key_id, run.price,
                     run.maybe_paid),
            run.created_at.timestamp(), run.started_monotonic, run.duration, spec.timeout, run.attempts,
            run.provider_run_id, details, run.timeline,
        ))
        # fmt: on
        if len(facts) >= _TOGETHER:
            self._make_records()

    def take(self, count: int) -> list[SuccessRecord]:
        """Remove and return the oldest records."""
        self._make_records()
        taken, self._records = self._records[:count], self._records[count:]
        return taken

    def clear(self) -> None:
        """Remove all."""
        self._facts, self._records = [], []

    def _make_records(self) -> None:
        facts, self._facts = self._facts, []
        # fmt: off
        for (id_, counted, created_at, origin, seconds, timeout, attempts, provider_run_id, details,
             timeline) in facts:
            # fmt: on
            usage = usage_of_success(int(created_at // DAY), counted)
            try:
                line = timeline.encode_success(created_at - origin, origin + seconds)
            except Exception as defect:  # noqa: BLE001 - it must not keep the others from being recorded
                self._on_defect(id_, usage, defect)
                continue
            # fmt: off
            self._records.append(SuccessRecord(
                created_at, id_, usage.client, usage.workflow, usage.provider, created_at + timeout, attempts,
                provider_run_id, created_at + seconds, details, line, usage,
            ))
            # fmt: on
