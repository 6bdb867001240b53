"""The example producers connect a store, each in a process of its own, with the rights docs/security.md gives them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from occ.simulator.store import SimulatedStore
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
        timeout=180,
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


@pytest.fixture
def asked(pipeline: Pipeline) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The example that waits for the answer, with the rights of the documented users and nothing else."""
    admin: Any = pipeline.redis
    users = documented_users()
    for user in ("occ-inbox", "occ-events"):
        admin.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *users[user])

    def ask(store: SimulatedStore, **changes: str) -> subprocess.CompletedProcess[str]:
        told = {"store_url": store.url, "key_id": pipeline.key.key_id, "application_key": store.application_key}
        told |= changes
        return subprocess.run(
            [sys.executable, "connect_and_wait.py", store.name, told["store_url"]],
            cwd=EXAMPLES / "python",
            env={
                "PATH": os.environ["PATH"],
                "REDIS_URL": as_user(pipeline, "occ-inbox", pipeline.server.url),
                "EVENTS_URL": as_user(pipeline, "occ-events", pipeline.server.url),
                "SEALING_KEY_ID": told["key_id"],
                "SEALING_PUBLIC_KEY": pipeline.key.public_key,
            },
            input=told["application_key"],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    return ask


def test_who_waits_for_the_answer_gets_it_and_is_told_what_to_do(
    pipeline: Pipeline, asked: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    store = pipeline.simulator.add("who-waits")
    wrong = {
        "https://www.shop.example": ("store_url", "host_not_allowed"),
        "https://ccstore-z1a2.oracleoutsourcing.com": ("store_url", "storefront_host"),
    }
    for store_url, (field, code) in wrong.items():
        done = asked(store, store_url=store_url)
        assert done.returncode == 1, done.stderr
        assert done.stdout.startswith(f"refused: {field}: ")
        assert f"[{code}]" in done.stdout
    done = asked(store, key_id="retired")
    assert "[unknown_key_id]" in done.stdout
    assert pipeline.key.key_id in done.stdout, "with which key to seal"
    done = asked(store)
    assert (done.stdout, done.returncode) == ("active\n", 0), done.stderr
