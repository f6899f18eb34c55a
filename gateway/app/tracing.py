"""Tracer of this process, from the settings."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from gateway.clock import Clock
from gateway.observability.tracing.spans import Tracer
from gateway.settings import Settings, SettingsError

_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def create_tracer(settings: Settings, clock: Clock) -> Tracer | None:
    """Return the tracer; None if tracing is off. Starts the threads of the exporters.

    Raises SettingsError as `check_tracing`, and if a variable of OpenTelemetry is not valid.
    """
    check_tracing(settings)
    if not settings.tracing.enabled:
        return None
    tracing = settings.tracing
    metric = tracing.metric and tracing.convention != "v1.41"
    try:  # the SDK reads some variables when it is imported
        from gateway.observability.tracing.otel_providers import create_providers
        from gateway.observability.tracing.otel_tracer import OtelTracer

        providers = create_providers(version("runward"), clock.token(16).hex(), metric=metric)
    except ValueError as error:
        raise SettingsError([("tracing", f"a variable of OpenTelemetry is not valid: {error}")]) from None
    return None if providers is None else OtelTracer(providers, clock, tracing.convention)


def check_tracing(settings: Settings) -> None:
    """Raise SettingsError if tracing is enabled and its library is missing."""
    if not settings.tracing.enabled:
        return
    try:
        missing = any(find_spec(name) is None for name in _PACKAGES)
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise SettingsError([("tracing.enabled", "needs the OpenTelemetry SDK: install runward[otel]")])
