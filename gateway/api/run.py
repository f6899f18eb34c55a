"""The face of the gateway itself: `POST /run`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.api.pins import check_pin
from gateway.api.server import Request
from gateway.api.tracing import read_traceparent
from gateway.api.wire import RunRequest, answer, answer_run, parse, read_body
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.desk import Desk
from gateway.runs.engine import Engine
from gateway.runs.idempotency import read_key
from gateway.runs.record import Order, RunRecord, always
from gateway.store.contract import Answer, Claim, Key, Phase, StoredRun

_REPLAYED = (("Idempotent-Replayed", "true"),)


@dataclass(frozen=True, slots=True)
class RunFace:
    """Parses, calls the engine or the desk, renders. Sizes in bytes, times in seconds.

    `check_callback` raises Problem where a URL must not be called.
    """

    engine: Engine
    desk: Desk
    catalog: Catalog
    check_callback: Callable[[str], Awaitable[None]]
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> web.Response:
        """Answer `POST /run`: when the run has ended, or at once where the client does not wait."""
        raw = await read_body(request, limit=self.max_body, seconds=self.body_timeout)
        body = parse(RunRequest, raw)
        key = read_key(request.client_name, request.headers.getall("Idempotency-Key", ()), raw)
        workflow = self.catalog.find(body.workflow, request.client)
        check_pin(workflow, (body.label, body.version))
        run = RunRecord.open(self._order(request, body, workflow), workflow.provider.name, self.clock)
        if run.order.waits and key is None:
            request.run = run
            await self.engine.run(run, workflow)
            return answer_run(run)
        if body.callback_url is not None:
            await self.check_callback(body.callback_url)
        claim = await self.desk.keep(run, key, callback_url=body.callback_url)
        if claim is not None and key is not None:
            return await self._again(claim, key)
        request.run = run
        if run.order.waits:
            return answer_kept(await self.desk.serve(run, workflow, request.request_id))
        accepted = answers.accepted(self.desk.kept(run))
        self.desk.start(run, workflow)
        return answer_kept(accepted)

    def _order(self, request: Request, body: RunRequest, workflow: Workflow) -> Order:
        waits = body.callback_url is None and not _prefers_async(request)
        return Order(
            client=request.client.name,
            workflow=body.workflow,
            timeout=min(body.timeout or workflow.timeout, workflow.max_timeout),
            input=body.input,
            metadata=body.metadata,
            label=body.label,
            version=body.version,
            return_all_outputs=body.return_all_outputs,
            waits=waits,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            wanted=request.is_awaited() if waits else always,
        )

    async def _again(self, claim: Claim, key: Key) -> web.Response:
        """Answer a request whose key was used before."""
        if claim.key.fingerprint != key.fingerprint:
            raise Problem("idempotency_mismatch", "This key was used with another body.")
        if claim.answer is not None:
            return answer_kept(claim.answer, _REPLAYED)
        earlier = await self.desk.find(claim.run_id)
        if earlier is None or answers.waits(earlier) or not self._is_sure(earlier):
            raise Problem("idempotency_in_flight", retry_after=1)
        return answer_kept(answers.accepted(earlier), _REPLAYED)

    def _is_sure(self, run: StoredRun) -> bool:
        """Another replica may be about to forget a queued one: it could not write it down in time, and refused it."""
        return run.phase is not Phase.QUEUED or self.desk.holds(run.id)


def _prefers_async(request: Request) -> bool:
    """`Prefer: respond-async` (RFC 7240)."""
    preferences = ",".join(request.headers.getall("Prefer", ())).lower().split(",")
    return any(preference.partition(";")[0].strip() == "respond-async" for preference in preferences)


def answer_kept(kept: Answer, headers: tuple[tuple[str, str], ...] = ()) -> web.Response:
    """Give a kept answer: every header that it had, in their order, and these behind them."""
    content_type = next(value for name, value in kept.headers if name == "Content-Type")
    others = tuple(field for field in kept.headers if field[0] != "Content-Type")
    return answer(kept.status, kept.body, content_type, (*others, *headers))
