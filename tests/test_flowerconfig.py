"""Flower's settings, as the real Flower takes them: no login, no window."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from occ.local.commands import flower_command
from occ.local.processes import PROJECT

pytestmark = pytest.mark.server


def test_flower_does_not_start_without_a_login(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"],
        "OCC_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    ended = subprocess.run(
        flower_command(port=port, database=str(tmp_path / "tasks")),
        env=environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "USER:PASSWORD in FLOWER_BASIC_AUTH" in ended.stderr


def test_every_setting_is_one_that_this_flower_knows() -> None:
    """A misspelt one would be passed over in silence."""
    code = (
        "from flower import options as o; from tornado.options import options; options.basic_auth = ['a:b'];"
        "config = {}; exec(open('flowerconfig.py').read(), config);"
        "print(*(n for n, v in config.items() if n in o.default_options))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60
    )
    assert set(asked.stdout.split()) == {
        *("address", "read_only", "tasks_columns", "format_task", "persistent", "state_save_interval", "max_tasks")
    }
