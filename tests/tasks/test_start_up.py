"""A worker waits for its server, and refuses one that would forget what was accepted."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from integrations.server.look import dangers_of
from occ.local.processes import PROJECT
from occ.local.server_binary import find_server_binary
from tests.pipeline import Pipeline
from tests.waiting import wait_until


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


class Answering:
    """A client of a server that says what it is."""

    def __init__(self, **server: str) -> None:
        sections = {"server": server, "persistence": {"aof_enabled": 1}, "memory": {"maxmemory_policy": "noeviction"}}
        self.info = sections.__getitem__


@pytest.mark.parametrize("version", ["7.2.0", "7.2.4", "7.4.1", "8.0.0", "10.0.0"])
def test_a_recent_server_is_no_danger(version: str) -> None:
    assert dangers_of(cast("redis.Redis", Answering(redis_version=version))) == []


@pytest.mark.parametrize("version", ["6.2.14", "7.0.15"])
def test_an_older_server_is_named_with_what_is_needed(version: str) -> None:
    (danger,) = dangers_of(cast("redis.Redis", Answering(redis_version=version)))
    assert f"Redis {version}, and 7.2 or newer is needed" in danger
    assert "upgrade" in danger


@pytest.mark.server
def test_a_server_that_is_still_reading_its_files_is_waited_for_not_judged(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.1.incr.aof").write_bytes(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" * 20_000)
    (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    address = tmp_path / "socket"
    command = [str(find_server_binary().path), "--port", "0", "--unixsocket", str(address), "--dir", str(folder.parent)]
    command += ["--appendonly", "yes", "--key-load-delay", "100"]  # so many microseconds for each command it reads
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL) as process,
        redis.Redis(unix_socket_path=str(address), retry=Retry(NoBackoff(), 0)) as client,
    ):
        try:
            judged = [_judged(client)]
            while judged[-1] != "no dangers":
                assert len(judged) < 3000
                time.sleep(0.01)
                judged.append(_judged(client))
        finally:
            process.kill()
    assert set(judged) <= {"ConnectionError", "BusyLoadingError", "no dangers"}
    assert "BusyLoadingError" in judged, "this test is to see it loading"


def _judged(client: redis.Redis) -> str:
    try:
        return "".join(dangers_of(client)) or "no dangers"
    except redis.ConnectionError as error:
        return type(error).__name__


@pytest.mark.end_to_end
def test_a_worker_refuses_an_unsafe_server_in_plain_words(tmp_path: Path) -> None:
    with Pipeline(tmp_path) as pipeline:
        pipeline.redis.config_set("appendonly", "no")
        name = pipeline.start_worker()
        assert pipeline.processes.pop(name).wait(timeout=180) == 1
        said = pipeline.output(name).decode()
        assert "set appendonly to yes" in said
        assert "Traceback" not in said
        allowed = pipeline.start_worker(environment={"OCC_ALLOW_UNSAFE_SERVER": "yes"})
        wait_until(lambda: b"ready" in pipeline.output(allowed), what="the worker that may")


@pytest.mark.end_to_end
def test_a_worker_waits_for_its_server(tmp_path: Path) -> None:
    with Pipeline(tmp_path) as pipeline:
        pipeline.server.stop()
        name = pipeline.start_worker()
        wait_until(lambda: b"waiting_for_server" in pipeline.output(name), what="it to wait")
        pipeline.server.start()
        pipeline.await_workers()
        process = pipeline.processes[name]
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=180) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("a warm shutdown ends by itself")


@pytest.mark.parametrize("soft", [64, 256])
def test_a_worker_may_open_as_many_files_as_the_system_lets_it(soft: int) -> None:
    script = (
        "import resource; from tasks.start_up import raise_file_limit\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 256)); raise_file_limit()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ended.stdout == "(256, 256)\n"
