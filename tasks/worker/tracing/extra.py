"""Whether the packages of the extra are there."""

import importlib
from collections.abc import Mapping

from integrations.errors import SettingsError
from tasks.worker.tracing.span import Tracing

REQUIREMENTS = ("opentelemetry-sdk>=1.45,<2", "opentelemetry-exporter-otlp-proto-http>=1.45,<2")
"""The extra `tracing` of pyproject.toml."""


def otlp_tracing(environ: Mapping[str, str]) -> Tracing:
    """Spans for an OpenTelemetry collector. Raises SettingsError if the packages are not installed."""
    try:
        otlp = importlib.import_module("tasks.worker.tracing.otlp")
    except ImportError:
        wanted = " ".join(f"'{requirement}'" for requirement in REQUIREMENTS)
        raise SettingsError([f"OCC_TRACES: otlp takes packages that are not installed: pip install {wanted}"]) from None
    tracing: Tracing = otlp.OtlpTracing(environ)
    return tracing
