"""The parts of the installation a command changes something in, and the messages it sends."""

from collections.abc import Mapping
from types import TracebackType
from typing import Self

from integrations.oracle_commerce.accept import Asked
from integrations.settings import Settings
from occ.cli.set_up import become
from tasks.wiring import Wiring


class Installation:
    """What workers have, in this process. Use as a context manager; afterwards safe to share between threads."""

    def __init__(self, settings: Settings, variables: Mapping[str, str]) -> None:
        self.parts = Wiring(settings)
        self._variables = variables

    def __enter__(self) -> Self:
        # Built here, by one thread.
        _ = self.parts.acceptance, self.parts.tokens, self.parts.session
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parts.session.close()
        self.parts.redis.close()

    def prepare_to_send(self) -> None:
        """Load Celery, which takes longer than all the rest: only once there is something to send."""
        become(self._variables)  # Celery's own settings are read from this process's environment
        from tasks import doors  # noqa: F401, PLC0415
        from tasks.worker import logs  # noqa: PLC0415

        logs.configure("WARNING", self.parts.settings.log_format)

    def start(self, asked: Asked) -> None:
        """Send the messages for a wish that was accepted. Best effort: if one is lost, the tick sends another."""
        from tasks.doors import start_work  # noqa: PLC0415

        start_work(asked)
