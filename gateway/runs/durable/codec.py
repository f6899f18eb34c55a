"""Codec of stored runs: a run's specification as JSON, and the record of a run that the store returned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias, cast

from gateway.clock import Clock, format_rfc3339
from gateway.errors import RunCancelled
from gateway.json import strict_json
from gateway.runs.model import ApiName, RunRecord, RunSpec, always_connected
from gateway.runs.prices import cost_of
from gateway.store.records import Phase, RunOverview, StoredRun
from providers.contract import JsonValue

_FLAT_CONTEXT_KEYS = ("number", "all_outputs")
"""Keys of `RunSpec.client_context` that stand at the top level of the JSON, as every version stores them."""

_MAX_LISTED_METADATA = 8_192  # bytes of JSON
_MAX_LISTED_TEXT = 1_000  # characters
_DOCUMENT_DETAILS = ("warning", "cost", "finished_at", "duration_ms", "error")
_FACTS = frozenset({"api", "label", "version", "waits", "trace", "content", "team", "key", "price"})
"""Members of `StoredRun.details` for operators.

`waits` are seconds by cause, `trace` is the `traceparent`, `key` the id of a key of the store, `price` the
price of a start on the last workflow, in micros.
"""

ContentState: TypeAlias = Literal["kept", "too_large", "dropped"]
"""What became of the content of a recorded run whose content was to be kept."""


def encode_run(run: RunRecord, *, owner: str, leased_until_at: float, callback_url: str | None) -> StoredRun:
    """Return a new run as the store keeps it."""
    spec = run.spec
    created_at = run.created_at.timestamp()
    labels = labels_of(spec.metadata, spec.tags, spec.replay_of)
    return StoredRun(
        id=run.id,
        client=spec.client,
        workflow=spec.workflow,
        provider=run.provider,
        order=_encode_order(spec, run.provider, labels, redacted=False),
        created_at=created_at,
        deadline_at=created_at + spec.timeout,
        owner=owner,
        leased_until_at=leased_until_at,
        callback_url=callback_url,
        details=strict_json.write({**_bounded_labels(labels), **_facts(spec)}),
    )


def encode_order(spec: RunSpec, provider: str, *, redacted: bool = False) -> bytes:
    """Return `StoredRun.order`. `provider`: that of the requested workflow. `redacted`: its input has changed."""
    return _encode_order(spec, provider, labels_of(spec.metadata, spec.tags, spec.replay_of), redacted=redacted)


def _encode_order(spec: RunSpec, provider: str, labels: Mapping[str, Any], *, redacted: bool) -> bytes:
    return strict_json.write(
        {
            "timeout": spec.timeout,
            "input": spec.input,
            **labels,
            "label": spec.label,
            "version": spec.version,
            "return_all_outputs": spec.return_all_outputs,
            "traceparent": spec.traceparent,
            "waits": spec.synchronous,
            "face": spec.api,
            **_encode_context(spec.client_context),
            **({} if spec.start_before is None else {"start_before": spec.start_before}),
            **({} if spec.team is None else {"team": spec.team}),
            **({} if spec.key_id is None else {"key_id": spec.key_id}),
            **({} if spec.input_kept else {"input_kept": False}),
            "provider": provider,
            **({"redacted": True} if redacted else {}),
        }
    )


def encode_end_details(run: RunRecord, error: tuple[str, str | None] | None) -> bytes:
    """Return `StoredRun.details` of a durable run that has ended. `error`: as in `encode_record_details`."""
    details = _end_details(run, error)
    details["finished_at"] = run.finished_at and format_rfc3339(run.finished_at)
    details["duration_ms"] = round(run.duration * 1000)
    return strict_json.write(details)


def encode_record_details(
    run: RunRecord, error: tuple[str, str | None] | None, content: ContentState | None = None
) -> bytes:
    """Return `StoredRun.details` of a run in the history; its times are in the fields of the run.

    `error`: the code and the detail of the error that it ended with.
    """
    details = _end_details(run, error)
    if content is not None:
        details["content"] = content
    return strict_json.write(details)


def _end_details(run: RunRecord, error: tuple[str, str | None] | None) -> dict[str, Any]:
    """Return some members of the document of a run that has ended, without its times, and facts for operators."""
    spec, waits = run.spec, run.timeline.waits
    details = _bounded_labels(labels_of(spec.metadata, spec.tags, spec.replay_of))
    if run.warning is not None:
        details["warning"] = run.warning[:_MAX_LISTED_TEXT]
    if error is not None:
        details["error"] = {"code": error[0], "detail": error[1] and error[1][:_MAX_LISTED_TEXT]}
    if run.priced:
        details["cost"] = run.cost().document()
    details |= _facts(spec)
    if run.price is not None:
        details["price"] = run.price
    if waits is not None:
        details["waits"] = {cause: round(seconds, 3) for cause, seconds in waits.items()}
    if run.span is not None:
        details["trace"] = run.span.traceparent
    return details


def encode_success_details(run: RunRecord) -> bytes:
    """Return `encode_record_details` of a run that succeeded without content.

    Of most runs only the metadata are encoded, once: a third of the cost.
    """
    spec = run.spec
    if run.warning is None and run.timeline.waits is None and run.span is None and not spec.tags:
        metadata = strict_json.write(spec.metadata) if spec.metadata else b"{}"
        if len(metadata) <= _MAX_LISTED_METADATA:
            facts = spec.api, spec.label, spec.version, spec.team, spec.key_id, run.price, run.maybe_paid
            return b'{"metadata":%b,%b' % (metadata, _encoded_facts(facts))
    return encode_record_details(run, None)


@lru_cache(maxsize=1024)
def _encoded_facts(facts: tuple[ApiName, str | None, int | None, str | None, str | None, int | None, int]) -> bytes:
    """Return the JSON of the cost, the facts and the price of a run that succeeded, without its first character.

    `facts`: its API, label, version, team, key, price and `maybe_paid`: all that the JSON depends on.
    """
    api, label, version, team, key, price, maybe_paid = facts
    spec = RunSpec("", "", 0.0, label=label, version=version, api=api, team=team, key_id=key)
    cost = {} if price is None and not maybe_paid else {"cost": cost_of("succeeded", price, maybe_paid).document()}
    return strict_json.write({**cost, **_facts(spec), **({} if price is None else {"price": price})})[1:]


def encode_details(document: Mapping[str, Any]) -> bytes:
    """Return some members of the document of a run that has ended, bounded in size."""
    members = {name: document[name] for name in _DOCUMENT_DETAILS if name in document}
    warning, error = members.get("warning"), members.get("error")
    if isinstance(warning, str):
        members["warning"] = warning[:_MAX_LISTED_TEXT]
    if isinstance(error, dict) and isinstance(error.get("detail"), str):
        members["error"] = {**error, "detail": error["detail"][:_MAX_LISTED_TEXT]}
    labels = _bounded_labels(labels_of(document.get("metadata"), document.get("tags"), document.get("replay_of")))
    return strict_json.write({**labels, **members})


def decode_details(run: RunOverview) -> dict[str, JsonValue]:
    """Return the members of `details`: metadata unless large, tags, and after the end some members of the document."""
    details = strict_json.read(run.details) if run.details is not None else {}
    return details if isinstance(details, dict) else {}


def has_details(run: RunOverview) -> bool:
    """Return False if an earlier version wrote the state of the run, so that its details are missing or outdated."""
    if not run.durable:
        return True
    return run.details is not None and (run.phase is not Phase.DONE or "duration_ms" in decode_details(run))


def is_cancelled(run: RunOverview) -> bool:
    """Return whether the run has ended as cancelled, by its client or an operator."""
    if run.phase is not Phase.DONE or run.status != "not_run":
        return False
    error = decode_details(run).get("error")
    return isinstance(error, dict) and error.get("code") == RunCancelled.code


def cancelled_error(run: RunOverview) -> RunCancelled:
    """Return the error of a run that has ended as cancelled, as it was stored."""
    error = decode_details(run).get("error")
    detail = error.get("detail") if isinstance(error, dict) else None
    return RunCancelled(detail if isinstance(detail, str) else "")


def details_of_old_run(run: StoredRun) -> bytes:
    """Return the details of a run that was stored without them."""
    if run.document is None:
        return strict_json.write(_bounded_labels(stored_labels(run)))
    return encode_details(cast("dict[str, Any]", strict_json.read_stored(run.document)))


def public_details(details: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the members of `details` that are shown to clients."""
    return {name: value for name, value in details.items() if name not in _FACTS}


