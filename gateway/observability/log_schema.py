"""Schema of the log: every event and every field that a line can have. docs/logs.md is generated from it.

A field has one type and one meaning in every event, so that an index of log lines needs one mapping. Names of events
and fields are stable: dashboards and alerts depend on them. Tests hold this table equal to the calls in the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from gateway.observability.json_logging import LOG_LEVELS

FieldType: TypeAlias = Literal["text", "time", "integer", "number", "boolean", "list of texts"]
Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]


@dataclass(frozen=True, slots=True)
class LogField:
    """A field. `values`: all that it can have, if they are few. `nullable`: it may be null."""

    type: FieldType
    meaning: str
    values: tuple[str, ...] = ()
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event. Every line of it has `fields` and may have `optional`, beside those of every line."""

    level: Level | Literal["any"]
    meaning: str
    fields: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


COMMON_FIELDS = ("time", "level", "event")
"""Fields of every line."""
COMMON_OPTIONAL = ("worker",)
"""Fields that every line of a process has, or none."""
_EXCEPTION = ("exception", "places")

FIELDS: Mapping[str, LogField] = MappingProxyType(
    {
        "time": LogField("time", "When the line was written: RFC 3339, in UTC, with up to six decimals."),
        "level": LogField("text", "Level of the line.", ("debug", "info", "warning", "error", "critical")),
        "event": LogField("text", "Name of the event."),
        "worker": LogField("integer", "Number of the worker process, from 0 (`--workers`)."),
        "act": LogField("text", "Id of what was done; the same in its audit records."),
        "action": LogField("text", "What was done (audit.md)."),
        "actor": LogField(
            "text",
            "Name of the operations key, if it has one; or the issuer and the name of the person that has logged in; "
            "of an audit record as there.",
        ),
        "again_in": LogField("number", "Seconds until the next attempt."),
        "api": LogField("text", "API that the client used for the run.", ("run", "promptlayer", "prompt_studio")),
        "attempts": LogField("integer", "Starts that were attempted, of all workflows of the fallback chain."),
        "before": LogField("integer", "Value before the change."),
        "budget": LogField("text", "Name of the budget; that of a client of its own is `client:NAME`, and so on."),
        "client": LogField("text", "Name of the client in the configuration; empty if no key was recognised."),
        "clients": LogField("integer", "Number of configured clients."),
        "code": LogField("text", "Error code of the answer (errors.md)."),
        "content": LogField(
            "text", "Kind of the stored content.", ("order", "document", "callback", "response", "fingerprint")
        ),
        "exception": LogField("text", "Class of the exception; its text is never logged."),
        "exit_code": LogField(
            "integer", "Exit code of the process; negative: the signal. Null if it could not be started.", nullable=True
        ),
        "fault": LogField("text", "Cause of the fault, or error code; null without one.", nullable=True),
        "hash": LogField("text", "Hash of the audit record: 64 hexadecimal digits."),
        "ignored": LogField("integer", "Number of an issuer's keys that cannot be used."),
        "issuer": LogField("text", "Name of the issuer in the configuration."),
        "items": LogField("integer", "Number of items of the attention list."),
        "key_change": LogField("text", "What was done with the key.", ("created", "rotated", "revoked", "expiry_set")),
        "key_id": LogField("text", "Id of the stored key; not the key."),
        "keys": LogField("list of texts", "Ids of content keys, or of an issuer's public keys; not the keys."),
        "limit": LogField("integer", "Value that is in effect."),
        "logger": LogField("text", "Name of the library's logger; its message is never logged."),
        "mode": LogField("text", "Mode of the provider's starts.", ("suspended", "open", "closed", "auto")),
        "ms": LogField("number", "Milliseconds from the arrival of the request's header to the end of its answer."),
        "new_level": LogField("text", "Level of the log from now on.", LOG_LEVELS),
        "note": LogField("text", "Note that the operator gave."),
        "old_level": LogField("text", "Level of the log until now.", LOG_LEVELS),
        "ops_url": LogField("text", "Base URL of the operations port."),
        "outcome": LogField(
            "text",
            "Status of the run: its outcome, or `queued` or `running` while it has none.",
            ("queued", "running", "succeeded", "failed", "not_run", "unknown"),
        ),
        "peer": LogField("text", "Address of the client, as `server.trusted_proxies` defines it."),
        "phase": LogField(
            "text",
            "What was to be stored or read; of an adopted run, how far it had come.",
            (
                *("queued", "sending", "following", "done"),
                *("dropped", "callback", "history", "activity", "budgets"),
            ),
        ),
        "pid": LogField("integer", "Id of the process."),
        "places": LogField("list of texts", "Places in the code, or in the configuration with what is wrong there."),
        "provider": LogField("text", "Name of the provider in the configuration."),
        "provider_run_id": LogField("text", "Id of the run at the provider; null while none is known.", nullable=True),
        "providers": LogField("integer", "Number of configured providers."),
        "reason": LogField("text", "Why the content cannot be read, with the id of its key."),
        "receiver": LogField("text", "Host of a callback URL."),
        "refused": LogField("integer", "Number of runs that a replay did not start."),
        "replay": LogField("text", "Id of a replay of many runs."),
        "replicas": LogField("integer", "Number of replicas that share the limits."),
        "request_id": LogField("text", "Id of the request, as in the header field X-Request-Id of its answer."),
        "result": LogField(
            "text",
            "What became of the hint; of an audit record, how it ended.",
            ("genuine", "forged", "surplus", "not_told", "begun", "succeeded", "refused", "failed"),
        ),
        "role": LogField("text", "What an operations key permits.", ("viewer", "operator")),
        "route": LogField("text", "Name of the route, as in `runward_requests_total` (metrics.md)."),
        "run_id": LogField("text", "Id of the run; null where none is known.", nullable=True),
        "runs": LogField("integer", "Number of runs."),
        "sample_rate": LogField(
            "number",
            "Share of such lines that is written (`logs.sample`); the line stands for 1/`sample_rate` requests.",
        ),
        "sequence": LogField("integer", "Sequence number of the audit record."),
        "settings": LogField("list of texts", "Names of settings."),
        "settled_as": LogField(
            "text", "What became of a reserved amount: given back, spent, or it may be.", ("none", "spent", "unknown")
        ),
        "share": LogField("integer", "Per cent of the budget that is used (`warn_at`)."),
        "signal": LogField("text", "Name of the signal that was received."),
        "since": LogField("time", "Beginning of what an operation covers."),
        "span_id": LogField("text", "Span id of the request or run, with tracing: 16 hexadecimal digits."),
        "started": LogField("integer", "Number of runs that a replay started."),
        "state": LogField(
            "text",
            "State of a cancellation: `cancelled` before a start was sent; at the provider `stopping`, `not_stopped`, "
            "`not_yet`, `too_late`; of a replay of many runs: `done`, `aborted`.",
            ("cancelled", "stopping", "not_stopped", "not_yet", "too_late", "done", "aborted"),
        ),
        "status": LogField("integer", "HTTP status of the answer; 499 if the client disconnected before it."),
        "stored": LogField("boolean", "Whether the store has the end of the run."),
        "target": LogField("text", "Id or name of what was changed; may be empty."),
        "trace_id": LogField("text", "Trace id of the request's `traceparent`: 32 hexadecimal digits."),
        "url": LogField("text", "Base URL of the public port."),
        "verdict": LogField("text", "What the operator found.", ("found_paid", "found_not_run")),
        "waited_ms": LogField(
            "number", "Milliseconds of the run that were spent waiting for providers, limits, the store and back-off."
        ),
        "why": LogField(
            "text",
            "Reason: `missing`, `malformed`, `unknown`, `expired` of a refused key, of a stored one also `revoked`, "
            "`rotated` (a previous text, whose grace has ended), `no_client` (its client is not configured), "
            "`not_supported` (it was created by a later version); `token_` and a reason of a refused token "
            "(tokens.md); `operator`, `expired`, `configuration` of a changed level; else a text.",
        ),
        "workers": LogField("integer", "Number of worker processes."),
        "workflow": LogField("text", "Name of the workflow; `provider/name` where a client named it so."),
        "workflows": LogField("integer", "Number of configured workflows."),
    }
)

