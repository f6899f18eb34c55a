"""Codec of stored runs: round trip, and deadlines across processes."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import timedelta

import pytest

from gateway.runs.durable.codec import client_context, decode_run, decode_spec, encode_run, same_spec
from gateway.runs.model import RunRecord, RunSpec
from gateway.store.records import Phase, StoredRun
from tests.support.clock import ManualClock

FULL_SPEC = RunSpec(
    client="one",
    workflow="layer/own name",
    timeout=12.5,
    input={"é": [1, 2**70, None, {"deep": 1.5}]},
    metadata={"team": "a"},
    tags=("team:a", "x"),
    label="prod",
    version=7,
    return_all_outputs=True,
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
    synchronous=False,
    api="promptlayer",
    start_before=1_795_000_000.5,
    replay_of="run_1",
    team="t",
    key_id="key_1",
    input_kept=False,
    client_context={"number": 2**52, "all_outputs": True, "other": "x"},
)


def encode_and_decode(
    spec: RunSpec, *, later: float = 0.0, **stored: object
) -> tuple[RunRecord, RunRecord, ManualClock]:
    """Return a run and its decoded copy in a process with another monotonic clock, this many seconds later."""
    clock, other = ManualClock(), ManualClock()
    run = RunRecord.create(spec, "layer", clock)
    encoded = encode_run(run, owner="me", leased_until_at=5.0, callback_url=None)
    other.advance(5000.0)
    other.step_wall(later - 5000.0)
    return run, decode_run(replace(encoded, **stored), other), other  # type: ignore[arg-type]  # names of its fields


@pytest.mark.parametrize("spec", [FULL_SPEC, RunSpec(client="two", workflow="w", timeout=1.0)], ids=["full", "bare"])
def test_every_field_of_a_run_spec_is_decoded(spec: RunSpec) -> None:
    """R47: a run started after a crash equals the requested one."""
    _, decoded, _ = encode_and_decode(spec)
    assert spec == decoded.spec


def test_the_full_spec_sets_every_field() -> None:
    """Otherwise the previous test would not cover the other fields; connection and key limits are not stored."""
    bare = RunSpec(client="two", workflow="w", timeout=1.0)
    same = {f.name for f in fields(RunSpec) if getattr(FULL_SPEC, f.name) == getattr(bare, f.name)}
    assert {"client_connected", "key_limits"} == same
    assert FULL_SPEC.client_connected()


def test_a_run_is_decoded_as_it_was_encoded() -> None:
    """Id, provider, attempts and provider run id; whether it may have been started."""
    run, decoded, _ = encode_and_decode(
        FULL_SPEC, phase=Phase.FOLLOWING, attempts=2, provider_run_id="787", provider="other"
    )
    assert (run.id, "other", 2, "787", True) == (
        decoded.id, decoded.provider, decoded.attempts, decoded.provider_run_id, decoded.maybe_started
    )  # fmt: skip
    assert "queued" == decoded.status
    assert abs(run.created_at - decoded.created_at) < timedelta(milliseconds=1)


@pytest.mark.parametrize(("phase", "maybe"), [(Phase.QUEUED, False), (Phase.SENDING, True), (Phase.FOLLOWING, True)])
def test_whether_it_may_have_been_started_is_what_its_phase_says(phase: Phase, maybe: bool) -> None:  # noqa: FBT001 - a value
    """R44: only QUEUED runs may be started."""
    assert maybe == encode_and_decode(FULL_SPEC, phase=phase)[1].maybe_started


@pytest.mark.parametrize("later", [0.0, 5.0, 60.0])
def test_the_deadline_stays_where_it_was(later: float) -> None:
    """The deadline and the duration of a run include the time during which no process worked on it."""
    run, decoded, clock = encode_and_decode(FULL_SPEC, later=later)
    assert run.spec.timeout - later == pytest.approx(decoded.deadline - clock.monotonic())
    assert later == pytest.approx(clock.monotonic() - decoded.started_monotonic)


def test_a_wall_clock_that_was_set_back_makes_no_duration_negative() -> None:
    """The duration is at least 0."""
    _, decoded, clock = encode_and_decode(FULL_SPEC, later=-100.0)
    decoded.finish("succeeded", clock)
    assert 0.0 == decoded.duration


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"timeout": 1.0}, True),
        ({"traceparent": ""}, True),
        ({"client_connected": lambda: False}, True),
        ({"input": {}}, False),
        ({"metadata": {}}, False),
        ({"tags": ("x", "team:a")}, False),
        ({"label": None}, False),
        ({"client_context": {"number": 2**52, "all_outputs": False}}, False),
        ({"workflow": "other"}, False),
        ({"client": "two"}, False),
    ],
)
def test_which_fields_make_two_specs_the_same(changed: dict[str, object], *, same: bool) -> None:
    """All fields except timeout, trace and connection of the client."""
    run = RunRecord.create(FULL_SPEC, "layer", ManualClock())
    stored = encode_run(run, owner="me", leased_until_at=5.0, callback_url=None)
    assert same == same_spec(replace(FULL_SPEC, **changed), decode_spec(stored))  # type: ignore[arg-type]  # names of its fields


def test_the_client_context_of_earlier_versions_is_decoded() -> None:
    """Earlier versions stored PromptLayer's data at the top level of the JSON, for every run."""
    stored = stored_run(FULL_SPEC)
    members = json.loads(stored.order)
    del members["client_context"]
    members |= {"number": 7, "all_outputs": True}
    earlier = replace(stored, order=json.dumps(members).encode())
    assert {"number": 7, "all_outputs": True} == decode_spec(earlier).client_context == client_context(earlier)


def test_promptlayers_facts_are_stored_as_earlier_versions_read_them() -> None:
    """Replicas of both versions share a store during an upgrade."""
    spec = replace(FULL_SPEC, client_context={"number": 7, "all_outputs": True})
    members = json.loads(stored_run(spec).order)
    assert {"number": 7, "all_outputs": True}.items() <= members.items()
    assert "client_context" not in members


def test_an_unknown_member_is_not_decoded() -> None:
    """A later version may have stored it; the run must not be started."""
    stored = stored_run(FULL_SPEC)
    later = replace(stored, order=json.dumps({**json.loads(stored.order), "priority": 1}).encode())
    with pytest.raises(TypeError):
        decode_spec(later)


@pytest.mark.parametrize("order", [b"\xff", b"[]"])
def test_the_client_context_of_an_unreadable_run_is_empty(order: bytes) -> None:
    assert {} == client_context(replace(stored_run(FULL_SPEC), order=order))


def stored_run(spec: RunSpec) -> StoredRun:
    run = RunRecord.create(spec, "layer", ManualClock())
    return encode_run(run, owner="me", leased_until_at=5.0, callback_url=None)
