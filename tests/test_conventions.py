"""What must agree across files, held together: a typo here would otherwise be found at night."""

import json
import os
import re
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


def test_a_second_platform_would_change_the_files_that_the_page_lists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().partition("Elsewhere, these files would change")[2]
    listed = set(re.findall(r"`((?:occ|tasks|integrations)/[\w/]+\.py)`", page.partition("\n## ")[0]))
    assert [file for file in listed if not (ROOT / file).is_file()] == []
    importing = {
        str(file.relative_to(ROOT))
        for folder in ("occ", "tasks", "integrations")
        for file in (ROOT / folder).rglob("*.py")
        if "integrations.oracle_commerce" in file.read_text(encoding="utf-8")
    }
    own = ("integrations/oracle_commerce/", "occ/simulator/", "occ/demo/")
    assert {file for file in importing if not file.startswith(own)} <= listed


def test_the_ten_stops_are_in_the_code() -> None:
    page = (ROOT / "docs" / "one-request.md").read_text()
    stops = re.findall(r"^\| \d+ \| `([\w/]+\.py)`, `([\w.]+)` \|", page, re.MULTILINE)
    assert len(stops) == 10
    for file, names in stops:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert all(re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE) for name in names.split(".")), file
    assert [file for file in re.findall(r"`([\w/]+\.py)`", page) if not (ROOT / file).is_file()] == []


def test_what_the_server_runs_lies_in_files_of_its_own() -> None:
    modules = [file for folder in ("occ", "tasks", "integrations") for file in (ROOT / folder).rglob("*.py")]
    sources = {file: file.read_text(encoding="utf-8") for file in modules}
    assert [file for file, source in sources.items() if "redis.call(" in source] == []
    scripts = [file for folder in ("tasks", "integrations") for file in (ROOT / folder).rglob("*.lua")]
    assert len(scripts) > 10
    for script in scripts:
        assert any(f'"{script.stem}"' in source for file, source in sources.items() if file.parent == script.parent)


def test_every_dependency_has_its_reason() -> None:
    lines = (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]")[0].splitlines()
    assert all("#" in line for line in lines if line.strip())
