"""Prometheus metrics of the gateway.

Labels are names of the configuration and constants of the code, never text of a client or provider. The number of
series is therefore bounded by the configuration.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from importlib.metadata import version
from types import MappingProxyType

from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway.observability.access_metrics import AccessMetrics
from gateway.observability.metric_types import (
    CountGauge,
    ExemplarsByBucket,
    SeriesValues,
)
from gateway.observability.money_metrics import MoneyMetrics
from gateway.problems import fault_of
from providers.contract import Cause

_VERSION = version("runward")
TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = openmetrics.CONTENT_TYPE_LATEST
# Seconds. A run takes milliseconds to many minutes; the overhead of the gateway starts at microseconds.
RUN_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Metrics(AccessMetrics, MoneyMetrics):
    """All metrics, on a registry of their own. One method for each event.

    `in_progress`: number of runs in progress by provider, as labels; counted without a call, for each run twice.
    """

    def __init__(self) -> None:
        super().__init__()
        self._requests = self._counter("requests", "Requests answered, by route and status.", "route", "status")
        self._refusals = self._counter(
            "refusals", "Requests answered with an error, by client and code.", "client", "code"
        )
        self._runs = self._counter(
            "runs", "Runs that ended, by how they ended.", "client", "workflow", "provider", "outcome", "api"
        )
        self._run_errors = self._counter(
            "run_errors",
            "Runs that did not succeed and requests for runs that were refused, by code and fault.",
            "provider",
            "code",
            "fault",
        )
        self._followed_runs = self._counter(
            "followed_runs",
            "Runs that ended after their deadline had passed, by how they ended.",
            "provider",
            "outcome",
        )
        self._uncollected_results = self._counter(
            "uncollected_results", "Runs of PromptLayer's API whose result no client fetched.", "provider"
        )
        self._unreadable_content = self._counter(
            "unreadable_content", "Reads of stored content that could not be decrypted.", "content"
        )
        self._calls = self._counter(
            "upstream_calls", "Calls to providers, and how they ended.", "provider", "operation", "result"
        )
        self._refused_replies = self._counter(
            "refused_replies", "Replies of providers that the adapter rejected.", "provider", "operation", "cause"
        )
        self._retries = self._counter("retries", "Retries of calls, by cause.", "provider", "operation", "cause")
        self._fallbacks = self._counter("fallbacks", "Runs that fell back to another workflow.", "workflow", "fallback")
        self._callbacks = self._counter("callbacks", "Delivery attempts of callbacks, by result.", "result")
        self._callbacks_given_up = self._counter("callbacks_given_up", "Callbacks that were abandoned.")
        self._hints = self._counter("hints", "End-of-run notifications (hints) received from providers.", "result")
        self._hints_used = self._counter("hints_used", "Hints that triggered a poll at once.")
        self._decisions = self._counter("limiter_decisions", "Decisions of the limits, by scope.", "scope", "decision")
        self._workers_lost = self._counter("workers_lost", "Worker processes that exited unexpectedly.")
        self._log_lines_dropped = self._counter(
            "log_lines_dropped", "Log lines dropped: standard output was not read in time, or failed."
        )
        self._log_lines_dropped.counts[()] = 0
        self._history_dropped = self._counter(
            "history_dropped", "Records of runs dropped: the store was slow or unavailable."
        )
        self._history_dropped.counts[()] = 0
        self._history_content_dropped = self._counter(
            "history_content_dropped", "Records of runs that were written without the content that was to be kept."
        )
        self._history_content_dropped.counts[()] = 0
        self._run_duration = self._histogram(
            "run_duration", "Duration of a run, from the arrival of its request.", RUN_BUCKETS, "workflow", "provider"
        )
        self._call_duration = self._histogram(
            "upstream_call_duration", "Duration of calls to providers.", RUN_BUCKETS, "provider", "operation"
        )
        self._overhead = self._histogram(
            "overhead",
            "Gateway overhead: run duration without the wait for providers, limits and backoff.",
            OVERHEAD_BUCKETS,
        )
        self._in_progress = CountGauge(
            "runward_runs_in_progress", "Runs in progress at a provider: being started, or started.", ("provider",)
        )
        self.registry.register(self._in_progress)
        self._families[self._in_progress.name] = self._in_progress
        self.in_progress = self._in_progress.counts
        self._in_flight = self._gauge("requests_in_flight", "Requests in flight.")
        self._bytes_in_flight = self._gauge(
            "bytes_in_flight", "Bytes held for requests and answers; server.max_bytes_in_flight bounds them."
        )
        self._store_available = self._gauge(
            "store_available", "1 if the store works; 0 while its last operation failed, or its data were replaced."
        )
        self._store_durable = self._gauge("store_durable", "1 if acknowledged writes of the store are durable.")
        self._circuits = self._gauge(
            "circuit_state", "1 for the state of the circuit of a workflow.", "provider", "workflow", "state"
        )
        self._overrides = self._gauge(
            "provider_override", "1 for what an operator has set for the starts of a provider.", "provider", "mode"
        )
        self._attention = self._gauge("attention_items", "Items that need an operator, by kind.", "kind")
        self._limits_shared = self._gauge(
            "limits_shared", "1 if limits are shared by all replicas; 0 while local limits apply."
        )
        self._reloads = self._counter("config_reloads", "Hot reloads of the configuration, by result.", "result")
        self._reload_success = self._gauge(
            "config_last_reload_success", "1 if the configuration on disk is in use, 0 if it was refused."
        )
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "Unix time at which the configuration in use was loaded."
        )
        self._reload_success.set(1)
        build = self._gauge("build_info", "Always 1.", "version", "python")
        build.labels(_VERSION, platform.python_version()).set(1)

    def track_store_durability(self, get_warning: Callable[[], str | None]) -> None:
        """Set the callback that returns the durability warning of the store; called when metrics are rendered."""
        self._store_durable.set_function(lambda: get_warning() is None)

    def track_store_availability(self, is_failing: Callable[[], bool]) -> None:
        """Set the callback that returns True while the store fails; called when metrics are rendered."""
        self._store_available.set_function(lambda: not is_failing())

    def track_in_flight(self, count: Callable[[], int]) -> None:
        """Set the callback that returns the number of requests in flight; called when metrics are rendered."""
        self._in_flight.set_function(count)

    def track_bytes_in_flight(self, count: Callable[[], int]) -> None:
        """Set the callback that returns the bytes in flight; called when metrics are rendered."""
        self._bytes_in_flight.set_function(count)

    def request_ended(self, route: str, status: int) -> None:
        """Count a response."""
        self._requests.counts[route, str(status)] += 1

    def request_refused(self, client: str, code: str) -> None:
        """Count an error response; `client` is "" for an unknown client."""
        self._refusals.counts[client, code] += 1

    def history_dropped(self, count: int) -> None:
        """Count records of runs that were dropped."""
        self._history_dropped.counts[()] += count

    def history_content_dropped(self, count: int) -> None:
        """Count records of runs whose content was dropped."""
        self._history_content_dropped.counts[()] += count

    def run_ended(self, client: str, workflow: str, provider: str, outcome: str, *, api: str = "run") -> None:
        """Count the end of a run: succeeded, failed, unknown or not_run. `api`: the API that the client used."""
        self._runs.counts[client, workflow, provider, outcome, api] += 1

    def run_error(self, provider: str, code: str) -> None:
        """Count a run that did not succeed, by the code of its error; `provider` is "" if there was no run."""
        self._run_errors.counts[provider, code, fault_of(code)] += 1

    def result_not_collected(self, provider: str) -> None:
        """Count a run whose result no client has fetched."""
        self._uncollected_results.counts[provider,] += 1

    def content_unreadable(self, content: str) -> None:
        """Count a read of content that could not be decrypted: order, document, callback, response, fingerprint."""
        self._unreadable_content.counts[content,] += 1

    def followed_run_ended(self, provider: str, outcome: str) -> None:
        """Count the end of a run that was polled on after its deadline."""
        self._followed_runs.counts[provider, outcome] += 1

    def observe_run_duration(self, workflow: str, provider: str, seconds: float, overhead: float) -> None:
        """Observe the duration of a run, and its part in the gateway, in seconds."""
        self._run_duration.observe((workflow, provider), seconds)
        self._overhead.observe((), overhead)

    def run_traced(self, workflow: str, provider: str, seconds: float, trace_id: str, now: datetime) -> None:
        """Keep the trace of a run whose duration was observed, as the exemplar of its bucket."""
        self._run_duration.set_exemplar((workflow, provider), seconds, trace_id, now.timestamp())

    def call_ended(self, provider: str, operation: str, result: str, seconds: float) -> None:
        """Count a call to a provider: `result` is "ok", the cause of its fault, or "given_up" if it was cancelled."""
        self._calls.counts[provider, operation, result] += 1
        self._call_duration.observe((provider, operation), seconds)

    def reply_refused(self, provider: str, operation: str, cause: str) -> None:
        """Count a reply that the adapter rejected."""
        self._refused_replies.counts[provider, operation, cause] += 1

    def call_retried(self, provider: str, operation: str, cause: str) -> None:
        """Count a retry of a call."""
        self._retries.counts[provider, operation, cause] += 1

    def run_fell_back(self, workflow: str, fallback: str) -> None:
        """Count a fallback to another workflow."""
        self._fallbacks.counts[workflow, fallback] += 1

    def track_circuit(self, provider: str, workflow: str) -> Callable[[str], None]:
        """Add a circuit breaker in state closed; returns the function that sets its state."""
        children = {
            state: self._circuits.labels(provider, workflow, state) for state in ("closed", "open", "half_open")
        }

        def set_state(state: str) -> None:
            for name, child in children.items():
                child.set(name == state)

        set_state("closed")
        return set_state

    def circuit_states(self) -> dict[str, dict[str, str]]:
        """Return the state of each circuit by provider and workflow; of several workers, the worst: open, half open."""
        states: dict[str, dict[str, str]] = {}
        values = self._circuits.export()
        for worst in ("closed", "half_open", "open"):
            for (provider, workflow, state), (value,) in values.items():
                if value and state == worst:
                    states.setdefault(provider, {})[workflow] = state
        return states

    def gauge(self, name: str) -> float | None:
        """Return the value of a gauge without labels; None if it is not known here."""
        family = self._families.get(name)
        return None if family is None else family.export()[()][0]

    def issuer_keys(self) -> dict[str, tuple[float, int]]:
        """Return by issuer when its keys were fetched last (0: never), and the number of failed fetches."""
        failed = {issuer: int(n) for (issuer, how), (n,) in self._issuer_fetches.export().items() if how == "failed"}
        return {issuer: (at, failed.get(issuer, 0)) for (issuer,), (at,) in self._issuer_keys.export().items()}

    def refused_credentials(self) -> dict[str, int]:
        """Return the number of replies that refused the key of a provider, by provider."""
        counts: defaultdict[str, int] = defaultdict(int)
        for (provider, _, cause), (count,) in self._refused_replies.export().items():
            if cause == Cause.CREDENTIALS.value:
                counts[provider] += int(count)
        return dict(counts)

    def dropped_records(self) -> int:
        """Return the number of records of runs that were dropped."""
        return int(sum(self._history_dropped.counts.values()))

    def unreadable_reads(self) -> int:
        """Return the number of reads of stored content that could not be decrypted."""
        return int(sum(count for (count,) in self._unreadable_content.export().values()))

    def attention_found(self, counts: Mapping[str, int]) -> None:
        """Set the number of items that need an operator, by kind; a kind that is left out keeps its number."""
        for kind, count in counts.items():
            self._attention.labels(kind).set(count)

    def provider_overridden(self, provider: str, mode: str | None) -> None:
        """Set the override of a provider: suspended, open or closed; None: it has none."""
        for each in ("suspended", "open", "closed"):
            self._overrides.labels(provider, each).set(each == mode)

    def callback_attempted(self, result: str) -> None:
        """Count a delivery attempt: `result` is 2xx to 5xx, or a `DeliveryFault`."""
        self._callbacks.counts[(result,)] += 1

    def callback_given_up(self) -> None:
        """Count a callback that was abandoned (dead letter)."""
        self._callbacks_given_up.counts[()] += 1

    def config_loaded(self, now: datetime) -> None:
        """Record the load of the configuration in use."""
        self._reload_success.set(1)
        self._reloaded_at.set(now.timestamp())

    def config_reloaded(self, now: datetime) -> None:
        """Count a hot reload that was applied."""
        self._reloads.counts[("applied",)] += 1
        self.config_loaded(now)

    def config_reload_refused(self) -> None:
        """Count a hot reload that was refused; the configuration before stays in use."""
        self._reloads.counts[("refused",)] += 1
        self._reload_success.set(0)

    def hint_received(self, result: str) -> None:
        """Count an end-of-run notification of a provider: `result` is genuine, or the reason for its rejection."""
        self._hints.counts[(result,)] += 1

    def hint_used(self) -> None:
        """Count a notification that triggered a poll."""
        self._hints_used.counts[()] += 1

    def limit_decided(self, scope: str, decision: str) -> None:
        """Count a decision of a rate or concurrency limit: admitted, queued or refused."""
        self._decisions.counts[scope, decision] += 1

    def worker_lost(self) -> None:
        """Count a worker process that exited unexpectedly."""
        self._workers_lost.counts[()] += 1

    def log_lines_dropped(self, count: int) -> None:
        """Count log lines that could not be written."""
        self._log_lines_dropped.counts[()] += count

    def export(self) -> dict[str, SeriesValues]:
        """Return all values by family, to be merged in another process."""
        return {name: family.export() for name, family in self._families.items()}

    def export_exemplars(self) -> ExemplarsByBucket:
        """Return the exemplars of the duration of runs, to be merged in another process."""
        return self._run_duration.exemplars

    def read(self, names: Collection[str]) -> dict[str, SeriesValues]:
        """Return the values of some families by name; those that are not known are left out."""
        return {name: self._families[name].export() for name in names if name in self._families}

    @classmethod
    def from_export(
        cls, exported: Mapping[str, SeriesValues], exemplars: ExemplarsByBucket = MappingProxyType({})
    ) -> Metrics:
        """Return metrics with these values only; an unknown family is left out."""
        metrics = cls()
        metrics._run_duration.exemplars.update(exemplars)
        for name, family in list(metrics._families.items()):
            if name in exported:
                family.restore(exported[name])
            else:  # an unknown gauge is not 0
                metrics.registry.unregister(family)
                del metrics._families[name]
        return metrics

    def set_limits_shared(self, shared: int) -> None:
        """Set 1 if limits are shared by all replicas; 0 while the server is unreachable and local limits apply."""
        self._limits_shared.set(shared)

    def render(self) -> bytes:
        """Return the text exposition. Takes about 20 ms per 1 000 series: not for the event loop."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """The OpenMetrics exposition, at the same cost."""
        exposition: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return exposition