def _facts(spec: RunSpec) -> dict[str, Any]:
    """Return what operators search runs by, besides the fields of a stored run."""
    facts: dict[str, Any] = {"api": spec.api}
    if spec.label is not None:
        facts["label"] = spec.label
    if spec.version is not None:
        facts["version"] = spec.version
    if spec.team is not None:
        facts["team"] = spec.team
    if spec.key_id is not None:
        facts["key"] = spec.key_id
    return facts


def labels_of(metadata: object, tags: object, replay_of: object = None) -> dict[str, Any]:
    """Return the members of a document for the metadata of a run, for its tags if any, and for the run it replays."""
    labels = {"metadata": metadata}
    if tags:
        labels["tags"] = tags
    if replay_of is not None:
        labels["replay_of"] = replay_of
    return labels


def stored_labels(run: StoredRun) -> dict[str, JsonValue]:
    """Return the labels of a stored run, as `labels_of`."""
    spec = stored_spec(run)
    return labels_of(spec.get("metadata", {}), spec.get("tags"), spec.get("replay_of"))


def _bounded_labels(labels: dict[str, Any]) -> dict[str, Any]:
    """Leave out metadata that are large; the others are small."""
    if labels["metadata"] and len(strict_json.write(labels["metadata"])) > _MAX_LISTED_METADATA:
        del labels["metadata"]
    return labels


