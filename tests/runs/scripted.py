"""Providers that do what a test says, and an engine around them, on virtual time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from gateway.access.limits import ClientLimits, SharedLimits
from gateway.access.memory import MemoryLimits
from gateway.metrics import Metrics
from gateway.problems import Problem
from gateway.runs.breaker import Tolerance
from gateway.runs.catalog import Provider, Workflow
from gateway.runs.engine import Engine
from gateway.runs.guards import Guards
from gateway.runs.hints import Hints
from gateway.runs.leg import Means
from gateway.runs.polling import Schedule
from gateway.runs.record import Order, RunRecord
from gateway.runs.retry import Policy
from gateway.upstream.parcel import Parcel, Returned
from providers.contract import Adapter, Call, Cause, JsonValue, ProviderFault, Reply
from providers.prompt_studio import PromptStudio
from providers.promptlayer import PromptLayer
from tests.manual_clock import ManualClock

NEVER_OPENS = Tolerance(failures=1_000_000)
DONE = Reply(200, {"result": "because"})
ACCEPTED = Reply(202, {"success": True, "workflow_version_execution_id": 787})
STARTED = Reply(201, {"success": True, "workflow_version_execution_id": 787})
RUNNING = Reply(202)
ENDED = Reply(200, {"Answer": {"status": "SUCCESS", "value": "because", "is_output_node": True}})


@dataclass(frozen=True, slots=True)
class Late:
    """The answer after so many seconds; none at all if the deadline comes first."""

    seconds: float
    answer: Reply | ProviderFault | Exception = DONE


Act: TypeAlias = Reply | ProviderFault | BaseException | Late | Callable[[], Reply]


def fault(cause: Cause, retry_after: float | None = None) -> ProviderFault:
    """A fault of the transport."""
    return ProviderFault(cause, "our words", retry_after=retry_after)


@dataclass
class Door:
    """An `Upstream` that does one act after another, the last one for ever. `sent` is what it was sent, and when."""

    clock: ManualClock
    acts: Sequence[Act]
    sent: list[tuple[Call, float, float]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)
    relayed: list[tuple[Parcel, float]] = field(default_factory=list)

    @property
    def starts(self) -> int:
        """How many calls were not safe."""
        return sum(not call.safe for call, _, _ in self.sent)

    async def send(self, call: Call, deadline: float, traceparent: str = "") -> Reply:
        """See `Upstream.send`."""
        now = self.clock.monotonic()
        act = self.acts[min(len(self.sent), len(self.acts) - 1)]
        self.sent.append((call, now, deadline))
        self.traces.append(traceparent)
        if isinstance(act, Late):
            self.clock.advance(min(act.seconds, deadline - now))
            act = act.answer if act.seconds < deadline - now else fault(Cause.TIMEOUT)
        if callable(act):
            act = act()
        if isinstance(act, BaseException):
            raise act
        assert isinstance(act, Reply)
        return act

    async def relay(self, parcel: Parcel, deadline: float) -> Returned:
        """See `Upstream.relay`: what is scripted is the answer's status, or what is raised."""
        self.relayed.append((parcel, deadline))
        act = self.acts[min(len(self.relayed), len(self.acts)) - 1]
        if isinstance(act, BaseException):
            raise act
        assert isinstance(act, Reply)
        return Returned(act.status, (), b"")

    async def close(self) -> None:
        """Nothing is open."""


class World:
    """An engine with everything real but the network and the time."""

    def __init__(
        self,
        *,
        policy: Policy = Policy(3, 0.1, 5.0),  # noqa: B008 - frozen
        schedule: Schedule | None = None,
        tolerance: Tolerance = NEVER_OPENS,
        client: ClientLimits = ClientLimits(),  # noqa: B008 - frozen
        providers: Mapping[str, SharedLimits] | None = None,
        clock: ManualClock | None = None,
        hints: Hints | None = None,
    ) -> None:
        self.clock = clock or ManualClock()
        self.metrics = Metrics()
        self.limits = MemoryLimits(
            self.clock,
            clients={"one": client},
            workflows={},
            providers=providers or {name: SharedLimits(concurrency=100) for name in ("studio", "layer", "other")},
        )
        self.guards = Guards(tolerance, self.clock.monotonic, self.metrics)
        schedule = schedule or Schedule(0.25, 5.0)
        self.means = Means(self.limits, policy, schedule, self.guards, self.clock, self.metrics, hints)
        self.engine = Engine(self.means)

    def door(self, *acts: Act) -> Door:
        """An upstream with this script."""
        return Door(self.clock, acts)

    def studio(self, *acts: Act, **fields: Any) -> Workflow:
        """A workflow at Prompt Studio."""
        return self.workflow(PromptStudio(), *acts, name="studio", **fields)

    def layer(self, *acts: Act, **fields: Any) -> Workflow:
        """A workflow at PromptLayer."""
        return self.workflow(PromptLayer(), *acts, name="layer", **fields)

    def workflow(self, adapter: Adapter, *acts: Act, name: str = "other", **fields: Any) -> Workflow:
        """A workflow at a provider that does so; `fields` are the workflow's."""
        named = {"alias": name, "name": f"{name}-name", **fields}
        return Workflow(provider=Provider(name, adapter, self.door(*acts)), **named)

    def order(self, *, timeout: float = 60.0, **fields: Any) -> RunRecord:
        """A run that was just asked for."""
        order = Order(client="one", workflow="w", timeout=timeout, **fields)
        return RunRecord.open(order, "", self.clock)

    async def run(self, workflow: Workflow, record: RunRecord | None = None) -> tuple[RunRecord, Problem | None]:
        """Bring a run to its end."""
        record = record or self.order()
        try:
            await self.engine.run(record, workflow)
        except Problem as problem:
            return record, problem
        return record, None

    def running(self) -> int:
        """How many slots are taken."""
        return sum(self.limits.running(name) for name in ("studio", "layer", "other"))

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        families = text_string_to_metric_families(self.metrics.render().decode())
        found = (s for family in families for s in family.samples if s.name == name)
        return sum(s.value for s in found if labels.items() <= s.labels.items())


def door_of(workflow: Workflow) -> Door:
    """The script behind a workflow."""
    door = workflow.provider.upstream
    assert isinstance(door, Door)
    return door


def ending(result: tuple[RunRecord, Problem | None]) -> tuple[str | None, str, int]:
    """The problem's code, how the run ended, and the starts: what a client decides by."""
    record, problem = result
    if problem is None:
        assert "succeeded" == record.status
        return None, record.status, record.attempts
    assert record.code == problem.code
    members = {"run_id": record.id, "provider": record.provider, "attempts": record.attempts, "outcome": record.status}
    assert members.items() <= dict(problem.extra).items()
    return problem.code, record.status, record.attempts


def nodes(**values: JsonValue) -> Reply:
    """PromptLayer's results: every node succeeded, each is an output."""
    return Reply(200, {name: {"status": "SUCCESS", "value": v, "is_output_node": True} for name, v in values.items()})


def polled(door: Door) -> list[float]:
    """When each question was asked, in seconds after the start."""
    return [at - door.sent[0][1] for call, at, _ in door.sent if call.safe]
