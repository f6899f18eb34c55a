"""What a run looks like to its client: while it goes on, when it has ended, and as the answer that a key keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gateway import strictjson
from gateway.clock import stamp
from gateway.problems import CONTENT_TYPE, Problem
from gateway.runs.record import RunRecord
from gateway.store.contract import Answer, StoredRun
from providers.contract import JsonValue

JSON = "application/json"


def document(run: RunRecord) -> dict[str, object]:
    """The run as `POST /run` answers it and a callback carries it."""
    order = run.order
    members: dict[str, object] = {
        "id": run.id,
        "status": run.status,
        "workflow": order.workflow,
        "provider": run.provider,
        "output": run.output,
    }
    if order.return_all_outputs:
        members["outputs"] = run.outputs
    return members | {
        "warning": run.warning,
        "attempts": run.attempts,
        "provider_run_id": run.provider_run_id,
        "metadata": order.metadata,
        "created_at": stamp(run.created_at),
        "finished_at": run.finished_at and stamp(run.finished_at),
        "duration_ms": round(run.duration * 1000),
    }


def ended(run: RunRecord, problem: Problem | None) -> bytes:
    """The run as `GET /runs/{id}` shows it once it has ended: with `error` where it did not succeed."""
    members = document(run)
    if problem is not None:
        members["error"] = {"code": problem.code, "detail": problem.detail or None}
    return strictjson.write(members)


def unfinished(run: StoredRun) -> bytes:
    """The run as `GET /runs/{id}` shows it while it goes on, and as 202 answers it."""
    return strictjson.write(
        {
            "id": run.id,
            "status": run.status,
            "workflow": run.workflow,
            "provider": run.provider,
            "output": None,
            "warning": None,
            "attempts": run.attempts,
            "provider_run_id": run.provider_run_id,
            "metadata": _order(run).get("metadata", {}),
            "created_at": stamp(datetime.fromtimestamp(run.created_at, UTC)),
            "finished_at": None,
            "duration_ms": None,
        }
    )


def answer_of(run: RunRecord, problem: Problem | None, request_id: str) -> Answer:
    """The answer to the `POST /run` that ordered this run, now that it has ended."""
    if problem is None:
        return Answer(200, ((("Content-Type", JSON)), *run.limit_headers), strictjson.write(document(run)))
    headers = [("Content-Type", CONTENT_TYPE), *problem.headers]
    if problem.retry_after is not None:
        headers.append(("Retry-After", str(math.ceil(problem.retry_after))))
    return Answer(problem.status, tuple(headers), problem.document(request_id))


def first_provider(run: StoredRun) -> str:
    """The provider of the workflow that was asked for, whichever fallback ran it."""
    first = _order(run).get("provider")
    return first if isinstance(first, str) else run.provider


def waits(run: StoredRun) -> bool:
    """Whether the client of a kept run waited for its answer."""
    return _order(run).get("waits") is not False


def number(run: StoredRun) -> JsonValue:
    """What PromptLayer's clients call a kept run; None where its order can not be read."""
    return _order(run).get("number")


def all_outputs(run: StoredRun) -> bool:
    """Whether a client of PromptLayer's API asked for every node of a kept run."""
    return _order(run).get("all_outputs") is True


def accepted(run: StoredRun) -> Answer:
    """The answer to the `POST /run` that nobody waited for: the same byte for byte, however far the run is."""
    began = replace(run, status="queued", attempts=0, provider_run_id=None, provider=first_provider(run))
    return Answer(202, (("Content-Type", JSON), ("Location", f"/runs/{run.id}")), unfinished(began))


def _order(run: StoredRun) -> dict[str, JsonValue]:
    """What was ordered, as far as it can be read: another version may have written it."""
    try:
        order = strictjson.read(run.order)
    except strictjson.NotJson:
        return {}
    return order if isinstance(order, dict) else {}


def shown(run: StoredRun) -> bytes:
    """The run as `GET /runs/{id}` shows it, with what became of its callback."""
    document = run.document if run.document is not None else unfinished(run)
    if run.callback_url is None:
        return document
    return document[:-1] + b',"callback":%b}' % strictjson.write({"state": run.callback_state or "pending"})


def listed(runs: Sequence[bytes], following: str | None) -> bytes:
    """A page of runs, and the cursor of the next one."""
    return b'{"runs":[%b],"next":%b}' % (b",".join(runs), strictjson.write(following))
