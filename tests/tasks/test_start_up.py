"""A worker waits for its server, and refuses one that would forget what was accepted."""

import signal
import subprocess
from pathlib import Path

import pytest
import redis

from integrations.server_safety import dangers_of
from tests.pipeline import Pipeline, wait_until


@pytest.mark.server
def test_the_embedded_server_is_safe(redis_client: redis.Redis) -> None:
    assert dangers_of(redis_client) == []


@pytest.mark.server
def test_each_danger_is_named_with_its_remedy(redis_client: redis.Redis) -> None:
    redis_client.config_set("maxmemory-policy", "allkeys-lru")
    redis_client.config_set("appendonly", "no")
    try:
        dangers = dangers_of(redis_client)
    finally:
        redis_client.config_set("maxmemory-policy", "noeviction")
        redis_client.config_set("appendonly", "yes")
    assert len(dangers) == 2
    assert "noeviction" in dangers[0]
    assert "appendonly" in dangers[1]


@pytest.mark.end_to_end
def test_a_worker_refuses_an_unsafe_server_in_plain_words(tmp_path: Path) -> None:
    with Pipeline(tmp_path) as pipeline:
        pipeline.redis.config_set("appendonly", "no")
        name = pipeline.start_worker()
        assert pipeline.processes.pop(name).wait(timeout=30) == 1
        said = pipeline.output(name).decode()
        assert "set appendonly to yes" in said
        assert "Traceback" not in said
        allowed = pipeline.start_worker(environment={"OCC_ALLOW_UNSAFE_SERVER": "yes"})
        wait_until(lambda: b"ready" in pipeline.output(allowed), within=30, what="the worker that may")


@pytest.mark.end_to_end
def test_a_worker_waits_for_its_server(tmp_path: Path) -> None:
    with Pipeline(tmp_path) as pipeline:
        pipeline.server.stop()
        name = pipeline.start_worker()
        wait_until(lambda: b"waiting_for_server" in pipeline.output(name), within=30, what="it to wait")
        pipeline.server.start()
        pipeline.await_workers()
        process = pipeline.processes[name]
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=20) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("a warm shutdown ends by itself")
