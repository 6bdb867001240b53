"""A file that is touched whenever a task ended well in this worker, for whoever watches over the process.

Loaded where something looks at it: `celery -A tasks worker --include tasks.worker.heartbeat`. It shows progress, not
life: a process that is up and takes nothing does not touch it. `deploy/image/occ-alive` reads it.
"""

import time
from contextlib import suppress
from pathlib import Path

from celery import signals

from integrations.settings import load_settings

NAME = "worker-alive"
"""In the data folder, which such a worker has to itself."""

_AT_MOST_EVERY = 1.0  # seconds


class Heartbeat:
    """Touches the file, now and then."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._touched = float("-inf")

    def beat(self, **_: object) -> None:
        """Something was done."""
        now = time.monotonic()
        if now - self._touched >= _AT_MOST_EVERY:
            self._touched = now
            with suppress(OSError):  # a full disk is no reason to fail; whoever watches will look closer
                self.file.touch()


def _connect() -> None:
    heartbeat: Heartbeat | None = None

    def beat(**_: object) -> None:
        nonlocal heartbeat
        if heartbeat is None:
            heartbeat = Heartbeat(load_settings().data_dir / NAME)
        heartbeat.beat()

    signals.worker_ready.connect(beat, weak=False, dispatch_uid="occ heartbeat: worker is ready")
    signals.task_success.connect(beat, weak=False, dispatch_uid="occ heartbeat: task ended well")


_connect()
