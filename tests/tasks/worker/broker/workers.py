"""Real workers in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from occ.local.server import EmbeddedServer
from tests.tasks.worker.broker.messages import QUEUE
from tests.waiting import eventually

PROJECT = Path(__file__).resolve().parents[4]


class Worker:
    """A worker on the server of a test."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def worker(
    server: EmbeddedServer, folder: Path, pool: str, *, concurrency: int = 4, **settings: str
) -> Iterator[Worker]:
    """Start a worker and wait until it is ready; `settings` are worker_app's TEST_ variables, in lower case."""
    environment = dict(os.environ, TEST_BROKER=server.broker_url, TEST_REDIS=server.url)
    environment |= {f"TEST_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "celery", "-A", "tests.tasks.worker.broker.worker_app", "worker", "-Q", QUEUE]
    command += ["-P", pool, "-c", str(concurrency), "-l", "INFO", "--without-gossip", "--without-mingle"]
    log = folder / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=PROJECT, stdout=output, stderr=output)
    started = Worker(process, log)
    try:
        with redis.Redis.from_url(server.url) as client:
            assert eventually(lambda: bool(client.delete("ready")) or not started.is_alive)
        assert started.is_alive, started.log
        yield started
    finally:
        started.stop()


def settled(client: redis.Redis) -> bool:
    """No message is waiting or in hand, nor on its way from one to the other."""
    for _ in range(2):
        if client.llen(QUEUE) or client.hlen("unacked"):
            return False
        time.sleep(0.03)
    return True
