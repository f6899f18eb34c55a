"""Providers that do what a test says, and an engine around them, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from gateway.limits.contract import ClientLimitsConfig, SharedLimitsConfig
from gateway.limits.memory import MemoryLimiter
from gateway.observability.metrics import Metrics
from gateway.outbound.provider.passthrough import PassthroughRequest, PassthroughResponse
from gateway.problems import Problem
from gateway.runs.attempt import ExecutionContext
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.executor import RunExecutor
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.polling.hints import PollHints
from gateway.runs.polling.schedule import PollSchedule
from gateway.runs.resilience.circuit_breaker import BreakerConfig
from gateway.runs.resilience.registry import CircuitRegistry
from gateway.runs.resilience.retry import RetryPolicy
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
    """The answer after so many seconds; none at all if the deadline comes first."""

    seconds: float
    answer: Reply | ProviderFault | Exception = DONE


ScriptStep: TypeAlias = Reply | ProviderFault | BaseException | DelayedReply | Callable[[], Reply]


def fault(cause: Cause, retry_after: float | None = None) -> ProviderFault:
    """A fault of the transport."""
    return ProviderFault(cause, "our words", retry_after=retry_after)


@dataclass
class ScriptedUpstream:
    """An `Upstream` that does one act after another, the last one for ever. `sent` is what it was sent, and when."""

    clock: ManualClock
    script: Sequence[ScriptStep]
    sent: list[tuple[Call, float, float]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    relayed: list[tuple[PassthroughRequest, float]] = field(default_factory=list)

    @property
    def starts(self) -> int:
        """How many calls were not safe."""
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

    async def send_passthrough(self, request: PassthroughRequest, deadline: float) -> PassthroughResponse:
        """See `Upstream.relay`: what is scripted is the answer's status, or what is raised."""
        self.relayed.append((request, deadline))
        step = self.script[min(len(self.relayed), len(self.script)) - 1]
        if isinstance(step, BaseException):
            raise step
        assert isinstance(step, Reply)
        return PassthroughResponse(step.status, (), b"")

    async def close(self) -> None:
        """Nothing is open."""


class ExecutorHarness:
    """An engine with everything real but the network and the time."""

    def __init__(
        self,
        *,
        retry_policy: RetryPolicy = RetryPolicy(3, 0.1, 5.0),  # noqa: B008 - frozen
        poll_schedule: PollSchedule | None = None,
        breaker_config: BreakerConfig = NEVER_OPENS,
        client: ClientLimitsConfig = ClientLimitsConfig(),  # noqa: B008 - frozen
        providers: Mapping[str, SharedLimitsConfig] | None = None,
        clock: ManualClock | None = None,
        poll_hints: PollHints | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.metrics = Metrics()
        self.limiter = MemoryLimiter(
            self.clock,
            clients={"one": client},
            workflows={},
            providers=providers or {name: SharedLimitsConfig(concurrency=100) for name in ("studio", "layer", "other")},
        )
        self.circuits = CircuitRegistry(breaker_config, self.clock.monotonic, self.metrics)
        poll_schedule = poll_schedule or PollSchedule(0.25, 5.0)
        self.context = ExecutionContext(
            self.limiter, retry_policy, poll_schedule, self.circuits, self.clock, self.metrics, poll_hints
        )
        self.executor = RunExecutor(self.context)

    def upstream(self, *script: ScriptStep) -> ScriptedUpstream:
        """An upstream with this script."""
        return ScriptedUpstream(self.clock, script)

    def studio(self, *script: ScriptStep, **fields: Any) -> Workflow:
        """A workflow at Prompt Studio."""
        return self.workflow(PromptStudio(), *script, name="studio", **fields)

    def layer(self, *script: ScriptStep, **fields: Any) -> Workflow:
        """A workflow at PromptLayer."""
        return self.workflow(PromptLayer(), *script, name="layer", **fields)

    def workflow(self, adapter: Adapter, *script: ScriptStep, name: str = "other", **fields: Any) -> Workflow:
        """A workflow at a provider that does so; `fields` are the workflow's."""
        named = {"alias": name, "name": f"{name}-name", **fields}
        return Workflow(provider=Provider(name, adapter, self.upstream(*script)), **named)

    def new_run(self, *, timeout: float = 60.0, **fields: Any) -> RunRecord:
        """A run that was just asked for."""
        spec = RunSpec(client="one", workflow="w", timeout=timeout, **fields)
        return RunRecord.create(spec, "", self.clock)

    async def run(self, workflow: Workflow, record: RunRecord | None = None) -> tuple[RunRecord, Problem | None]:
        """Bring a run to its end."""
        record = record or self.new_run()
        try:
            await self.executor.run(record, workflow)
        except Problem as problem:
            return record, problem
        return record, None

    def slots_in_use(self) -> int:
        """How many slots are taken."""
        return sum(self.limiter.running(name) for name in ("studio", "layer", "other"))

    def metric_value(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        return metric_sum(parse_metrics(self.metrics.render().decode()), name, **labels)


def upstream_of(workflow: Workflow) -> ScriptedUpstream:
    """The script behind a workflow."""
    upstream = workflow.provider.upstream
    assert isinstance(upstream, ScriptedUpstream)
    return upstream


def ending_of_run(result: tuple[RunRecord, Problem | None]) -> tuple[str | None, str, int]:
    """The problem's code, how the run ended, and the starts: what a client decides by."""
    record, problem = result
    if problem is None:
        assert "succeeded" == record.status
        return None, record.status, record.attempts
    assert record.problem_code == problem.code
    members = {"run_id": record.id, "provider": record.provider, "attempts": record.attempts, "outcome": record.status}
    assert members.items() <= dict(problem.extra).items()
    return problem.code, record.status, record.attempts


def results_reply(**values: JsonValue) -> Reply:
    """PromptLayer's results: every node succeeded, each is an output."""
    return Reply(200, {name: {"status": "SUCCESS", "value": v, "is_output_node": True} for name, v in values.items()})


def poll_times(upstream: ScriptedUpstream) -> list[float]:
    """When each question was asked, in seconds after the start."""
    return [at - upstream.sent[0][1] for call, at, _ in upstream.sent if call.safe]
