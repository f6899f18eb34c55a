"""Tracing with OpenTelemetry: what is measured (span_table), the interface for callers (spans), and its implementation.

The implementation, `otel_tracer` and `otel_providers`, is imported only if tracing is enabled.
"""
