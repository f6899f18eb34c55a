"""Contract test of adapters, as a class that pytest collects in a subclass."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, get_args
from urllib.parse import urlsplit

import pytest

from providers.contract import (
    MAX_NODE_NAME,
    MAX_NODES,
    UNREADABLE,
    Adapter,
    Call,
    Cause,
    JsonValue,
    NodeStatus,
    Pause,
    ProviderFault,
    Reply,
    Run,
    Step,
    Unreadable,
)
from providers.declarations import (
    AdapterFactory,
    InvalidOptions,
    UnknownDialect,
    accepts_release,
    build_adapter,
    can_cancel,
    cancel_steps,
    releases_of,
    request_headers_of,
    starts_of,
)
from providers.testing.driver import calls, drive

STATUSES = (200, 201, 202, 204, 301, 400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 502, 503, 504, 599)
"""Statuses of replies that an adapter is tried with."""
_WORDS = ("QUEUED", "SUCCESS", "done", "succeeded", "running", ".", "ü😀")
_MEMBERS = ("result", "status", "success", "state", "job", "data", "value", "outputs", "id", "run_id", "message")
_SCALARS: tuple[JsonValue, ...] = (None, True, -1, 2**70, 1.5, *_WORDS)
_HOSTILE_NAMES = ("../x", "%2e%2e%2f", "a/b", "a?x=1", "a#b", "a\r\nb", "a\x00b", "a b", "a\\b", "ü", "x" * 500, "...")


class AdapterContract:
    """Contract of one adapter. A subclass names the `factory`, and whatever else the adapter needs.

    Example::

        class TestDify(AdapterContract):
            factory = Dify
            options = {"user": "tests"}

    `before_start`: replies to the safe calls that precede the start, where there are any. `one_workflow`: the key
    selects the workflow, so its name is not sent. `run_id`: an id that `follow` and `cancel` accept.
    """

    factory: ClassVar[AdapterFactory]
    dialect: ClassVar[str | None] = None
    options: ClassVar[Mapping[str, JsonValue]] = {}
    before_start: ClassVar[Sequence[Reply]] = ()
    one_workflow: ClassVar[bool] = False
    run_id: ClassVar[str] = "12345"

    @classmethod
    def new_adapter(cls, dialect: str | None = None) -> Adapter:
        """Build the adapter as the gateway does."""
        return build_adapter(cls.factory, dialect or cls.dialect, cls.options)

    @classmethod
    def start_call(cls, run: Run) -> Call:
        """Return the call that starts a run."""
        steps, _ = drive(cls.new_adapter().steps(run), cls.before_start)
        unsafe = [call for call in calls(steps) if not call.safe]
        assert len(unsafe) == 1, "a run begins with exactly one unsafe call"
        return unsafe[0]

    @classmethod
    def step_after_start(cls, reply: Reply) -> Step | None:
        """Return the adapter's step after this reply to the start; None where the run ended with it."""
        steps, _ = drive(cls.new_adapter().steps(Run("name")), [*cls.before_start, reply])
        start = next(index for index, step in enumerate(steps) if isinstance(step, Call) and not step.safe)
        return steps[start + 1] if len(steps) > start + 1 else None

    def test_it_declares_its_base_url_and_key_header(self) -> None:
        """The base URL is https without a trailing slash, or None; the key's header name is a token."""
        adapter = self.new_adapter()
        if adapter.base_url is not None:
            parts = urlsplit(adapter.base_url)
            assert (parts.scheme, parts.query, parts.fragment) == ("https", "", "")
            assert parts.hostname
            assert not adapter.base_url.endswith("/")
        assert re.fullmatch(r"[A-Za-z0-9_-]+", adapter.key_header.name)
        assert bool is type(adapter.supports_versions)
        assert bool is type(adapter.supports_nodes)
        assert bool is type(getattr(adapter, "can_cancel", False))
        assert request_headers_of(adapter) is not None

    def test_it_accepts_its_dialects_and_no_other(self) -> None:
        """Each declared dialect can be built."""
        for dialect in getattr(self.factory, "dialects", ()):
            assert self.new_adapter(dialect) is not None
        with pytest.raises(UnknownDialect):
            self.new_adapter("no-such-dialect")

    def test_it_rejects_unknown_options(self) -> None:
        """A misspelled option is an error of the configuration, and not ignored."""
        with pytest.raises(InvalidOptions):
            build_adapter(self.factory, self.dialect, {**self.options, "no_such_option": "x"})

    def test_a_run_begins_with_one_unsafe_call_that_carries_the_input(self) -> None:
        """A start is paid for: a start that is declared safe would be repeated."""
        call = self.start_call(Run("name", input={"question": {"canary": [1, "ü"]}}))
        assert re.fullmatch(r"[a-z_]+", call.operation)
        assert not call.optional
        if call.json is not None:
            assert json.dumps({"canary": [1, "ü"]}) in json.dumps(call.json)
        else:
            assert "canary" in json.dumps([_pairs(call.form), _pairs(call.query)])

    def test_its_start_is_among_its_declared_starts(self) -> None:
        """`starts` keeps passthrough from starting runs; it must cover every start, and no poll."""
        starts = starts_of(self.new_adapter())
        assert starts, "declare which paths start runs: starts = ('POST /workflows/*/run',)"
        for name in ("name", *_HOSTILE_NAMES):
            call = self.start_call(Run(name))
            assert any(start.matches(call.method, _path(call)) for start in starts), call.path
        for call in self._polls():
            assert not any(start.matches(call.method, _path(call)) for start in starts), call.path

    @pytest.mark.parametrize("name", _HOSTILE_NAMES)
    def test_a_name_is_one_segment_of_the_path(self, name: str) -> None:
        """A name addresses one workflow of the provider, and nothing else."""
        plain, hostile = self.start_call(Run("name")).path, self.start_call(Run(name)).path
        assert re.fullmatch(r"/[A-Za-z0-9/_.~%?=&-]*", hostile)
        assert [plain.count(mark) for mark in "/?#"] == [hostile.count(mark) for mark in "/?#"]

    def test_the_start_names_the_workflow(self) -> None:
        """Two names start two workflows; `one_workflow` says that the key selects the workflow instead."""
        different = self.start_call(Run("one")) != self.start_call(Run("other"))
        assert different is not self.one_workflow

    def test_a_release_that_it_accepts_is_part_of_the_start(self) -> None:
        """A label or version is honoured, or declared as not accepted."""
        adapter, plain = self.new_adapter(), self.start_call(Run("name"))
        releases = (Run("name", label="production"), Run("name", version=3), Run("name", version="v-4c1"))
        for run in releases:
            if accepts_release(adapter, run.label, run.version):
                assert plain != self.start_call(run)
        assert adapter.supports_versions == bool(releases_of(adapter))

    def test_its_calls_set_declared_headers_only(self) -> None:
        """The gateway does not send a call with any other header."""
        allowed = request_headers_of(self.new_adapter())
        for call in (self.start_call(Run("name", notify_url="https://gateway.example/x")), *self._polls()):
            assert {name.lower() for name, _ in _pairs(call.headers)} <= allowed

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
    def test_a_rejected_start_is_a_fault_with_its_cause(self, status: int, cause: Cause, body: JsonValue) -> None:
        """The cause decides if a start is repeated: it follows from the status, whatever the body."""
        step = self.step_after_start(Reply(status, body))
        assert isinstance(step, ProviderFault)
        assert cause is step.cause

    @pytest.mark.parametrize("status", [200, 201, 202, 204, 301, 418])
    def test_an_empty_reply_to_the_start_is_a_fault(self, status: int) -> None:
        """An unreadable reply is neither a result nor a run that continues."""
        assert isinstance(self.step_after_start(Reply(status)), ProviderFault)

    @pytest.mark.parametrize(
        "reply", [Reply(200), Reply(200, "ok"), Reply(200, ["done"]), Reply(404, {}), Reply(500, {})]
    )
    def test_polls_are_safe_and_a_poll_without_an_outcome_has_none(self, reply: Reply) -> None:
        """If a run can be polled, polls start nothing, and a reply without an outcome is rejected."""
        steps = self.new_adapter().follow(self.run_id)
        if steps is None:
            return
        taken, outcome = drive(steps, [reply])
        assert {True} == {call.safe for call in calls(taken)}
        assert isinstance(taken[-1], ProviderFault)
        assert None is outcome

    def test_no_reply_raises_an_unexpected_error(self) -> None:
        """Each reply leads to a step, an outcome or a fault; nothing else is raised."""
        for body in _bodies():
            for first, second in itertools.product(STATUSES, (200, 202)):
                replies = [*self.before_start, Reply(first, body), Reply(second, body), Reply(200, body)]
                for step in drive(self.new_adapter().steps(Run("name")), replies)[0]:
                    assert isinstance(step, Call | Pause | ProviderFault)

    def test_the_nodes_of_a_run_in_progress_are_bounded(self) -> None:
        """A pause has at most 200 nodes, with names of at most 200 characters, and known statuses."""
        names = [*(f"node {number}" for number in range(300)), "x" * 1_000]
        for word in ("RUNNING", "running", "QUEUED", "SUCCESS", "succeeded"):
            nodes: dict[str, JsonValue] = {name: {"status": word} for name in names}
            bodies: tuple[JsonValue, ...] = (nodes, {"status": word, "nodes": nodes})
            for status, body in itertools.product((200, 202), bodies):
                steps = self.new_adapter().follow(self.run_id)
                for step in [] if steps is None else drive(steps, [Reply(status, body)])[0]:
                    if isinstance(step, Pause):
                        assert len(step.nodes) <= MAX_NODES
                        assert all(len(name) <= MAX_NODE_NAME for name in step.nodes)
                        assert set(step.nodes.values()) <= set(get_args(NodeStatus))

    def test_a_cancellation_is_safe_to_repeat_and_starts_nothing(self) -> None:
        """Its calls are safe, set declared headers, address one run, and are no starts; the run needs no pause."""
        adapter = self.new_adapter()
        assert can_cancel(adapter) == (cancel_steps(adapter, self.run_id) is not None)
        starts, allowed = starts_of(adapter) or (), request_headers_of(adapter)
        for run_id in (self.run_id, *_HOSTILE_NAMES):
            for call in self._cancel_calls(run_id):
                assert call.safe
                assert re.fullmatch(r"[a-z_]+", call.operation)
                assert re.fullmatch(r"/[A-Za-z0-9/_.~%?=&-]*", call.path)
                assert not any(start.matches(call.method, _path(call)) for start in starts), call.path
                assert {name.lower() for name, _ in _pairs(call.headers)} <= allowed
        if can_cancel(adapter):
            one, other = self._cancel_calls(self.run_id), self._cancel_calls(self.run_id + "0")
            assert one
            assert one != other, "two runs are stopped by two different calls"

    @pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
    def test_a_cancellation_that_the_provider_does_not_answer_is_a_fault(self, status: int) -> None:
        """It is neither accepted nor too late: the gateway may repeat it, and reports what it does not know."""
        bodies: tuple[JsonValue | Unreadable, ...] = (UNREADABLE, {}, None, "no")
        for body in bodies:
            steps = cancel_steps(self.new_adapter(), self.run_id)
            if steps is not None:
                taken, accepted = drive(steps, [Reply(status, body)])
                assert isinstance(taken[-1], ProviderFault)
                assert None is accepted

    def test_no_reply_to_a_cancellation_raises_an_unexpected_error(self) -> None:
        """Each reply leads to a call, a fault, or an answer; the run is not waited for."""
        for body, status in itertools.product(_bodies(), STATUSES):
            steps = cancel_steps(self.new_adapter(), self.run_id)
            if steps is not None:
                taken, accepted = drive(steps, [Reply(status, body)] * 5)
                assert all(isinstance(step, Call | ProviderFault) for step in taken)
                assert accepted in {True, False, None}

    def _cancel_calls(self, run_id: str) -> list[Call]:
        steps = cancel_steps(self.new_adapter(), run_id)
        return [] if steps is None else calls(drive(steps, [])[0])

    def _polls(self) -> list[Call]:
        steps = self.new_adapter().follow(self.run_id)
        return [] if steps is None else calls(drive(steps, [])[0])


def _path(call: Call) -> str:
    return call.path.partition("?")[0]


def _pairs(parameters: object) -> list[tuple[str, str]]:
    """Return the call's parameters as pairs."""
    if isinstance(parameters, Mapping):
        return list(parameters.items())
    return list(parameters) if isinstance(parameters, Sequence) else []


def _bodies() -> Iterator[JsonValue]:
    """Yield JSON documents of many shapes, the shapes of known providers among them."""
    yield from _SCALARS
    for scalar in _SCALARS:
        yield [scalar]
        for member in _MEMBERS:
            yield {member: scalar}
            yield {"data": {member: scalar}, "status": scalar, "success": True}
            yield {"node": {"status": scalar, "value": scalar, member: scalar}}
