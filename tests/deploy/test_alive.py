"""Whether a process makes progress, as containers are asked: the file a worker touches, and what reads it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.worker.heartbeat import NAME, Heartbeat
from tests.deploy.manifests import SCRIPTS
from tests.pipeline import Pipeline
from tests.waiting import wait_until

OLD = 10 * 60


def alive(file: Path, *, health: int, folder: Path) -> tuple[int, bool]:
    """The exit code of occ-alive where `occ health` ends with this code, and whether it was asked at all."""
    asked = folder / "asked"
    asked.unlink(missing_ok=True)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >"{asked}"\nexit {health}\n', encoding="utf-8")
    python.chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([SCRIPTS / "occ-alive", file, "2"], env=environment, check=False)
    if asked.exists():
        assert asked.read_text(encoding="utf-8") == "-m occ.cli health --no-workers\n"
    return done.returncode, asked.exists()


def touched(file: Path, *, ago: float = 0) -> Path:
    file.touch()
    then = time.time() - ago
    os.utime(file, (then, then))
    return file


def test_a_file_touched_lately_is_enough_and_nothing_else_is_asked(tmp_path: Path) -> None:
    assert alive(touched(tmp_path / NAME), health=1, folder=tmp_path) == (0, False)


@pytest.mark.parametrize(
    ("health", "code"),
    [
        pytest.param(1, 1, id="work is overdue: started again"),
        pytest.param(0, 0, id="nothing to do: fine"),
        pytest.param(3, 0, id="the server is away: a restart brings it not back"),
        pytest.param(124, 0, id="the server does not answer"),
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_an_old_file_or_none_leaves_it_to_the_work(tmp_path: Path, health: int, code: int, *, there: bool) -> None:
    file = touched(tmp_path / NAME, ago=OLD) if there else tmp_path / NAME
    assert alive(file, health=health, folder=tmp_path) == (code, True)


def test_a_heartbeat_is_not_written_for_each_of_many_tasks_and_never_fails(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "data" / NAME)
    heartbeat.beat()  # there is no such folder
    heartbeat = Heartbeat(tmp_path / NAME)
    heartbeat.beat()
    touched(heartbeat.file, ago=OLD)
    heartbeat.beat()
    assert time.time() - heartbeat.file.stat().st_mtime > OLD / 2


@pytest.mark.end_to_end
@pytest.mark.server
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_worker_touches_it_when_ready_and_with_every_tick_and_not_when_it_hangs(tmp_path: Path, pool: str) -> None:
    with Pipeline(tmp_path, settings={"OCC_POOL": pool, "OCC_CONCURRENCY": "2"}) as pipeline:
        worker = pipeline.start_worker("--include", "tasks.worker.heartbeat")
        pipeline.await_workers()
        file = tmp_path / NAME
        wait_until(file.exists, what="the first heartbeat")
        ready = file.stat().st_mtime
        time.sleep(1.5)
        assert file.stat().st_mtime == ready  # nobody has sent a tick
        pipeline.start_beat()
        wait_until(lambda: file.stat().st_mtime > ready, what="a tick to be done")
        pipeline.kill(worker, 9)
        last = file.stat().st_mtime
        time.sleep(1.5)
        assert file.stat().st_mtime == last


@pytest.mark.end_to_end
@pytest.mark.server
def test_the_command_in_the_image_tells_of_overdue_work(tmp_path: Path) -> None:
    with Pipeline(tmp_path, settings={"OCC_LEASE": "7"}) as pipeline:
        scripts = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        environment = {**pipeline.environment, **scripts, "PYTHONPATH": str(SCRIPTS.parents[1])}

        def asked() -> int:
            line: list[str | Path] = [SCRIPTS / "occ-alive", tmp_path / "none", "2"]
            return subprocess.run(line, env=environment, cwd=tmp_path, check=False).returncode

        assert asked() == 0
        pipeline.redis.zadd("occ:due", {"m-1": time.time() - 600})
        # On a machine so busy that the answer takes too long, nobody is started again.
        wait_until(lambda: asked() == 1, what="overdue work to be told of")
        told = subprocess.run(
            [SCRIPTS / "occ", "health", "--no-workers", "--json"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert json.loads(told.stdout)["overdue"] == 1
        pipeline.server.stop()
        assert asked() == 0