def unreadable_run(stored: StoredRun, clock: Clock) -> RunRecord:
    """Return a record of a run whose specification cannot be decoded: enough to end it."""
    spec = RunSpec(stored.client, stored.workflow, timeout=stored.deadline_at - stored.created_at)
    return _build_record(stored, spec, clock)


def decode_spec(stored: StoredRun) -> RunSpec:
    """Decode the specification.

    Raises TypeError, ValueError or KeyError if another version wrote it, and TypeError if its input was redacted.
    """
    fields = cast("dict[str, Any]", strict_json.read(stored.order))
    del fields["provider"]
    return RunSpec(
        client=stored.client,
        workflow=stored.workflow,
        synchronous=fields.pop("waits", True),
        api=fields.pop("face", "run"),
        tags=tuple(fields.pop("tags", ())),
        client_context=_pop_context(fields),
        **fields,
    )


def stored_spec(stored: StoredRun) -> dict[str, JsonValue]:
    """Return the JSON of the specification, or {} if it cannot be read: another version may have written it."""
    try:
        fields = strict_json.read(stored.order)
    except strict_json.NotJson:
        return {}
    return fields if isinstance(fields, dict) else {}


def content_state(run: RunOverview) -> ContentState | None:
    """Return what became of the content of a recorded run; None if it was not to be kept."""
    return cast("ContentState | None", decode_details(run).get("content"))


def is_redacted(stored: StoredRun) -> bool:
    """Return whether the input in the order is not the one that the run was given."""
    return stored_spec(stored).get("redacted") is True


def client_context(stored: StoredRun) -> dict[str, JsonValue]:
    """Return `RunSpec.client_context` of a stored run, or {} if it cannot be read."""
    return _pop_context(stored_spec(stored))


def same_spec(one: RunSpec, other: RunSpec) -> bool:
    """Return whether two requests ask for the same run; trace, deadline, key and connection may differ."""
    return _comparable(one) == _comparable(other)


def _comparable(spec: RunSpec) -> RunSpec:
    return replace(
        spec,
        timeout=0,
        traceparent="",
        team=None,
        key_id=None,
        key_limits=None,
        client_connected=always_connected,
    )


def decode_run(stored: StoredRun, clock: Clock) -> RunRecord:
    """Return the record of a stored run; its deadline is unchanged. Raises as `decode_spec`."""
    return _build_record(stored, decode_spec(stored), clock)


def _encode_context(context: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the members of the JSON that hold the client context."""
    if not context:
        return {}
    members = {name: value for name, value in context.items() if name in _FLAT_CONTEXT_KEYS}
    nested = {name: value for name, value in context.items() if name not in _FLAT_CONTEXT_KEYS}
    return {**members, "client_context": nested} if nested else members


def _pop_context(fields: dict[str, Any]) -> dict[str, JsonValue]:
    """Take the members that hold the client context out of the JSON."""
    nested = fields.pop("client_context", {})
    flat = {name: fields.pop(name) for name in _FLAT_CONTEXT_KEYS if name in fields}
    return {**flat, **nested}


def _build_record(stored: StoredRun, spec: RunSpec, clock: Clock) -> RunRecord:
    now, monotonic = clock.now().timestamp(), clock.monotonic()
    return RunRecord(
        id=stored.id,
        spec=spec,
        provider=stored.provider,
        created_at=datetime.fromtimestamp(stored.created_at, UTC),
        started_monotonic=monotonic - max(0.0, now - stored.created_at),
        deadline=monotonic + stored.deadline_at - now,
        start_by=spec.start_by(monotonic, now),
        attempts=stored.attempts,
        maybe_started=stored.phase > 0,
        provider_run_id=stored.provider_run_id,
    )
