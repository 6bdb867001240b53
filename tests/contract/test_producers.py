"""The example producers connect a store, each in a process of its own, with the rights docs/security.md gives them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.conftest import EXAMPLES
from tests.pipeline import Pipeline
from tests.secrets.test_acl import PASSWORD, as_user, documented_users

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


def connect(pipeline: Pipeline, name: str, command: list[str], folder: Path) -> None:
    store = pipeline.simulator.add(name)
    admin: Any = pipeline.redis
    admin.execute_command(
        "ACL", "SETUSER", "occ-inbox", "reset", "on", f">{PASSWORD}", *documented_users()["occ-inbox"]
    )
    environment = {
        "PATH": os.environ["PATH"],
        "REDIS_URL": as_user(pipeline, "occ-inbox", pipeline.server.url),
        "BROKER_URL": pipeline.server.broker_url,
        "SEALING_KEY_ID": pipeline.key.key_id,
        "SEALING_PUBLIC_KEY": pipeline.key.public_key,
    }
    done = subprocess.run(
        [*command, store.name, store.url],
        cwd=folder,
        env=environment,
        input=f"{store.application_key}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    assert [entry for entry in admin.acl_log() if entry["username"] == "occ-inbox"] == [], "it asks for nothing more"
    pipeline.await_end(store.name)
    status = pipeline.status(store.name)
    assert status["status"] == "active"
    assert all(store.urls(slot) for slot in status["slots"])


@pytest.mark.parametrize("script", ["connect_with_celery.py", "connect_with_redis.py"])
def test_python_connects_a_store(pipeline: Pipeline, script: str) -> None:
    connect(pipeline, script.replace("_", "-")[:-3], [sys.executable, script], EXAMPLES / "python")


def test_node_connects_a_store(pipeline: Pipeline, node_project: Path) -> None:
    connect(pipeline, "connect-with-node", ["node", "connect.mjs"], node_project)
