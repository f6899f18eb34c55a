"""The contract that every adapter keeps: each one that is installed is found by its entry point, and tried.

Whoever adds a provider runs this file; there is nothing to add to it.
"""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint, entry_points
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.app.factories import ADAPTER_ENTRY_POINTS
from providers.contract import UNREADABLE, Adapter, Call, Cause, JsonValue, Pause, ProviderFault, Reply, Run, Step
from tests.providers.drive import calls, drive

INSTALLED = sorted(entry_points(group=ADAPTER_ENTRY_POINTS), key=lambda entry: entry.name)
STATUSES = [200, 201, 202, 204, 301, 400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 502, 503, 504, 599]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["QUEUED", "SUCCESS", "done", "."]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text() | st.sampled_from(["result", "status", "success", "state", "job"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
REPLIES = st.builds(Reply, st.sampled_from(STATUSES), JSON | st.just(UNREADABLE), st.none() | st.floats(0, 100))

pytestmark = pytest.mark.parametrize("entry", INSTALLED, ids=lambda entry: entry.name)


def build_adapter(entry: EntryPoint) -> Adapter:
    built: Adapter = entry.load()(None)
    return built


def start_call(entry: EntryPoint, run: Run) -> Call:
    """The call that starts a run."""
    [call] = calls(drive(build_adapter(entry).steps(run), [])[0])
    return call


def step_after_start(entry: EntryPoint, reply: Reply) -> Step | None:
    """What the adapter does when its start is answered so; None where that was all."""
    taken, _ = drive(build_adapter(entry).steps(Run("name")), [reply])
    return taken[1] if len(taken) > 1 else None


def test_it_declares_its_base_url_and_key_header(entry: EntryPoint) -> None:
    built = build_adapter(entry)
    parts = urlsplit(built.base_url)
    assert ("https", "", "") == (parts.scheme, parts.query, parts.fragment)
    assert parts.hostname
    assert not built.base_url.endswith("/")
    assert re.fullmatch(r"[A-Za-z0-9_-]+", built.key_header.name)
    assert {bool} == {type(built.supports_versions), type(built.supports_nodes)}


def test_a_dialect_that_it_does_not_know_is_refused(entry: EntryPoint) -> None:
    with pytest.raises(ValueError, match="dialect"):
        entry.load()("no-such-dialect")


def test_a_run_begins_with_one_unsafe_call_that_carries_the_input(entry: EntryPoint) -> None:
    """Starting a run is paid for: a call that starts one and says that it is safe would be made again."""
    call = start_call(entry, Run("name", input={"question": {"canary": [1, "ü"]}}))
    assert ("POST", False) == (call.method, call.safe)
    assert re.fullmatch(r"[a-z_]+", call.operation)
    assert json.dumps({"canary": [1, "ü"]}) in json.dumps(call.json)


@pytest.mark.parametrize(
    "name", ["../x", "%2e%2e%2f", "a/b", "a?x=1", "a#b", "a\r\nb", "a\x00b", "a b", "a\\b", "ü", "x" * 500, "..."]
)
def test_a_name_is_one_segment_of_the_path(entry: EntryPoint, name: str) -> None:
    """R61: whatever a workflow is called, it reaches the provider's workflows and nothing else."""
    plain, path = start_call(entry, Run("name")).path, start_call(entry, Run(name)).path
    assert re.fullmatch(r"/[A-Za-z0-9/_.~%?=&-]+", path)
    assert [plain.count(mark) for mark in "/?#"] == [path.count(mark) for mark in "/?#"]


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (401, Cause.CREDENTIALS),
        (403, Cause.CREDENTIALS),
        (404, Cause.NOT_FOUND),
        (429, Cause.THROTTLED),
        (502, Cause.GATEWAY_ERROR),
        (503, Cause.GATEWAY_ERROR),
    ],
)
@pytest.mark.parametrize("body", [UNREADABLE, {}, None, "no"])
def test_a_refused_start_is_a_fault_with_its_cause(
    entry: EntryPoint, status: int, cause: Cause, body: JsonValue
) -> None:
    """The cause decides whether a start may be repeated: it must be that of the status, whatever the body."""
    step = step_after_start(entry, Reply(status, body))
    assert isinstance(step, ProviderFault)
    assert cause is step.cause


@pytest.mark.parametrize("status", [200, 201, 202, 204, 301, 418])
def test_an_empty_answer_is_not_a_success(entry: EntryPoint, status: int) -> None:
    """R15: an unreadable answer never counts as a result, nor as a run that goes on."""
    assert isinstance(step_after_start(entry, Reply(status)), ProviderFault)


@pytest.mark.parametrize("reply", [Reply(200), Reply(200, "ok"), Reply(200, ["done"]), Reply(404, {}), Reply(500, {})])
def test_polling_is_safe_and_an_empty_poll_is_not_an_outcome(entry: EntryPoint, reply: Reply) -> None:
    """Where a run can be found again, asking starts nothing, and an answer without an outcome gives none."""
    steps = build_adapter(entry).follow("12345")
    if steps is None:
        return
    taken, outcome = drive(steps, [reply])
    assert {True} == {call.safe for call in calls(taken)}
    assert (True, None) == (isinstance(taken[-1], ProviderFault), outcome)


@settings(deadline=None)
@given(replies=st.lists(REPLIES, max_size=6))
def test_no_answer_raises_an_unexpected_error(entry: EntryPoint, replies: list[Reply]) -> None:
    """Whatever comes back, it takes a step, ends with an outcome, or refuses: nothing else is ever raised."""
    taken, _ = drive(build_adapter(entry).steps(Run("name")), replies)
    for step in taken:
        assert isinstance(step, Call | Pause | ProviderFault)
