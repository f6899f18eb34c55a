"""Executor harness: scripted providers and a real executor on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.errors import RunError
from gateway.limits.config import ClientLimitsConfig, LimitsConfig, ResourceLimitsConfig
from gateway.limits.limiter import Limiter
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.passthrough_request import PassthroughRequest, PassthroughResponse
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.executor import RunExecutor
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.polling.provider_hints import ProviderHints
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.registry import CircuitRegistry
from gateway.runs.resilience.retry import RetryPolicy
from gateway.runs.workflow_attempt import ExecutionContext
from providers.contract import Adapter, Call, Cause, JsonValue, ProviderFault, Reply
from providers.prompt_studio import PromptStudio
from providers.promptlayer import PromptLayer
from tests.support.clock import ManualClock
from tests.support.process import metric_sum, parse_metrics

NEVER_OPENS = BreakerConfig(min_failures=1_000_000)
DONE = Reply(200, {"result": "because"})
ACCEPTED = Reply(202, {"success": True, "workflow_version_execution_id": 787})
STARTED = Reply(201, {"success": True, "workflow_version_execution_id": 787})
RUNNING = Reply(202)
ENDED = Reply(200, {"Answer": {"status": "SUCCESS", "value": "because", "is_output_node": True}})


@dataclass(frozen=True, slots=True)
class DelayedReply:
    """Reply after `seconds`; a timeout if the deadline is earlier."""

    seconds: float
    answer: Reply | ProviderFault | Exception = DONE


ScriptStep: TypeAlias = Reply | ProviderFault | BaseException | DelayedReply | Callable[[], Reply]


def fault(cause: Cause, retry_after: float | None = None) -> ProviderFault:
    """Return a fault of the transport."""
    return ProviderFault(cause, "our words", retry_after=retry_after)


@dataclass
class ScriptedUpstream:
    """An `Upstream` that follows a script; the last step repeats. `sent`: calls with their time and deadline."""

    clock: ManualClock
    script: Sequence[ScriptStep]
    sent: list[tuple[Call, float, float]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    relayed: list[tuple[PassthroughRequest, float]] = field(default_factory=list)

    @property
    def starts(self) -> int:
        """Number of start requests."""
        return sum(not call.safe for call, _, _ in self.sent)

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        now = self.clock.monotonic()
        step = self.script[min(len(self.sent), len(self.script) - 1)]
        self.sent.append((call, now, deadline))
        self.traces.append(traceparent)
        if isinstance(step, DelayedReply):
            self.clock.advance(min(step.seconds, deadline - now))
            step = step.answer if step.seconds < deadline - now else fault(Cause.TIMEOUT)
        if callable(step):
            step = step()
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, Reply)
        return step

    @asynccontextmanager
    async def send_passthrough(
        self, request: PassthroughRequest, deadline: float, *, max_body: int
    ) -> AsyncIterator[PassthroughResponse]:
        """Return a response with the scripted status, or raise the scripted exception."""
        assert max_body > 0
        self.relayed.append((request, deadline))
        step = self.script[min(len(self.relayed), len(self.script)) - 1]
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, Reply)
        yield PassthroughResponse(step.status, (), b"")

    async def close(self) -> None:
        """Do nothing."""


class ExecutorHarness:
    """Real executor with a fake network and virtual time."""

    def __init__(
        self,
        *,
        retry_policy: RetryPolicy = RetryPolicy(3, 0.1, 5.0),  # noqa: B008 - frozen
        poll_schedule: PollSchedule | None = None,
        breaker_config: BreakerConfig = NEVER_OPENS,
        client: ClientLimitsConfig = ClientLimitsConfig(),  # noqa: B008 - frozen
        providers: Mapping[str, ResourceLimitsConfig] | None = None,
        clock: ManualClock | None = None,
        poll_hints: ProviderHints | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.metrics = Metrics()
        providers = providers or {name: ResourceLimitsConfig(concurrency=100) for name in ("studio", "layer", "other")}
        self.limiter = Limiter(self.clock, LimitsConfig({"one": client}, {}, providers))
        self.circuits = CircuitRegistry(breaker_config, self.clock.monotonic, self.metrics)
        poll_schedule = poll_schedule or PollSchedule(0.25, 5.0)
        self.context = ExecutionContext(
            self.limiter, retry_policy, poll_schedule, self.circuits, self.clock, self.metrics, poll_hints
        )
        self.executor = RunExecutor(self.context)

    def upstream(self, *script: ScriptStep) -> ScriptedUpstream:
        """Return an upstream with this script."""
        return ScriptedUpstream(self.clock, script)

    def studio(self, *script: ScriptStep, **fields: Any) -> Workflow:
        """Return a workflow at Prompt Studio."""
        return self.workflow(PromptStudio(), *script, name="studio", **fields)

    def layer(self, *script: ScriptStep, **fields: Any) -> Workflow:
        """Return a workflow at PromptLayer."""
        return self.workflow(PromptLayer(), *script, name="layer", **fields)

    def workflow(self, adapter: Adapter, *script: ScriptStep, name: str = "other", **fields: Any) -> Workflow:
        """Return a workflow at a provider with this script; `fields` are the workflow's."""
        named = {"alias": name, "name": f"{name}-name", **fields}
        return Workflow(provider=Provider(name, adapter, self.upstream(*script)), **named)

    def new_run(self, *, timeout: float = 60.0, **fields: Any) -> RunRecord:
        """Return a new run."""
        spec = RunSpec(client="one", workflow="w", timeout=timeout, **fields)
        return RunRecord.create(spec, "", self.clock)

    async def run(self, workflow: Workflow, record: RunRecord | None = None) -> tuple[RunRecord, RunError | None]:
        """Execute a run to its end."""
        record = record or self.new_run()
        try:
            await self.executor.run(record, workflow)
        except RunError as problem:
            return record, problem
        return record, None

    def slots_in_use(self) -> int:
        """Return the number of slots in use."""
        return sum(self.limiter.running(name) for name in ("studio", "layer", "other"))

    def metric_value(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples with these labels."""
        return metric_sum(parse_metrics(self.metrics.render().decode()), name, **labels)


def upstream_of(workflow: Workflow) -> ScriptedUpstream:
    """Return the scripted upstream of a workflow."""
    upstream = workflow.provider.upstream
    assert isinstance(upstream, ScriptedUpstream)
    return upstream


def ending_of_run(result: tuple[RunRecord, RunError | None]) -> tuple[str | None, str, int]:
    """Return the error's code, the ending of the run, and the number of starts."""
    record, problem = result
    if problem is None:
        assert "succeeded" == record.status
        return None, record.status, record.attempts
    assert (record.status, record.summary()) == (problem.ending, problem.run)
    return problem.code, record.status, record.attempts


def results_reply(**values: JsonValue) -> Reply:
    """Return PromptLayer's results with succeeded output nodes."""
    return Reply(200, {name: {"status": "SUCCESS", "value": v, "is_output_node": True} for name, v in values.items()})


def poll_times(upstream: ScriptedUpstream) -> list[float]:
    """Return the times of the polls, in seconds after the start."""
    return [at - upstream.sent[0][1] for call, at, _ in upstream.sent if call.safe]
