"""What processes count adds up on the server; nobody waits for that, and a server that is away loses nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from integrations.connections.record import Step, Target
from integrations.observer import ObservedCall, TokenSource
from occ.local.processes import PROJECT
from occ.local.server import EmbeddedServer
from tasks.worker.counting import Counts
from tests.waiting import wait_until

pytestmark = pytest.mark.server

NEVER = 3600.0

COUNTING = """
import sys, time
from integrations.observer import ObservedCall
from tasks.worker.counting import Counts
counts = Counts(sys.argv[1])
print("counting", flush=True)
while True:
    counts.called(ObservedCall("login", "POST", "a.example.com", 0.07, status=200))
    print(".", end="", flush=True)
    time.sleep(0.005)
"""


def totals(client: redis.Redis) -> dict[str, int]:
    return {name.decode(): int(total) for name, total in client.hgetall("occ:metrics").items()}  # type: ignore[union-attr]


def test_what_several_processes_count_adds_up(redis_url: str, redis_client: redis.Redis) -> None:
    both = [Counts(redis_url, every=NEVER) for _ in range(2)]
    for counts in both:
        counts.called(ObservedCall("login", "POST", "a.example.com", 0.07, status=200))
        counts.called(ObservedCall("login", "POST", "a.example.com", 0.1, status=200))
        counts.called(ObservedCall("login", "POST", "a.example.com", 99, error="store_timeout"))
        counts.token_taken(TokenSource.CACHE)
        counts.nothing_done(Target(Step.REGISTER_SLOT, "order-submit"))
        counts.ticked(dispatched=3, taken_from_inbox=0)
        counts.close()
    assert totals(redis_client) == {
        "occ_calls_total|login|2xx": 4,
        "occ_calls_total|login|timeout": 2,
        "occ_call_seconds|login|0.1": 4,
        "occ_call_seconds|login|+Inf": 2,
        "occ_call_seconds|login|us": 198_340_000,
        "occ_access_tokens_total|cache": 2,
        "occ_steps_total|register_slot|nothing_to_do": 2,
        "occ_ticks_total": 2,
        "occ_dispatched_total": 6,
    }


def test_threads_that_count_at_once_lose_nothing(redis_url: str, redis_client: redis.Redis) -> None:
    counts = Counts(redis_url, every=0.001)

    def count() -> None:
        for _ in range(2000):
            counts.called(ObservedCall("read_slot", "GET", "a.example.com", 0.01, status=200))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts.close()
    assert totals(redis_client)["occ_calls_total|read_slot|2xx"] == 8000


def test_whoever_counts_never_waits_for_a_server_that_hangs_and_what_was_counted_is_kept(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server, redis.Redis.from_url(server.url) as client:
        counts = Counts(server.url, every=0.01)
        counts.ticked(dispatched=0, taken_from_inbox=0)
        wait_until(lambda: totals(client) == {"occ_ticks_total": 1})
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        for _ in range(50):
            counts.ticked(dispatched=0, taken_from_inbox=0)
        os.kill(server.pid, signal.SIGCONT)
        wait_until(lambda: totals(client) == {"occ_ticks_total": 51})
        client.config_set("maxmemory", "1")  # refuses writes
        for _ in range(50):
            counts.ticked(dispatched=0, taken_from_inbox=0)
        time.sleep(0.1)
        assert totals(client) == {"occ_ticks_total": 51}
        client.config_set("maxmemory", "0")
        wait_until(lambda: totals(client) == {"occ_ticks_total": 101})
        counts.close()


def test_a_killed_process_loses_about_a_second(redis_url: str, redis_client: redis.Redis) -> None:
    command = [sys.executable, "-c", COUNTING, redis_url]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "counting\n"
        counted = len(process.stdout.read(400))  # two seconds, or more where the machine is busy
        wait_until(lambda: totals(redis_client).get("occ_calls_total|login|2xx", 0) >= counted)
        process.send_signal(signal.SIGKILL)
        counted_in_all = counted + len(process.stdout.read())
    assert counted <= totals(redis_client)["occ_calls_total|login|2xx"] <= counted_in_all


def test_a_process_that_ends_in_order_loses_nothing(redis_url: str, redis_client: redis.Redis) -> None:
    once = COUNTING.replace("while True:", "for _ in range(5):")
    subprocess.run([sys.executable, "-W", "error", "-c", once, redis_url], cwd=PROJECT, check=True, timeout=180)
    assert totals(redis_client)["occ_calls_total|login|2xx"] == 5


def test_nothing_connects_before_there_is_something_to_count() -> None:
    counts = Counts("redis://127.0.0.1:1/0")
    assert counts._thread is None
    counts.close()
