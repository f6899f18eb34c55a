"""Receiver of OTLP over HTTP: decodes what gateways send to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tests.support.configuration import PROVIDER_SECRETS
from tests.support.fake_upstream.responses import reply
from tests.support.fake_upstream.upstream import FakeUpstream
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from opentelemetry.proto.common.v1.common_pb2 import KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint

    from tests.support.fake_upstream.connection import ReceivedRequest

TRACES, METRICS = "/v1/traces", "/v1/metrics"


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span, its ids in hexadecimal. `links`: trace and span ids; `events`: names and attributes; `failed`: status."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    attributes: dict[str, object]
    links: list[tuple[str, str]]
    events: list[tuple[str, dict[str, object]]]
    failed: bool
    start: int
    end: int

    @property
    def ids(self) -> tuple[str, str]:
        """Trace id and span id."""
        return self.trace_id, self.span_id


def ids_in(request: ReceivedRequest) -> tuple[str, str]:
    """Return the trace id and the span id that a request carries."""
    traceparent = request.header("traceparent") or ""
    assert "00" == traceparent[:2], traceparent
    return traceparent[3:35], traceparent[36:52]


class OtlpReceiver:
    """Receiver on loopback."""

    def __init__(self, server: FakeUpstream) -> None:
        self.server = server
        server.default = reply(200, b"")

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a gateway that exports to it often."""
        return {
            **PROVIDER_SECRETS,
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.server.url,
            "OTEL_BSP_SCHEDULE_DELAY": "20",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
        }

    @property
    def spans(self) -> list[ReceivedSpan]:
        """The spans so far, by their start."""
        found = [
            _span(span)
            for request in self.server.requests("POST", TRACES)
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return sorted(found, key=lambda span: span.start)

    @property
    def resources(self) -> list[dict[str, object]]:
        """The resources of the spans so far."""
        return [
            _attributes(resource.resource.attributes)
            for request in self.server.requests("POST", TRACES)
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
        ]

    def histogram(self, name: str) -> list[HistogramDataPoint]:
        """The data points of a histogram, of all exports so far."""
        return [
            point
            for request in self.server.requests("POST", METRICS)
            for resource in ExportMetricsServiceRequest.FromString(request.body).resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.histogram.data_points
        ]

    def named(self, name: str) -> list[ReceivedSpan]:
        """The spans with a name so far."""
        return [span for span in self.spans if span.name == name]

    async def wait_for(self, name: str, count: int = 1) -> list[ReceivedSpan]:
        """Return the spans with a name, once there are so many."""
        await wait_until(lambda: len(self.named(name)) >= count)
        return self.named(name)

    async def wait_for_span(self, span_id: str) -> None:
        """Return once the span with an id has arrived."""
        await wait_until(lambda: any(span.span_id == span_id for span in self.spans))

    async def wait_until(self, condition: Callable[[OtlpReceiver], object]) -> None:
        """Return once the condition holds."""
        await wait_until(lambda: condition(self))

    @property
    def received_bytes(self) -> bytes:
        """Everything that it has received."""
        return b"".join(request.head + request.body for request in self.server.received)


def point_attributes(point: HistogramDataPoint) -> dict[str, object]:
    """Return the attributes of a data point."""
    return _attributes(point.attributes)


def _span(span: SpanMessage) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        state=span.trace_state,
        attributes=_attributes(span.attributes),
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        events=[(event.name, _attributes(event.attributes)) for event in span.events],
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "string_value") for pair in pairs}
