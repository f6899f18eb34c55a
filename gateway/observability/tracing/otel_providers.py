"""Set-up and shutdown of the OpenTelemetry SDK, configured by its standard variables (OTEL_…).

Spans and metrics are exported over OTLP (HTTP, protobuf) by threads of the SDK, from bounded queues: the event loop
never waits for a collector.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, Tracer

from gateway.observability.tracing.span_table import RUN_DURATION

SHUTDOWN_SECONDS = 2.0
"""Time for the last spans to be exported; then they are lost."""
_SCOPE = "runward"


@dataclass(frozen=True, slots=True)
class OtelProviders:
    """The SDK of this process. `histogram`: None without metrics."""

    tracer: Tracer
    traces: TracerProvider
    metrics: MeterProvider | None
    histogram: Histogram | None

    async def close(self) -> None:
        """Export what is left. Returns after `SHUTDOWN_SECONDS` in any case; the rest is lost with the process."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            try:
                self.traces.shutdown()
                if self.metrics is not None:
                    self.metrics.shutdown(timeout_millis=SHUTDOWN_SECONDS * 1000)
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(done.set)

        # A daemon, since the process must not wait for it at its exit.
        threading.Thread(target=shut_down, name="otel-shutdown", daemon=True).start()
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await done.wait()
        except TimeoutError:
            return


def create_providers(version: str, instance_id: str, *, metric: bool) -> OtelProviders | None:
    """Return the SDK with its exporters; None if OTEL_SDK_DISABLED is true.

    `instance_id`: identifies this process, because each one counts for itself. Raises ValueError if a variable is not
    valid.
    """
    resource = _resource(version, instance_id)
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracer = traces.get_tracer(_SCOPE, version)
    if isinstance(tracer, NoOpTracer):
        return None
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    if not metric:
        return OtelProviders(tracer, traces, None, None)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    histogram = metrics.get_meter(_SCOPE, version).create_histogram(
        RUN_DURATION.name,
        unit=RUN_DURATION.unit,
        description=RUN_DURATION.text,
        explicit_bucket_boundaries_advisory=list(RUN_DURATION.buckets),
    )
    return OtelProviders(tracer, traces, metrics, histogram)


def _resource(version: str, instance_id: str) -> Resource:
    """Return the resource; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say takes precedence."""
    own = {"service.name": "runward", "service.version": version, "service.instance.id": instance_id}
    given = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in own.items() if name not in given})


NO_CONTEXT = Context()
"""The context of a span without a parent."""
