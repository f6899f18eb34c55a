"""Runs that operators request at the operations port of a supervisor: a worker starts them.

The supervisor sends the body of the request as one line over the channel of a worker, and gets the run or the problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from gateway.api.operator_runs import OperatorRun, OperatorRunRequest, OperatorRunStarter
from gateway.errors import GatewayError
from gateway.http.body import parse_json_body
from gateway.http.problem_mapping import problem_from_error
from gateway.json import strict_json
from gateway.problems import FieldError, Problem
from gateway.store.contract import StoreUnavailable
from gateway.supervisor.worker_handle import WorkerGone, WorkerHandle
from gateway.supervisor.worker_pool import WorkerPool

_NO_WORKER = "No worker accepts runs now."
_NO_ANSWER = "The worker has not answered; a repetition with the same key starts nothing twice."


@dataclass(frozen=True, slots=True)
class WorkerRunStarter:
    """Starts runs in the workers of a pool."""

    pool: WorkerPool

    async def start(self, body: bytes) -> OperatorRun:
        """Let a worker start the run of a body of `POST /api/run`. Raises Problem."""
        parse_json_body(OperatorRunRequest, body)
        worker = next((each for each in self.pool.workers.values() if each.ready), None)
        if worker is None:
            raise Problem("overloaded", _NO_WORKER, retry_after=1)
        return await _ask(worker, strict_json.write(strict_json.read(body)))


async def _ask(worker: WorkerHandle, line: bytes) -> OperatorRun:
    try:
        answer = cast("dict[str, Any]", strict_json.read(await worker.ask_run(line)))
    except (WorkerGone, TimeoutError, strict_json.NotJson):
        raise Problem("store_unavailable", _NO_ANSWER, retry_after=1) from None
    if "code" in answer:
        raise _decode_problem(answer)
    return OperatorRun(str(answer["id"]), str(answer["client"]), str(answer["workflow"]), answer["replayed"] is True)


async def answer_run(starter: OperatorRunStarter, body: bytes) -> bytes:
    """Start the run of a body of `POST /api/run` in this worker; returns the answer for the supervisor."""
    try:
        run = await starter.start(body)
    except Problem as problem:
        return _encode_problem(problem)
    except GatewayError as error:
        return _encode_problem(problem_from_error(error))
    except StoreUnavailable:
        return _encode_problem(Problem("store_unavailable", retry_after=1))
    return strict_json.write({"id": run.id, "client": run.client, "workflow": run.workflow, "replayed": run.replayed})


def _encode_problem(problem: Problem) -> bytes:
    return strict_json.write(
        {
            "code": problem.code,
            "detail": problem.detail,
            "retry_after": problem.retry_after,
            "errors": [[error.pointer, error.detail] for error in problem.errors],
            "extra": dict(problem.extra),
        }
    )


def _decode_problem(answer: Mapping[str, Any]) -> Problem:
    errors = tuple(FieldError(*each) for each in answer["errors"])
    return Problem(answer["code"], answer["detail"], answer["retry_after"], errors, extra=answer["extra"])
