"""What must agree across files, held together: a typo here would otherwise be found at night."""

import json
import os
import subprocess
import sys
from pathlib import Path

from integrations.sealing.keyring import SealingKey
from tasks.queues import QUARANTINE, QUEUES

ROOT = Path(__file__).parent.parent

QUESTION = """
import json
from tasks.celery import app
app.loader.import_default_modules()
print(json.dumps({
    "tasks": sorted(name for name in app.tasks if name.startswith("occ.")),
    "routes": {name: route["queue"] for name, route in app.conf.task_routes.items()},
    "beat": sorted(entry["task"] for entry in app.conf.beat_schedule.values()),
    "queues": sorted(queue.name for queue in app.conf.task_queues),
    "results": [app.conf.result_backend, app.conf.result_extended, app.conf.task_ignore_result],
    "accepts": app.conf.accept_content,
}))
"""


def asked() -> dict[str, object]:
    """What the app says of itself, in a process of its own: settings are read once per process."""
    environment = {
        "PATH": os.environ["PATH"],
        "OCC_REDIS_URL": "redis://127.0.0.1:1/0",
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
    }
    command = [sys.executable, "-W", "error", "-c", QUESTION]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_tasks_routes_beat_and_queues_agree() -> None:
    answer = asked()
    assert answer["tasks"] == [
        "occ.check_shipping_methods",
        "occ.connect",
        "occ.deliver",
        "occ.disconnect",
        "occ.disconnect_slot",
        "occ.heard",
        "occ.register_slot",
        "occ.revalidate",
        "occ.revalidate_key",
        "occ.tick",
        "occ.validate_key",
    ]
    assert set(answer["routes"]) == set(answer["tasks"])  # type: ignore[call-overload]
    assert set(answer["routes"].values()) <= set(QUEUES)  # type: ignore[attr-defined]
    assert answer["beat"] == ["occ.tick"]
    assert answer["queues"] == sorted([*QUEUES, QUARANTINE])
    assert answer["results"] == [None, False, True]
    assert answer["accepts"] == ["json"]


def test_queues_are_the_same_wherever_they_are_listed() -> None:
    listed = ",".join(QUEUES)
    for file in ("docs/deploying.md", "docker-compose.yml", "Dockerfile"):
        assert f"{listed}" in (ROOT / file).read_text(), file


def test_locks_hold_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0].splitlines()
    assert all("#" in line for line in lines if line.strip())
