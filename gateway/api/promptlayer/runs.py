"""Running a workflow through PromptLayer's API, and asking for its results.

Every run is kept before it is answered, and starts afterwards. From then on no answer is a 5xx or a 429: the SDKs would
send the request again, and that would be another run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway import strictjson
from gateway.api.pins import check_pin
from gateway.api.promptlayer.asked import LABEL, VERSION, RunWorkflow, choice_in, name_in, number_in
from gateway.api.promptlayer.results import FORMS, final_output, going_on
from gateway.api.server import Request
from gateway.api.tracing import read_traceparent
from gateway.api.whole import Whole
from gateway.api.wire import answer, parse, read_body
from gateway.clock import Clock
from gateway.problems import Problem
from gateway.runs import answers
from gateway.runs.catalog import Catalog, Workflow
from gateway.runs.desk import Desk
from gateway.runs.idempotency import read_key
from gateway.runs.numbers import Numbers
from gateway.runs.orders import order_of, same_order
from gateway.runs.record import Order, RunRecord
from gateway.runs.told import Told
from gateway.store.contract import Claim, Key, Phase, StoredRun

_POINTERS = (f"/{LABEL}", f"/{VERSION}")
_REPLAYED = (("Idempotent-Replayed", "true"),)


@dataclass(frozen=True, slots=True)
class RunsFace:
    """Parses, calls the desk, renders. Sizes in bytes, times in seconds; `check_callback` as in `RunFace`."""

    desk: Desk
    catalog: Catalog
    numbers: Numbers
    check_callback: Callable[[str], Awaitable[None]]
    clock: Clock
    max_body: int
    body_timeout: float

    async def start(self, request: Request) -> web.Response:
        """Answer `POST /workflows/{name}/run`: 201, or 202 where there is a `callback_url`."""
        raw = await read_body(request, limit=self.max_body, seconds=self.body_timeout)
        body = parse(RunWorkflow, raw)
        workflow = self.catalog.find_as("promptlayer", name_in(request), request.client, body.pin)
        check_pin(workflow, body.pin, _POINTERS)
        run = self._record(request, body, workflow)
        key = _key(request, raw, run.order.workflow)
        if body.callback_url is not None:
            await self.check_callback(body.callback_url)
        try:
            claim = await self.desk.keep(run, key, callback_url=body.callback_url)
        except ValueError:
            return await self._same(run, body.callback_url)
        if claim is not None and key is not None:
            return await self._again(claim, key)
        request.run, told = run, Told(self.clock)
        answered = _started(self.desk.kept(run))
        answered.then = told.done
        self.desk.start(run, workflow, after=told)
        return answered

    async def results(self, request: Request) -> web.Response:
        """Answer `GET /workflow-version-execution-results`: 202 while the run goes on, 200 once it has ended."""
        number = number_in(request, "workflow_version_execution_id", most=2**63 - 1)
        form = FORMS[choice_in(request, "return_all_outputs")]
        run = await self.desk.find(self.numbers.run_id(request.client_name, number))
        if run is None or run.client != request.client_name:
            raise Problem("not_found", "There is no such workflow execution.")
        if run.document is None:
            return answer(202, strictjson.write(going_on(run.status)), answers.JSON, _named(run))
        return answer(200, strictjson.write(final_output(run.document, form)), answers.JSON, _named(run))

    def _record(self, request: Request, body: RunWorkflow, workflow: Workflow) -> RunRecord:
        client, suffix = request.client_name, body.channel_name_suffix
        number = self.numbers.draw(self.clock) if suffix is None else self.numbers.of_channel(client, suffix)
        order = Order(
            client=client,
            workflow=self._name(workflow),
            timeout=workflow.max_timeout,
            input=body.input_variables or {},
            metadata=body.metadata or {},
            label=body.workflow_label_name,
            version=body.workflow_version_number,
            return_all_outputs=True,
            waits=False,
            traceparent=read_traceparent(request.headers.getall("traceparent", ()), self.clock),
            face="promptlayer",
            number=number,
            all_outputs=body.return_all_outputs or False,
        )
        return RunRecord.open(order, workflow.provider.name, self.clock, id=self.numbers.run_id(client, number))

    def _name(self, workflow: Workflow) -> str:
        """What the gateway's own clients call it, so that whoever takes the run up finds it."""
        configured = self.catalog.number(workflow) is not None
        return workflow.alias if configured else f"{workflow.provider.name}/{workflow.name}"

    async def _same(self, run: RunRecord, callback_url: str | None) -> web.Response:
        """Answer a request whose `channel_name_suffix` has a run already."""
        earlier = await self._earlier(run.id)
        if not same_order(order_of(earlier), run.order) or earlier.callback_url != callback_url:
            raise Problem("idempotency_mismatch", "This channel_name_suffix was used with another body.")
        return _started(earlier, _REPLAYED)

    async def _again(self, claim: Claim, key: Key) -> web.Response:
        """Answer a request whose Idempotency-Key was used before."""
        if claim.key.fingerprint != key.fingerprint:
            raise Problem("idempotency_mismatch", "This key was used with another body.")
        if claim.answer is not None and await self.desk.find(claim.run_id) is None:
            raise Problem("not_found", "The run of this key has ended, and is no longer kept.")
        return _started(await self._earlier(claim.run_id), _REPLAYED)

    async def _earlier(self, run_id: str) -> StoredRun:
        """Read a run that is promised a second time: not before it is sure that it was promised a first time.

        Another replica that could not write it down in time refused it, and is about to forget it.
        """
        earlier = await self.desk.find(run_id)
        if earlier is None or (earlier.phase is Phase.QUEUED and not self.desk.holds(run_id)):
            raise Problem("idempotency_in_flight", "The first request for this run is just being taken.", 1)
        return earlier


def _key(request: Request, raw: bytes, workflow: str) -> Key | None:
    """The Idempotency-Key. The same one for another workflow, or for `POST /run`, is used with another body."""
    values = request.headers.getall("Idempotency-Key", ())
    return read_key(request.client_name, values, raw, at=f"promptlayer {workflow}")


def _started(run: StoredRun, headers: tuple[tuple[str, str], ...] = ()) -> Whole:
    status, word = (201, "started") if run.callback_url is None else (202, "accepted")
    document = {
        "success": True,
        "message": f"Workflow execution {word}",
        "warning": None,
        "workflow_version_execution_id": answers.number(run),
    }
    return answer(status, strictjson.write(document), answers.JSON, (*_named(run), *headers))


def _named(run: StoredRun) -> tuple[tuple[str, str], ...]:
    """What the run is called outside of this face."""
    return ("Runward-Run-Id", run.id), ("Location", f"/runs/{run.id}")
