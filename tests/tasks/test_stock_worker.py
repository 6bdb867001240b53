"""Workers as Celery's manual starts them, and Celery's own commands beside them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.sealing.keyring import SealingKey
from occ.local.environment import server_folder
from occ.local.processes import PROJECT
from occ.local.server import EmbeddedServer
from tests.waiting import wait_until

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a shell beside `./run up` has: the data folder, and nothing about the server in it."""
    data = tmp_path_factory.mktemp("data")
    with EmbeddedServer(server_folder(data)):
        yield {"PATH": os.environ["PATH"], "OCC_DATA_DIR": str(data), "OCC_LOG_FORMAT": "json"}


def occ_celery(up: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "occ.cli", "celery", *arguments]
    return subprocess.run(command, cwd=PROJECT, env=up, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("options", "queues", "concurrency"),
    [
        ([], ["occ", "occ.steps", "occ.tick"], 64),
        (["-Q", "occ.quarantine"], ["occ.quarantine"], 1),
        (["-Q", "occ.steps", "-c", "3"], ["occ.steps"], 3),
    ],
)
def test_a_stock_worker_takes_what_it_should_and_says_so(
    up: dict[str, str], tmp_path: Path, options: list[str], queues: list[str], concurrency: int
) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "occ.cli", "celery", "worker", "-n", "stock@%h", *options]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=PROJECT, env=up, stdout=output, stderr=output)
    try:
        wait_until(lambda: b"worker_takes" in log.read_bytes(), what="the worker to be ready")
        said: dict[str, Any] = next(json.loads(line) for line in log.read_text().splitlines() if "worker_takes" in line)
        assert (said["queues"], said["concurrency"]) == (queues, concurrency)
        if not options:
            asked = occ_celery(up, "inspect", "active_queues", "--json", "--timeout", "20")
            (answer,) = json.loads(asked.stdout).values()
            assert sorted(queue["name"] for queue in answer) == queues
    finally:
        process.terminate()
        process.wait(60)


def test_celerys_commands_end_as_celery_ends_them(up: dict[str, str]) -> None:
    asked = occ_celery(up, "inspect", "ping", "--timeout", "0.1")
    assert asked.returncode != 0
    assert "No nodes replied" in asked.stdout + asked.stderr
    assert "occ" in occ_celery(up, "report").stdout
    assert "inspect" in occ_celery(up, "inspect", "--help").stdout


def test_without_a_server_it_is_told_how_to_start_one(tmp_path: Path) -> None:
    asked = occ_celery({"PATH": os.environ["PATH"], "OCC_DATA_DIR": str(tmp_path)}, "inspect", "ping")
    assert (asked.returncode, "run up" in asked.stderr) == (3, True)
    key = SealingKey.generate().export()
    beside = {"PATH": os.environ["PATH"], "OCC_REDIS_URL": "redis://127.0.0.1:1/0", "OCC_SEALING_KEYS": key}
    asked = occ_celery(beside, "inspect", "ping")
    assert (asked.returncode, "cannot reach the server" in asked.stderr) == (3, True)
