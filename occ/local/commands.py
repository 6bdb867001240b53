"""The command lines of what runs: worker, beat, Flower, metrics; the README and the container files use the same."""

import sys
from collections.abc import Sequence

from tasks.queues import QUARANTINE, QUEUES

_CELERY = (sys.executable, "-m", "celery", "--quiet", "-A", "tasks")  # quiet: a banner is not a log line


def worker_command(name: str, queues: Sequence[str] = QUEUES) -> Sequence[str]:
    """An ordinary worker. Pool and concurrency are celeryconfig's."""
    return [
        *(*_CELERY, "worker", "--hostname", f"{name}@%h", "--queues", ",".join(queues)),
        *("--without-gossip", "--without-mingle"),  # workers share nothing but the server: no chatter, faster start
    ]


def quarantine_command(name: str) -> Sequence[str]:
    """The worker for what may be taking workers down: one thing at a time, so that nobody else is hit."""
    return [*worker_command(name, [QUARANTINE]), "--concurrency", "1"]


def beat_command() -> Sequence[str]:
    """Beat; its schedule file is celeryconfig's."""
    return [*_CELERY, "beat", "--pidfile="]  # whoever supervises it knows its process


def flower_command(*, port: int, database: str) -> Sequence[str]:
    """Flower on loopback. Its login is in the environment (FLOWER_BASIC_AUTH), not in a command line all can read."""
    return [
        *(*_CELERY, "flower", "--logging=warning"),
        *("--address=127.0.0.1", f"--port={port}", f"--db={database}"),
    ]


def metrics_command(*, port: int) -> Sequence[str]:
    """The metrics, on loopback: they have no login."""
    return [sys.executable, "-m", "occ.cli", "metrics", "--host", "127.0.0.1", "--port", f"{port}"]
