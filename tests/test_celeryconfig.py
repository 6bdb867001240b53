"""Celery's settings as its programs read them: who opens keys has to have them, who does not is not given them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SERVER = {"OCC_REDIS_URL": "redis://:pa55word@127.0.0.1:1/0"}


def read_by(program: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """In a process whose command line says that it is this program of Celery's."""
    code = "import celeryconfig; print(celeryconfig.broker_url)"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, program],
        env={"PATH": os.environ["PATH"], **settings},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("program", ["beat", "flower"])
def test_beat_and_flower_need_no_sealing_keys(program: str, tmp_path: Path) -> None:
    done = read_by(program, **SERVER, OCC_DATA_DIR=str(tmp_path / "data"), OCC_SEALING_KEYS_FILE="/nowhere")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, SERVER["OCC_REDIS_URL"], "")


def test_beat_makes_the_folder_for_its_schedule_for_nobody_else(tmp_path: Path) -> None:
    assert read_by("beat", **SERVER, OCC_DATA_DIR=str(tmp_path / "new" / "data")).returncode == 0
    assert (tmp_path / "new" / "data").stat().st_mode & 0o777 == 0o700


def test_a_worker_is_told_of_all_it_lacks_at_once() -> None:
    done = read_by("worker", **SERVER, OCC_LEASE="soon")
    assert done.returncode == 1
    assert [line.split(":")[0].strip(" *") for line in done.stderr.splitlines()[1:]] == [
        *("OCC_LEASE", "OCC_SEALING_KEYS", "OCC_CALLBACK_URL")
    ]
    assert "pa55word" not in done.stderr


def test_a_worker_started_in_another_way_does_not_go_on_without_its_keys() -> None:
    code = "from tasks.celery import app; from celery.signals import worker_init; worker_init.send(sender=None)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"], **SERVER},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "OCC_SEALING_KEYS: required" in done.stderr
