"""Content of recorded runs: what is kept, redacted and dropped, and that nothing is kept by default."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import orjson
import structlog

from gateway.errors import ProviderError
from gateway.redaction import parse_redaction
from gateway.runs import history
from gateway.runs.durable import codec
from gateway.runs.history import HistoryConfig, HistoryRecorder
from gateway.runs.model import RunRecord, RunSpec
from gateway.runs.recorded_content import ContentConfig, ContentRule
from gateway.runs.rendering import run_document
from gateway.runs.run_reader import RunReader
from gateway.runs.timeline import decode_timeline
from gateway.store.records import StoredRun
from tests.runs.test_history import SlowStore
from tests.support.clock import ManualClock

if TYPE_CHECKING:
    from gateway.runs.catalog import Workflow
    from gateway.runs.recorded_content import KeepMode
    from providers.contract import JsonValue

DOCUMENT_OF_RUN = {"status": "succeeded", "attempts": 1, "metadata": {"ticket": "4711"}, "tags": ["a"]}


class Recording:
    """A recorder with its store; `dropped` counts records, `contents_dropped` contents."""

    def __init__(self, default: ContentRule, **workflows: ContentRule) -> None:
        self.clock = ManualClock()
        self.store = SlowStore(self.clock)
        self.dropped = self.contents_dropped = 0
        config = HistoryConfig("all", 1e6, 1000, ContentConfig(default, workflows))
        log = structlog.get_logger()
        self.recorder = HistoryRecorder(self.store, self.clock, log, self._drop, config, self._drop_content)
        self.reader = RunReader(self.store, self.clock)

    def _drop(self, count: int) -> None:
        self.dropped += count

    def _drop_content(self, count: int) -> None:
        self.contents_dropped += count

    def end_run(
        self,
        error: ProviderError | None = None,
        *,
        workflow: str = "triage",
        given: JsonValue = "CANARY-in",
        output: JsonValue = "CANARY-out",
        all_outputs: bool = False,
    ) -> RunRecord:
        """Record a run as the handler of `POST /run` does."""
        spec = RunSpec("one", workflow, 60.0, {"q": given}, {"ticket": "4711"}, ("a",), return_all_outputs=all_outputs)
        requested = cast("Workflow", SimpleNamespace(alias=workflow, provider=SimpleNamespace(name="studio")))
        content = self.recorder.hold_content(requested, len(orjson.dumps(given)))
        run = RunRecord.create(spec, "fallback", self.clock)
        run.attempts = 1
        if error is None:
            run.output = output
            if all_outputs:
                run.outputs = {}
        run.finish("succeeded" if error is None else error.ending, self.clock)
        if error is None and content is not None:
            content.answer = orjson.dumps(run_document(run))
        self.recorder.record(run, error, content)
        return run

    async def write(self) -> None:
        await self.store.open()
        await self.recorder.write_pending()

    async def stored(self, run: RunRecord) -> StoredRun | None:
        return await self.store.get_run(run.id)

    async def view(self, run: RunRecord) -> dict[str, JsonValue]:
        """Return what `GET /runs/{id}` shows."""
        found = await self.reader.find(run.id)
        assert found is not None
        shown: dict[str, JsonValue] = orjson.loads(await self.reader.view(found) or b"")
        return shown


def failure(ending: str = "failed") -> ProviderError:
    return ProviderError("upstream_error", "It failed.", ending=ending)  # type: ignore[arg-type]  # one of its values


async def test_a_run_is_stored_as_a_durable_one_would_be() -> None:
    recording = Recording(ContentRule("all", retention=60.0))
    run = recording.end_run()
    await recording.write()
    stored = await recording.stored(run)
    assert stored is not None
    spec = codec.decode_spec(stored)
    assert ({"q": "CANARY-in"}, {"ticket": "4711"}, ("a",), True) == (
        spec.input,
        spec.metadata,
        spec.tags,
        spec.synchronous,
    )
    assert ("studio", False, False) == (
        codec.stored_spec(stored)["provider"],
        stored.durable,
        codec.is_redacted(stored),
    )
    shown = await recording.view(run)
    assert {**DOCUMENT_OF_RUN, "output": "CANARY-out"}.items() <= shown.items()
    assert {"output_kept", "content"}.isdisjoint(shown)
    await recording.recorder.purge()
    assert await recording.stored(run) is not None
    recording.clock.advance(60.1)
    await recording.recorder.purge()
    assert await recording.stored(run) is None
    shown = await recording.view(run)  # the record stays
    assert {**DOCUMENT_OF_RUN, "output": None, "output_kept": False}.items() <= shown.items()


async def test_which_runs_are_kept() -> None:
    expected: dict[KeepMode, list[bool]] = {
        "none": [False, False, False, False],
        "failed": [False, True, True, False],
        "all": [True, True, True, True],
    }
    for keep, kept in expected.items():
        recording = Recording(ContentRule(keep))
        runs = [recording.end_run(), *(recording.end_run(failure(end)) for end in ("failed", "unknown", "not_run"))]
        await recording.write()
        assert kept == [await recording.stored(run) is not None for run in runs], keep


async def test_the_document_of_a_failed_run_has_its_error() -> None:
    recording = Recording(ContentRule("failed"))
    run = recording.end_run(failure("unknown"), all_outputs=True)
    await recording.write()
    shown = await recording.view(run)
    assert ("unknown", None, {"code": "upstream_error", "detail": "It failed."}) == (
        shown["status"],
        shown["output"],
        shown["error"],
    )
    assert "output_kept" not in shown


async def test_a_sample_is_decided_at_the_start() -> None:
    """It does not depend on the end of the run."""
    recording = Recording(ContentRule("sampled", sample=0.3))
    runs = [recording.end_run(failure() if number % 2 else None) for number in range(300)]
    await recording.write()
    kept = [await recording.stored(run) is not None for run in runs]
    assert 60 <= sum(kept) <= 120
    assert any(kept[::2])
    assert any(kept[1::2])


async def test_a_workflow_may_have_a_rule_of_its_own() -> None:
    recording = Recording(ContentRule("all"), secret=ContentRule("none"), brief=ContentRule("all", retention=1.0))
    runs = [recording.end_run(workflow=name) for name in ("triage", "secret", "brief", "studio/direct")]
    await recording.write()
    assert [True, False, True, True] == [await recording.stored(run) is not None for run in runs]
    recording.clock.advance(2.0)
    await recording.recorder.purge()
    assert [True, False, False, True] == [await recording.stored(run) is not None for run in runs]


async def test_nothing_is_held_or_stored_by_default() -> None:
    """R95: a run is recorded without its input and output, and its memory is free from its end on."""
    recording = Recording(ContentRule())
    run = recording.end_run()
    assert ({}, None) == (run.spec.input, run.output)
    await recording.write()
    found = await recording.reader.find(run.id)
    timeline = await recording.store.get_timeline(run.id)
    assert found is not None
    assert b"CANARY" not in (found.details or b"") + (timeline or b"")
    assert (None, None) == (await recording.stored(run), await recording.store.get_document(run.id))
    assert b"CANARY" not in repr(vars(recording.store)).encode()


async def test_without_a_record_there_is_no_content() -> None:
    recording = Recording(ContentRule("all"))
    recording.recorder.reconfigure(HistoryConfig("kept", content=ContentConfig(ContentRule("all"))))
    recording.end_run()
    await recording.write()
    assert [] == recording.store.groups


async def test_redaction_is_before_the_store() -> None:
    redaction = parse_redaction(["/input/q/name", "/output/rows/*/id", "email"])
    recording = Recording(ContentRule("all", redaction=redaction))
    given: JsonValue = {"name": "CANARY", "text": "from CANARY@example.com", "n": 1}
    output: JsonValue = {"rows": [{"id": "CANARY", "n": 2}]}
    run = recording.end_run(given=given, output=output, all_outputs=True)
    await recording.write()
    assert "CANARY" not in repr(vars(recording.store))
    stored = await recording.stored(run)
    assert stored is not None
    assert codec.is_redacted(stored)
    assert {"q": {"name": "[redacted]", "text": "from [redacted]", "n": 1}} == codec.stored_spec(stored)["input"]
    shown = await recording.view(run)
    assert {"rows": [{"id": "[redacted]", "n": 2}]} == shown["output"]
    assert DOCUMENT_OF_RUN.items() <= shown.items()
    assert "outputs" not in shown


async def test_a_redacted_order_is_never_taken_for_the_request() -> None:
    """Reading it as one fails, so that it cannot start a run with another input; one without a change is whole."""
    recording = Recording(ContentRule("all", redaction=parse_redaction(["email", "/output"])))
    redacted, whole = recording.end_run(given="a@b.example"), recording.end_run(given="no address")
    await recording.write()
    for run, expected in ((redacted, True), (whole, False)):
        stored = await recording.stored(run)
        assert stored is not None
        assert expected == codec.is_redacted(stored)
        try:
            assert {"q": "no address"} == codec.decode_spec(stored).input
        except TypeError:
            assert expected
        else:
            assert not expected
        assert "[redacted]" == (await recording.view(run))["output"]


async def test_larger_content_is_left_out_and_marked() -> None:
    recording = Recording(ContentRule("all", most=2_000))
    large, grown, small = (recording.end_run(given="x" * size) for size in (2_000, 1_700, 100))
    await recording.write()
    assert {"output": None, "output_kept": False, "content": "too_large"}.items() <= (
        await recording.view(large)
    ).items()
    assert "too_large" == (await recording.view(grown))["content"]  # with its metadata
    assert "CANARY-out" == (await recording.view(small))["output"]
    assert ({}, 0) == (large.spec.input, recording.contents_dropped)


async def test_redaction_cannot_make_content_larger_than_the_bound() -> None:
    recording = Recording(ContentRule("all", most=4_000, redaction=parse_redaction([{"pattern": "x"}])))
    run = recording.end_run(given="x" * 1_000)
    await recording.write()
    assert "too_large" == (await recording.view(run))["content"]


async def test_content_is_dropped_before_records_are() -> None:
    """While the store is unavailable, the memory for content is bounded; each run is recorded all the same."""
    recording = Recording(ContentRule("all", most=100_000))
    await recording.store.open()
    recording.store.unavailable = True
    count = history._MAX_PENDING_CONTENT // 60_000 + 50
    runs = [recording.end_run(given="x" * 60_000) for _ in range(count)]
    dropped = recording.contents_dropped
    assert 50 <= dropped < 60
    assert {} == runs[-1].spec.input
    await recording.recorder.write_pending()
    await recording.recorder.write_pending()
    recording.store.unavailable = False
    await recording.recorder.write_pending()
    assert (0, dropped) == (recording.dropped, recording.contents_dropped)
    assert "CANARY-out" == (await recording.view(runs[0]))["output"]
    shown = await recording.view(runs[-1])
    assert (False, False) == (shown["output_kept"], "content" in shown)
    assert "CANARY-out" == (await recording.view(await _next_run(recording)))["output"]  # there is room again


async def _next_run(recording: Recording) -> RunRecord:
    run = recording.end_run()
    await recording.recorder.write_pending()
    return run


async def test_groups_are_bounded_in_bytes() -> None:
    recording = Recording(ContentRule("all", most=100_000))
    for _ in range(40):
        recording.end_run(given="x" * 60_000)
    await recording.write()
    assert (40, 17) == (sum(recording.store.groups), max(recording.store.groups))


async def test_a_timeline_survives_an_unavailable_store() -> None:
    """What was encoded for a write that failed is written later as it is."""
    recording = Recording(ContentRule("all"))
    await recording.store.open()
    recording.store.unavailable = True
    run = recording.end_run()
    run.timeline.add(run.started_monotonic, "adopted", "one")
    await recording.recorder.write_pending()
    recording.store.unavailable = False
    await recording.recorder.write_pending()
    assert ["adopted", "ended"] == [
        event["event"] for event in decode_timeline(await recording.store.get_timeline(run.id) or b"")
    ]
    assert "CANARY-out" == (await recording.view(run))["output"]


async def test_content_that_cannot_be_encoded_costs_no_record() -> None:
    recording = Recording(ContentRule("all", redaction=parse_redaction(["email"])))
    run = recording.end_run()
    _, _, content = recording.recorder._pending_content[-1]
    content.answer = b"no JSON"
    await recording.write()
    assert (1, False) == (recording.contents_dropped, (await recording.view(run))["output_kept"])
