"""Section `tracing`: spans of requests and runs for OpenTelemetry."""

from __future__ import annotations

from typing import Literal

from gateway.settings.sections import Section


class TracingSettings(Section):
    """Tracing with OpenTelemetry. Exporter, sampling and resource are set by its standard variables (OTEL_…)."""

    enabled: bool = False
    """Send spans over OTLP (HTTP, protobuf) to OTEL_EXPORTER_OTLP_ENDPOINT. Needs runward[otel]."""
    convention: Literal["v0.1", "v1.41", "both"] = "v0.1"
    """Names for workflows: gen_ai.agent.name (v0.1, GenAI conventions), gen_ai.workflow.name (v1.41), or both."""
    metric: bool = True
    """Send the metric gen_ai.invoke_agent.duration too; not with v1.41, which has no metric."""
