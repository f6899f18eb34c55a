"""State machine test: every store against the reference model, in any order of calls."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from gateway.store.contract import Store
from gateway.store.records import Delivery, FinalState, IdempotencyKey, Phase, RunPage, StoredResponse, StoredRun
from gateway.store.run_filter import RunFilter
from tests.store.reference_model import ReferenceStore
from tests.store.samples import CALLBACK_URL, STORES
from tests.support.clock import ManualClock
from tests.support.examples import examples

T = TypeVar("T")

CLIENTS = st.sampled_from(["a", "b"])
OWNERS = st.sampled_from(["one", "two", "three"])
TIMES = st.integers(0, 12).map(float) | st.floats(0, 12)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
ENDINGS = ("succeeded", "failed", "not_run", "unknown")
STATUSES = st.sampled_from(["queued", "running", *ENDINGS])
REVISIONS = st.integers(0, 1)
WORKFLOWS = st.sampled_from(["triage", "summary"])
LIMITS = st.integers(1, 4)
TAGS = st.lists(st.sampled_from(["x", "xy", "z:z"]), unique=True, max_size=2)
DETAILS = st.none() | st.binary(max_size=5) | st.just(b'{"metadata":{"a":"b"}}')
HEADERS = st.lists(st.tuples(TEXTS, TEXTS), max_size=2).map(tuple)
ANSWERS = st.builds(StoredResponse, st.integers(100, 599), HEADERS, st.binary(max_size=20))
KEYS = st.none() | st.builds(IdempotencyKey, CLIENTS, st.sampled_from(["x", "y", "x\0", ""]), st.binary(max_size=3))
NEW_RUNS = st.builds(
    StoredRun,
    id=st.just(""),
    client=CLIENTS,
    workflow=WORKFLOWS,
    provider=TEXTS,
    order=st.binary(max_size=20),
    created_at=TIMES,
    deadline_at=TIMES,
    owner=OWNERS,
    leased_until_at=TIMES,
    callback_url=st.sampled_from([None, CALLBACK_URL]),
    details=DETAILS,
)
ADVANCES = st.builds(
    replace,
    NEW_RUNS,
    phase=st.sampled_from(Phase),
    status=STATUSES,
    attempts=st.integers(0, 5),
    provider=TEXTS,
    provider_run_id=st.none() | TEXTS,
).filter(lambda run: run.phase is not Phase.DONE or run.status in ENDINGS)  # as of every run that has ended
FINAL_STATES = st.builds(
    FinalState,
    owner=OWNERS,
    status=st.sampled_from(ENDINGS),
    document=st.binary(max_size=20),
    finished_at=TIMES,
    attempts=st.integers(0, 5),
    provider_run_id=st.none() | TEXTS,
    response=st.none() | ANSWERS,
    callback=st.none() | st.binary(max_size=20),
    callback_due_at=st.none() | TIMES,
    details=DETAILS,
)
FILTERS = st.builds(
    RunFilter,
    client=st.none() | CLIENTS,
    limit=LIMITS,
    status=st.none() | STATUSES,
    workflow=st.none() | WORKFLOWS,
    provider=st.none() | TEXTS,
    provider_run_id=st.none() | TEXTS,
    tags=TAGS.map(tuple),
    metadata=st.sampled_from([(), (("a", "b"),)]),
    created_from=st.none() | TIMES,
    min_duration=st.none() | TIMES,
)


class StoreMachine(RuleBasedStateMachine):
    """Store and its reference model; ids are numbers in the order of use."""

    make: Callable[[Path], Store]
    ids = Bundle("ids")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = type(self).make(Path(self.directory.name))
        self.wait_for(self.store.open())
        self.reference = ReferenceStore()
        self.names: set[str] = set()
        self.secrets: dict[str, bytes] = {}
        self.taken: list[Delivery] = []

    def teardown(self) -> None:
        self.wait_for(self.store.close())
        self.runner.close()
        self.directory.cleanup()

    def wait_for(self, work: Awaitable[T]) -> T:
        """Run the coroutine to its end."""

        async def waited() -> T:
            return await work

        return self.runner.run(waited())

    def owner_of(self, run_id: str) -> str:
        """Return the owner of a run; any owner if the run does not exist."""
        kept = self.reference.get_run(run_id)
        return "one" if kept is None else kept.owner

    @rule(target=ids, new=NEW_RUNS, key=KEYS, tags=TAGS)
    def begin(self, new: StoredRun, key: IdempotencyKey | None, tags: list[str]) -> str:
        run = replace(new, id=f"run_{len(self.names)}")
        self.names.add(run.id)
        key = key and replace(key, client=run.client)
        assert self.reference.create_run(run, key, tags) == self.wait_for(self.store.create_run(run, key, tags))
        return run.id

    @rule(run_id=ids)
    def begin_with_an_id_that_is_taken(self, run_id: str) -> None:
        run = self.reference.get_run(run_id)
        if run is not None:
            with pytest.raises(ValueError, match="this id"):
                self.wait_for(self.store.create_run(run, None))

    @rule(run_id=ids, step=ADVANCES, other=st.none() | OWNERS)
    def advance(self, run_id: str, step: StoredRun, other: str | None) -> None:
        run = replace(step, id=run_id, owner=other or self.owner_of(run_id))
        assert self.reference.advance(run) == self.wait_for(self.store.advance(run))

    @rule(run_id=ids, attempts=st.none() | st.integers(0, 5), other=st.none() | OWNERS)
    def revert_to_queued(self, run_id: str, attempts: int | None, other: str | None) -> None:
        kept = self.reference.get_run(run_id)
        if kept is not None:
            run = replace(kept, owner=other or kept.owner, attempts=kept.attempts if attempts is None else attempts)
            assert self.reference.revert_to_queued(run) == self.wait_for(self.store.revert_to_queued(run))

    @rule(run_id=ids, final_state=FINAL_STATES, other=st.none() | OWNERS)
    def finish(self, run_id: str, final_state: FinalState, other: str | None) -> None:
        final_state = replace(final_state, owner=other or self.owner_of(run_id))
        assert self.reference.finish(run_id, final_state) == self.wait_for(self.store.finish(run_id, final_state))

    @rule(run_id=ids, final_state=FINAL_STATES)
    def revise(self, run_id: str, final_state: FinalState) -> None:
        assert self.reference.revise(run_id, final_state) == self.wait_for(self.store.revise(run_id, final_state))

    @rule(run_id=ids, final_state=FINAL_STATES)
    def cancel_queued(self, run_id: str, final_state: FinalState) -> None:
        expected = self.reference.cancel_queued(run_id, final_state)
        assert expected == self.wait_for(self.store.cancel_queued(run_id, final_state))

    @rule(run_id=ids, other=st.none() | OWNERS)
    def discard(self, run_id: str, other: str | None) -> None:
        owner = other or self.owner_of(run_id)
        self.reference.discard_run(run_id, owner)
        self.wait_for(self.store.discard_run(run_id, owner=owner))

    @rule(wanted=FILTERS, after=st.none() | ids)
    def list_runs(self, wanted: RunFilter, after: str | None) -> None:
        last = None if after is None else self.reference.get_run(after)
        run_filter = replace(wanted, before=None if last is None else (last.created_at, last.id))
        assert RunPage(self.reference.list_runs(run_filter)) == self.wait_for(self.store.list_runs(run_filter))

    @rule(owner=OWNERS, until_at=TIMES)
    def renew(self, owner: str, until_at: float) -> None:
        self.reference.renew_leases(owner, until_at)
        self.wait_for(self.store.renew_leases(owner, until_at))

    @rule(owner=OWNERS, now_at=TIMES, until_at=TIMES, limit=LIMITS, batch_id=st.integers(0, 2))
    def adopt(self, owner: str, now_at: float, until_at: float, limit: int, batch_id: int) -> None:
        expected = self.reference.adopt(owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        assert expected == self.wait_for(
            self.store.adopt(owner, now_at=now_at, until_at=until_at, limit=limit, batch_id=batch_id)
        )

    @rule(name=st.sampled_from(["callbacks", "limits"]), default=st.binary(max_size=5))
    def share_a_secret(self, name: str, default: bytes) -> None:
        kept = self.secrets.setdefault(name, default)
        assert kept == self.wait_for(self.store.get_or_create_secret(name, default))

    @rule(now_at=TIMES, until_at=TIMES, limit=LIMITS, latest_at=st.just(math.inf) | TIMES)
    def take_callbacks(self, now_at: float, until_at: float, limit: int, latest_at: float) -> None:
        times = {"now_at": now_at, "until_at": until_at, "latest_at": max(now_at, latest_at)}
        taken = self.wait_for(self.store.take_due_callbacks(limit=limit, **times))
        assert self.reference.take_due_callbacks(limit=limit, **times) == taken
        self.taken += taken

    @rule(number=st.integers(0, 3), until_at=TIMES)
    def load_callback(self, number: int, until_at: float) -> None:
        if number < len(self.taken):
            delivery = self.taken[-1 - number]
            body = self.wait_for(self.store.load_callback(delivery, until_at=until_at))
            assert self.reference.load_callback(delivery, until_at=until_at) == body

    @rule(run_id=ids, state=st.sampled_from(["delivered", "given_up"]), revision=REVISIONS)
    def settle_callback(self, run_id: str, state: str, revision: int) -> None:
        self.reference.settle_callback(run_id, state, revision)
        self.wait_for(self.store.settle_callback(run_id, state, revision=revision))

    @rule(run_id=ids, due_at=TIMES, revision=REVISIONS)
    def postpone(self, run_id: str, due_at: float, revision: int) -> None:
        try:
            self.reference.postpone_callback(run_id, due_at=due_at, revision=revision)
        except KeyError:
            with pytest.raises(KeyError):
                self.wait_for(self.store.postpone_callback(run_id, due_at=due_at, revision=revision))
        else:
            self.wait_for(self.store.postpone_callback(run_id, due_at=due_at, revision=revision))

    @rule(run_id=ids, now_at=TIMES)
    def redeliver(self, run_id: str, now_at: float) -> None:
        assert self.reference.redeliver_callback(run_id, now_at=now_at) == self.wait_for(
            self.store.redeliver_callback(run_id, now_at=now_at)
        )

    @rule(state=st.sampled_from(["pending", "delivered", "given_up"]), limit=LIMITS, after=st.just("") | ids)
    def list_callbacks(self, state: str, limit: int, after: str) -> None:
        assert self.reference.list_by_callback_state(state, limit=limit, after=after) == self.wait_for(
            self.store.list_by_callback_state(state, limit=limit, after=after)
        )

    @rule(runs_before_at=TIMES, keys_before_at=TIMES)
    def purge(self, runs_before_at: float, keys_before_at: float) -> None:
        assert self.reference.purge(runs_before_at=runs_before_at, keys_before_at=keys_before_at) == self.wait_for(
            self.store.purge(runs_before_at=runs_before_at, keys_before_at=keys_before_at)
        )

    @rule()
    def restart(self) -> None:
        self.wait_for(self.store.close())
        self.wait_for(self.store.open())
        if not self.store.shared:
            self.reference.reopen()

    @invariant()
    def stores_are_equal(self) -> None:
        held = [self.wait_for(self.store.get_run(run_id)) for run_id in sorted(self.names)]
        assert [self.reference.get_run(run_id) for run_id in sorted(self.names)] == held
        overviews = [self.wait_for(self.store.get_overview(run_id)) for run_id in sorted(self.names)]
        assert [run and run.overview for run in held] == overviews
        documents = [self.wait_for(self.store.get_document(run_id)) for run_id in sorted(self.names)]
        assert [run and run.document for run in held] == documents
        keys = {(claim.key.client, claim.key.text) for claim in self.reference.records} | {("a", "x"), ("b", "")}
        claims = [self.wait_for(self.store.get_idempotency_record(*key)) for key in sorted(keys)]
        assert [self.reference.get_idempotency_record(*key) for key in sorted(keys)] == claims


@pytest.mark.parametrize("name", sorted(STORES))
def test_any_order_of_calls_gives_the_results_of_the_reference(name: str) -> None:
    """Claims, phases, ends, leases, callbacks, ages and restarts, in sequences of thirty."""

    class Machine(StoreMachine):
        make = staticmethod(lambda directory: STORES[name](directory, ManualClock()))

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples(40), stateful_step_count=30, deadline=None)
    )
