"""A thread of a worker's that looks whether the events it has written are still there after a failover."""

import threading

import redis
import structlog

from integrations.connections.lost_events import WrittenEvents
from integrations.connections.records import StatusEvent

log = structlog.get_logger(__name__)

_EVERY = 2.0  # seconds


class LostEventsWatch:
    """Hears of each event about a status that this process writes; looks for them again from the first one on."""

    def __init__(self, client: redis.Redis, *, every: float = _EVERY) -> None:
        """Nothing connects, and no thread runs, before an event was written."""
        self._written = WrittenEvents(client)
        self._every = every
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def note(self, event: StatusEvent) -> None:
        """It was written just now."""
        self._written.note(event)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lost-events", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        over = threading.Event()
        while not over.wait(self._every):
            try:
                lost = self._written.look()
            except redis.RedisError:
                continue  # whatever is done for the stores notices too
            if lost:
                log.warning("events_lost", merchants=lost)