AUDIT_FIELDS = ("act", "action", "actor", "target", "result", "code", "request_id", "peer")
_RUN_OF_CLIENT = ("run_id", "workflow", "provider", "outcome")
_RUN = ("client", *_RUN_OF_CLIENT)

EVENTS: Mapping[str, LogEvent] = MappingProxyType(
    {
        "address_refused": LogEvent(
            "info", "A client used its key from an address that it may not.", ("request_id", "client", "peer")
        ),
        "adopted": LogEvent("info", "The process continues a run of another one.", ("run_id", "client", "phase")),
        "attention_announced": LogEvent("info", "The webhook of the attention list was called.", ("items",)),
        "attention_not_announced": LogEvent(
            "warning", "The webhook of the attention list did not take its items; it is called again.", ("items", "why")
        ),
        "audit_record": LogEvent("info", "An audit record was stored.", ("sequence", "hash", *AUDIT_FIELDS)),
        "audit_record_dropped": LogEvent(
            "error", "An audit record is not stored; this line is all there is of it.", ("why", *AUDIT_FIELDS)
        ),
        "audit_records_wait": LogEvent(
            "error", "Audit records cannot be stored, and wait for the store; logged once an outage.", ("why",)
        ),
        "budget_repaired": LogEvent(
            "warning", "A reservation that a process had left open was settled.", ("run_id", "settled_as")
        ),
        "budget_warning": LogEvent(
            "warning", "More of a budget is used than `warn_at` says; once in each window.", ("budget", "share")
        ),
        "bulk_replay_ended": LogEvent(
            "warning", "A replay of many runs has ended.", ("replay", "state"), ("actor", "started", "refused")
        ),
        "bulk_replay_started": LogEvent(
            "warning", "An operator started a replay of many runs.", ("replay", "runs"), ("actor",)
        ),
        "callback_given_up": LogEvent("warning", "A callback is not tried any more.", ("run_id", "client")),
        "callback_replayed": LogEvent("info", "An operator had a callback delivered again.", ("run_id",), ("actor",)),
        "callback_settled": LogEvent("info", "A callback was delivered, or its run is gone.", ("run_id",)),
        "callback_tested": LogEvent(
            "info", "An operator had a test message sent to a callback URL.", ("receiver", "why"), ("actor",)
        ),
        "callbacks_recovered": LogEvent(
            "warning",
            "An operator had all callbacks delivered again that were given up since a time.",
            ("since", "runs"),
            ("actor",),
        ),
        "cancel_sent": LogEvent(
            "info", "The provider was asked to stop a run.", ("run_id", "client", "provider", "state", "fault")
        ),
        "console_logged_in": LogEvent(
            "info", "An operator has logged in to the console.", ("request_id", "role"), ("actor",)
        ),
        "console_login_refused": LogEvent(
            "info", "A log-in to the console by OpenID Connect was refused (tokens.md).", ("request_id", "why", "peer")
        ),
        "content_keys_removed": LogEvent("warning", "Content keys were removed from the configuration.", ("keys",)),
        "content_unreadable": LogEvent(
            "error", "Stored content cannot be decrypted (operations.md).", ("run_id", "content", "reason")
        ),
        "daily_usage_not_written": LogEvent(
            "warning", "The daily usage of a client could not be stored; logged once an outage.", ("client", "why")
        ),
        "deadline_passed": LogEvent(
            "info",
            "The client's deadline has passed; the run is polled on.",
            ("run_id", "client"),
            ("trace_id", "span_id"),
        ),
        "descriptor_limit_raised": LogEvent(
            "info", "The process raised its limit of file descriptors.", ("before", "limit")
        ),
        "draining": LogEvent("info", "The graceful shutdown begins.", optional=("signal",)),
        "hint": LogEvent("debug", "A provider announced the end of a run.", ("result", "run_id")),
        "internal_error": LogEvent(
            "error", "A defect: please report it.", optional=("request_id", "run_id", *_EXCEPTION)
        ),
        "issuer_keys_changed": LogEvent("info", "The keys of an issuer are other ones.", ("issuer", "keys", "ignored")),
        "issuer_keys_not_fetched": LogEvent(
            "warning", "The keys of an issuer could not be fetched; logged once an outage.", ("issuer", "why")
        ),
        "key_changed": LogEvent(
            "warning",
            "An operator created or changed a stored key of a client.",
            ("key_id", "client", "key_change"),
            ("actor",),
        ),
        "key_refused": LogEvent(
            "info", "A request had no valid gateway key or token.", ("request_id", "why", "peer"), ("key_id",)
        ),
        "lease_lost": LogEvent(
            "warning", "Another process had adopted a run that ended here.", ("run_id", "outcome", "stored")
        ),
        "limits_local": LogEvent("warning", "The server of the limits is lost: local limits apply.", ("replicas",)),
        "limits_shared": LogEvent("info", "All replicas share the limits.", ("replicas",)),
        "listening": LogEvent("info", "The ports are open.", ("url", "ops_url"), ("workers",)),
        "log_level_changed": LogEvent(
            "warning", "The level of the log is another one (operations.md).", ("old_level", "new_level", "why")
        ),
        "needs_restart": LogEvent(
            "warning", "Changed settings take effect after a restart only (operations.md).", ("settings",)
        ),
        "not_followed": LogEvent(
            "warning", "A run is not polled on after its deadline, for too many are.", ("run_id", "client")
        ),
        "not_read": LogEvent("warning", "A callback could not be read from the store.", ("run_id", "phase")),
        "not_understood": LogEvent("error", "A stored run cannot be read by this version.", ("run_id", "client")),
        "not_watched": LogEvent("debug", "Files of the configuration are looked at in intervals instead."),
        "not_written": LogEvent("warning", "The store did not accept a change.", ("phase",), ("run_id",)),
        "operator_cancel_requested": LogEvent(
            "warning",
            "An operator cancelled a run, or asked for it.",
            ("run_id", "client", "workflow", "state"),
            ("actor",),
        ),
        "operator_run_started": LogEvent(
            "warning",
            "An operator started a run on behalf of a client.",
            ("run_id", "client", "workflow"),
            ("actor",),
        ),
        "ops_key_refused": LogEvent(
            "info", "A request to the operations port had no valid key.", ("request_id", "why", "peer")
        ),
        "provider_override_changed": LogEvent(
            "warning", "An operator changed the mode of a provider.", ("provider", "mode", "note"), ("actor",)
        ),
        "ready": LogEvent("info", "A worker process is ready.", ("pid",)),
        "reload_refused": LogEvent(
            "error", "The new configuration is invalid; the previous one stays in use.", optional=_EXCEPTION
        ),
        "reloaded": LogEvent("info", "The new configuration is in use.", ("providers", "workflows", "clients")),
        "request": LogEvent(
            "info",
            "A request was answered (access log). Requests with a run have its fields, those with an error its code.",
            ("request_id", "route", "client", "status", "ms"),
            (
                "actor",
                "code",
                "sample_rate",
                *_RUN_OF_CLIENT,
                "attempts",
                "provider_run_id",
                "api",
                "waited_ms",
                "trace_id",
                "span_id",
            ),
        ),
        "result_not_collected": LogEvent("warning", "No client fetched the result of a run (metrics.md).", _RUN),
        "run_ended": LogEvent(
            "info", "A run ended for which no request waited.", (*_RUN, "attempts"), ("trace_id", "span_id")
        ),
        "run_judged": LogEvent(
            "warning", "An operator recorded what became of an unknown run.", ("run_id", "verdict", "note"), ("actor",)
        ),
        "store_not_durable": LogEvent("warning", "What the store acknowledges may be lost in a crash.", ("why",)),
        "store_unavailable": LogEvent("warning", "A background task could not use the store; it tries again."),
        "third_party": LogEvent("any", "A library logged something.", ("logger",), _EXCEPTION),
        "unhandled": LogEvent("error", "An exception that no task handled: please report it.", optional=_EXCEPTION),
        "worker_ended": LogEvent(
            "error", "A worker process exited unexpectedly; it is replaced.", ("worker", "exit_code", "again_in")
        ),
    }
)
"""Every event by name."""
