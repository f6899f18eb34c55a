"""Replay of a run: a new run with the input of one that has ended.

A replay is a durable run of the same client in the background, through Runward's own API. A run is replayed once,
however often it is requested, unless the request has an Idempotency-Key of its own: the id of the replay is derived
from that of the run, and a replay is kept for longer than its run can be replayed without such a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import IdempotencyMismatch, InputNotKept, InvalidRequest, OutcomeUnknown, RunUnfinished
from gateway.limits.config import KeyLimits
from gateway.runs.catalog import Catalog, RunScope, Workflow
from gateway.runs.durable.codec import content_state, decode_spec, is_redacted
from gateway.runs.durable.idempotency_key import fingerprint, internal_key
from gateway.runs.durable.runs import DurableRuns
from gateway.runs.idempotent_submission import Submission, submit
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.records import IdempotencyKey, Phase, RunOverview, StoredRun
from providers.contract import JsonValue

_NOT_DURABLE = (
    "Only the input of a run that is asynchronous or has an Idempotency-Key is kept, and others as `content.keep` says."
)
_REDACTED = "Parts of the input that is kept of the run were redacted."
_KEPT_NO_MORE = "The run was kept after its client's deadline, without its input."
_TOO_OLD = (
    "The run ended longer ago than runs are kept (`store.retention`): whether it was replayed is known no more. Send "
    "an Idempotency-Key to replay it all the same."
)
_NOT_READABLE = "This version of Runward cannot read the specification of the run."


@dataclass(frozen=True, slots=True)
class ReplayEdit:
    """What a replay has in place of the run's own values; None: as the run has it. There is no other callback URL."""

    input: Mapping[str, JsonValue] | None = None
    metadata: Mapping[str, str] | None = None
    tags: tuple[str, ...] | None = None
    callback_url: str | None = None

    @property
    def fingerprint(self) -> bytes:
        """Hash that tells whether two requests ask for the same replay."""
        metadata = None if self.metadata is None else dict(self.metadata)
        members: dict[str, JsonValue] = {
            "input": None if self.input is None else dict(self.input),
            "metadata": None if metadata is None else {**metadata},
            "tags": None if self.tags is None else list(self.tags),
            "callback_url": self.callback_url,
        }
        return fingerprint({name: value for name, value in members.items() if value is not None})


UNCHANGED = ReplayEdit()


class Requester(RunScope, Protocol):
    """What asks for a replay: the client of the run, as itself or as one of its keys stands for it."""

    @property
    def team(self) -> str | None:
        """Team of the client."""

    @property
    def key_id(self) -> str | None:
        """Id of the key, if the store has it."""

    @property
    def key_limits(self) -> KeyLimits | None:
        """Limits of the key."""


def replay_id(run_id: str) -> str:
    """Return the id of the replay of a run; for others it is as hard to guess as that of the run."""
    return "run_" + hashlib.sha256(f"replay:{run_id}".encode()).hexdigest()[:32]


def check_replayable(run: RunOverview, *, include_unknown: bool) -> None:
    """Raise RunUnfinished, OutcomeUnknown or InputNotKept if a run must not, or cannot, be replayed."""
    if run.phase is not Phase.DONE:
        raise RunUnfinished("Wait for the end of the run, or cancel it.", run_id=run.id, run_status=run.status)
    if not run.durable and content_state(run) != "kept":
        raise InputNotKept(_NOT_DURABLE, run_id=run.id, run_status=run.status)
    if run.status == "unknown" and not include_unknown:
        raise OutcomeUnknown(
            "The run may have been executed: a replay may pay twice. Send include_unknown to replay it all the same.",
            run_id=run.id,
            run_status=run.status,
        )


@dataclass(slots=True)
class RunReplayer:
    """Starts replays in this process. Replays that have ended are kept for `retention` seconds."""

    durable_runs: DurableRuns
    catalog: Catalog
    clock: Clock
    retention: float

    def reconfigure(self, retention: float) -> None:
        """Apply another retention, in seconds."""
        self.retention = retention

    async def submit(
        self,
        stored: StoredRun,
        requester: Requester,
        edit: ReplayEdit = UNCHANGED,
        key: IdempotencyKey | None = None,
        *,
        traceparent: str = "",
    ) -> tuple[Submission, Workflow]:
        """Store a replay of a run that `check_replayable` permits, or find the earlier one; returns its workflow too.

        `requester`: the run's client as it is now; team, key and limits of the replay are its own, not those of the
        run. `key`: the Idempotency-Key of the request. Raises InputNotKept, WorkflowNotFound, WorkflowForbidden,
        InvalidRequest, and as `submit`.
        """
        if key is None and (stored.finished_at or stored.created_at) < self.clock.now().timestamp() - self.retention:
            raise InputNotKept(_TOO_OLD, run_id=stored.id, run_status=stored.status)
        spec, workflow = self._prepare(stored, requester, edit, traceparent)
        new_id = replay_id(stored.id) if key is None else None
        record = RunRecord.create(spec, workflow.provider.name, self.clock, id=new_id)
        own_key = key or internal_key(stored.client, f"replay:{stored.id}", edit.fingerprint)
        try:
            found = await submit(self.durable_runs, record, own_key, callback_url=edit.callback_url)
        except IdempotencyMismatch:
            if key is not None:
                raise
            raise IdempotencyMismatch(
                "The run was replayed with another body before. Send an Idempotency-Key to replay it once more."
            ) from None
        return found, workflow

    def _prepare(
        self, stored: StoredRun, requester: Requester, edit: ReplayEdit, traceparent: str
    ) -> tuple[RunSpec, Workflow]:
        if is_redacted(stored):
            raise InputNotKept(_REDACTED, run_id=stored.id, run_status=stored.status)
        try:
            spec = decode_spec(stored)
        except (TypeError, ValueError, KeyError):  # another version wrote it
            raise InputNotKept(_NOT_READABLE, run_id=stored.id, run_status=stored.status) from None
        if not spec.input_kept and edit.input is None:
            raise InputNotKept(_KEPT_NO_MORE, run_id=stored.id, run_status=stored.status)
        workflow = self.catalog.find(spec.workflow, requester)
        reason = workflow.refuses_pin((spec.label, spec.version))
        if reason is not None:
            raise InvalidRequest(f"The release that the run asked for cannot be started: {reason}.")
        replayed = replace(
            spec,
            timeout=min(spec.timeout, workflow.max_timeout),
            input=spec.input if edit.input is None else edit.input,
            metadata=spec.metadata if edit.metadata is None else edit.metadata,
            tags=spec.tags if edit.tags is None else edit.tags,
            traceparent=traceparent,
            synchronous=False,
            api="run",
            start_before=None,
            replay_of=stored.id,
            input_kept=True,
            team=requester.team,
            key_id=requester.key_id,
            key_limits=requester.key_limits,
            client_context={},
        )
        return replayed, workflow
