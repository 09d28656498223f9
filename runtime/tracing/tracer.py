"""From settings to the tracer that a process works with."""

from typing import Final

from runtime.service.settings import TracingSettings
from runtime.tracing.spans import NO_TRACER, Tracer

_PATH: Final = "/v1/traces"


def tracer_of(settings: TracingSettings, *, service: str) -> Tracer:
    """Return what sends spans where the settings say; without a place, what drops them."""
    url = settings.traces_url
    if url is None and settings.otlp_endpoint is not None:
        # OpenTelemetry's own variable names the receiver of all signals.
        url = settings.otlp_endpoint.rstrip("/") + _PATH
    if url is None or settings.traces_ratio == 0:
        return NO_TRACER
    # Not at the top: the library costs 7 MB and a fifth of a second that nobody else should pay.
    from runtime.tracing.exporting import otlp_tracer  # noqa: PLC0415

    return otlp_tracer(url, service=service, ratio=settings.traces_ratio)
