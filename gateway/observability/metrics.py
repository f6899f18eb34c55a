"""Everything that is counted, each in one place.

Labels hold names from the configuration and words from our own tables, never what a client or provider sent, so the
number of series is bounded by the configuration.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from datetime import datetime
from importlib.metadata import version

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from gateway.observability.collectors import Counter, ExportableGauge, Histogram, SeriesValues

TEXT_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_CONTENT_TYPE = openmetrics.CONTENT_TYPE_LATEST
# A run lasts from milliseconds to many minutes; what the gateway adds itself lasts from microseconds on.
_RUN_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_OVERHEAD_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)


class Metrics:
    """The counters, on a registry of their own. The methods are named by what happened."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, Counter | Histogram | ExportableGauge] = {}
        self._requests = self._counter("requests", "Requests answered, by route and status.", "route", "status")
        self._refusals = self._counter("refusals", "Requests answered with a problem.", "client", "code")
        self._runs = self._counter(
            "runs", "Runs that ended, by how they ended.", "client", "workflow", "provider", "outcome", "api"
        )
        self._calls = self._counter(
            "upstream_calls", "Calls to providers, and how they ended.", "provider", "operation", "result"
        )
        self._refused_replies = self._counter(
            "refused_replies", "Answers that said no, or made no sense.", "provider", "operation", "cause"
        )
        self._retries = self._counter("retries", "Calls made again, by why.", "provider", "operation", "cause")
        self._fallbacks = self._counter("fallbacks", "Runs handed on to another workflow.", "workflow", "fallback")
        self._callbacks = self._counter("callbacks", "Callbacks tried, by what the receiver did.", "result")
        self._callbacks_given_up = self._counter("callbacks_given_up", "Callbacks that were given up.")
        self._hints = self._counter("hints", "Hints that came from providers.", "result")
        self._hints_used = self._counter("hints_used", "Hints on which a run was asked about at once.")
        self._decisions = self._counter("limiter_decisions", "What the limits decided.", "scope", "decision")
        self._workers_lost = self._counter("workers_lost", "Worker processes that ended untold, and were replaced.")
        self._run_duration = self._histogram(
            "run_duration", "From the request's arrival to the end of its run.", _RUN_BUCKETS, "workflow", "provider"
        )
        self._call_duration = self._histogram(
            "upstream_call_duration", "How long calls to providers took.", _RUN_BUCKETS, "provider", "operation"
        )
        self._overhead = self._histogram(
            "overhead", "The part of a run that was not spent waiting for somebody else.", _OVERHEAD_BUCKETS
        )
        self._in_flight = self._gauge("requests_in_flight", "Runs asked for and not answered.")
        self._store_durable = self._gauge("store_durable", "Whether the store keeps what it acknowledged.")
        self._circuits = self._gauge(
            "circuit_state", "1 for the state that a workflow's circuit is in.", "provider", "workflow", "state"
        )
        self._limits_shared = self._gauge(
            "limits_shared", "1 where limits hold over all replicas; 0 where this one takes a share for itself."
        )
        self._reloads = self._counter("config_reloads", "Times the configuration was read anew.", "result")
        self._reload_success = self._gauge(
            "config_last_reload_success", "1 where the configuration on disk is the one in use, 0 where it was refused."
        )
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration in use was read, since 1970."
        )
        self._reload_success.set(1)
        build = self._gauge("build_info", "Always 1.", "version", "python")
        build.labels(version("runward"), platform.python_version()).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        counter = Counter(f"runward_{name}", text, labels)
        self.registry.register(counter)
        self._families[counter.name] = counter
        return counter

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        histogram = Histogram(f"runward_{name}_seconds", text, labels, bounds)
        self.registry.register(histogram)
        self._families[histogram.name] = histogram
        return histogram

    def _gauge(self, name: str, text: str, *labels: str) -> ExportableGauge:
        gauge = ExportableGauge(f"runward_{name}", text, labels, registry=self.registry)
        self._families[f"runward_{name}"] = gauge
        return gauge

    def track_store_durability(self, get_warning: Callable[[], str | None]) -> None:
        """Say who knows why the store could lose something; it is asked when the metrics are rendered."""
        self._store_durable.set_function(lambda: get_warning() is None)

    def track_in_flight(self, count: Callable[[], int]) -> None:
        """Say who knows how many requests are in flight; it is asked when the metrics are rendered."""
        self._in_flight.set_function(count)

    def request_ended(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.counts[route, str(status)] += 1

    def request_refused(self, client: str, code: str) -> None:
        """A problem was sent; `client` is "" where none was recognised."""
        self._refusals.counts[client, code] += 1

    def run_ended(self, client: str, workflow: str, provider: str, outcome: str, *, api: str = "run") -> None:
        """A run ended: succeeded, failed, unknown or not_run. `api`: the API that the client used."""
        self._runs.counts[client, workflow, provider, outcome, api] += 1

    def observe_run_duration(self, workflow: str, provider: str, seconds: float, overhead: float) -> None:
        """The duration of a run, and the part of it that was ours."""
        self._run_duration.observe((workflow, provider), seconds)
        self._overhead.observe((), overhead)

    def call_ended(self, provider: str, operation: str, result: str, seconds: float) -> None:
        """A call to a provider ended: `result` is "ok", the fault's cause, or "given_up" by us."""
        self._calls.counts[provider, operation, result] += 1
        self._call_duration.observe((provider, operation), seconds)

    def reply_refused(self, provider: str, operation: str, cause: str) -> None:
        """An answer came, and the adapter refused it."""
        self._refused_replies.counts[provider, operation, cause] += 1

    def call_retried(self, provider: str, operation: str, cause: str) -> None:
        """A call is about to be made again."""
        self._retries.counts[provider, operation, cause] += 1

    def run_fell_back(self, workflow: str, fallback: str) -> None:
        """A run is handed on."""
        self._fallbacks.counts[workflow, fallback] += 1

    def track_circuit(self, provider: str, workflow: str) -> Callable[[str], None]:
        """Show a circuit, closed; returns what is to be told of its changes."""
        children = {
            state: self._circuits.labels(provider, workflow, state) for state in ("closed", "open", "half_open")
        }

        def set_state(state: str) -> None:
            for name, child in children.items():
                child.set(name == state)

        set_state("closed")
        return set_state

    def callback_attempted(self, result: str) -> None:
        """A callback was tried: `result` is 2xx to 5xx, or what happened instead of an answer."""
        self._callbacks.counts[(result,)] += 1

    def callback_given_up(self) -> None:
        """A callback is not tried any more."""
        self._callbacks_given_up.counts[()] += 1

    def config_loaded(self, now: datetime) -> None:
        """A configuration was read, and is the one in use."""
        self._reload_success.set(1)
        self._reloaded_at.set(now.timestamp())

    def config_reloaded(self, now: datetime) -> None:
        """It was read anew while the gateway runs, and applied."""
        self._reloads.counts[("applied",)] += 1
        self.config_loaded(now)

    def config_reload_refused(self) -> None:
        """It was read anew, and the one before stays in use."""
        self._reloads.counts[("refused",)] += 1
        self._reload_success.set(0)

    def hint_received(self, result: str) -> None:
        """A hint came: `result` is genuine, or why nobody was told."""
        self._hints.counts[(result,)] += 1

    def hint_used(self) -> None:
        """A run was waiting for the hint."""
        self._hints_used.counts[()] += 1

    def limit_decided(self, scope: str, decision: str) -> None:
        """A limit let pass, made wait or refused."""
        self._decisions.counts[scope, decision] += 1

    def worker_lost(self) -> None:
        """A worker process ended that nobody had told to."""
        self._workers_lost.counts[()] += 1

    def export(self) -> dict[str, SeriesValues]:
        """Everything that was counted, by family: for another process, which adds it to others'."""
        return {name: family.export() for name, family in self._families.items()}

    @classmethod
    def from_export(cls, exported: Mapping[str, SeriesValues]) -> Metrics:
        """Make one that shows these and nothing else; a family that nobody knows here is left out."""
        metrics = cls()
        for name, family in metrics._families.items():
            if name in exported:
                family.restore(exported[name])
            else:  # a gauge of which nothing is known is not 0
                metrics.registry.unregister(family)
        return metrics

    def set_limits_shared(self, shared: int) -> None:
        """1: limits hold over all replicas; 0: their server is lost, and this one takes its share."""
        self._limits_shared.set(shared)

    def render(self) -> bytes:
        """The text exposition. It takes about 20 ms per 1 000 series: not for the event loop."""
        return generate_latest(self.registry)

    def render_openmetrics(self) -> bytes:
        """The OpenMetrics exposition, at the same cost."""
        exposition: bytes = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]
        return exposition
