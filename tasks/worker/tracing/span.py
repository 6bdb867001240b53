"""What the rest of the code knows of tracing: spans that can be opened, told facts, and closed.

Nothing here, and nothing that is told to a span, depends on OpenTelemetry.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from integrations.observer import Witness
from integrations.settings import Settings

Fact = str | int


class Span(Protocol):
    """A stretch of work. While its context is open, the calls this thread makes belong to it; then it ends."""

    @property
    def traceparent(self) -> str:
        """By which others can hang spans of theirs below it; "" if there is no trace."""

    def tell(self, **facts: Fact | None) -> None:
        """What is known of it: ids and codes, never a text from outside. None is left out."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class Tracing(Witness, Protocol):
    """Makes spans; as a witness, one of each call. Never waits for whoever collects them, and never raises."""

    def request(self, kind: str, traceparent: str) -> Span:
        """A request is looked at. `traceparent`: its producer's trace, "" to begin one."""

    def step(self, name: str, traceparent: str, began: float) -> Span:
        """A step is done. `began`: when, in seconds since the epoch by this process's clock."""

    def close(self) -> None:
        """Send off what there is, for a bounded time."""


class _NoSpan:
    """Of no trace."""

    traceparent = ""

    def tell(self, **facts: Fact | None) -> None:
        """Forget it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Untraced:
    """Makes none."""

    def __init__(self) -> None:
        self._span = _NoSpan()

    def request(self, kind: str, traceparent: str) -> Span:  # noqa: ARG002
        """None."""
        return self._span

    def step(self, name: str, traceparent: str, began: float) -> Span:  # noqa: ARG002
        """None."""
        return self._span

    def saw(self, call: object) -> None:
        """Forget it."""

    def close(self) -> None:
        """Nothing to send."""


UNTRACED: Tracing = _Untraced()


def tracing_of(settings: Settings, environ: Mapping[str, str]) -> Tracing:
    """What the settings ask for. Raises SettingsError if the packages it takes are not installed."""
    if settings.traces == "none":
        return UNTRACED
    from tasks.worker.tracing.extra import otlp_tracing  # noqa: PLC0415 - an optional extra

    return otlp_tracing(environ)
