import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from integrations.sealing.keyring import SealingKey
from occ.local.server import EmbeddedServer
from tests.tasks.logging_app import app
from tests.waiting import eventually

CANARY = "c4nary-hunter2"
IDS = {"merchant_id": "m-1", "run": 3, "slot": "order-submit", "attempt": 2}
ARGUMENTS = {**IDS, "application_key": CANARY}


@pytest.mark.server
@pytest.mark.end_to_end
@pytest.mark.parametrize(
    ("pool", "ended"),
    [
        ("threads", ["task_succeeded", "task_succeeded", "task_failed", "task_failed"]),
        ("prefork", ["task_succeeded", "task_succeeded", "task_failed", "task_failed", "Task handler raised error"]),
    ],
)
def test_all_a_worker_says_is_json_with_ids_and_without_arguments(
    server: EmbeddedServer, redis_url: str, tmp_path: Path, pool: str, ended: list[str]
) -> None:
    """At DEBUG, from start to stop, also when the process of a task is lost."""
    environ = {
        **os.environ,
        "OCC_REDIS_URL": redis_url,
        "OCC_BROKER_URL": server.broker_url,
        "OCC_SEALING_KEYS": SealingKey.generate().export(),
        "OCC_CALLBACK_URL": "https://hooks.example.com/{merchant_id}/{slot}",
        "OCC_LOG_LEVEL": "DEBUG",
        "OCC_LOG_FORMAT": "json",
    }
    command = [sys.executable, "-m", "celery", "-q", "-A", "tests.tasks.logging_app", "worker", "-P", pool, "-c", "2"]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        worker = subprocess.Popen(command, env=environ, stdout=out, stderr=err, start_new_session=True)
    try:
        send_all(server.broker_url, "occ.exits" if pool == "prefork" else None)
        eventually(lambda: all(said(tmp_path, event) >= ended.count(event) for event in ended))
        worker.send_signal(signal.SIGTERM)
        worker.wait(60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()
    assert (tmp_path / "out").read_text() == ""
    text = (tmp_path / "err").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    about_tasks = [line for line in lines if tells_of_a_task(line)]
    assert Counter(line["event"].partition(":")[0] for line in about_tasks) >= Counter(ended)
    assert [line for line in about_tasks if not line.items() >= IDS.items() or not line["task_id"]] == []
    assert [line["unknown_task"] for line in lines if line["event"] == "message_refused"] == ["'occ.unknown'"]
    assert lines[-1]["event"]
    assert CANARY not in text


def send_all(broker_url: str, last: str | None) -> None:
    with app.connection_for_write(broker_url) as connection:
        for name in ("occ.works", "occ.fails", "occ.retries"):
            # As a foreign producer may send it: with the key in what describes the arguments.
            app.send_task(
                name, kwargs=ARGUMENTS, connection=connection, argsrepr=CANARY, kwargsrepr=CANARY, shadow=CANARY
            )
        app.send_task("occ.unknown", kwargs=ARGUMENTS, connection=connection)
        app.send_task("occ.works", args=list(ARGUMENTS.values()), connection=connection)
        if last:
            app.send_task(last, kwargs=ARGUMENTS, connection=connection)


def said(folder: Path, event: str) -> int:
    return (folder / "err").read_text().count(f'"event": "{event}')


def tells_of_a_task(line: dict[str, Any]) -> bool:
    event: str = line["event"]
    return event.startswith(("task_", "inside", "Task handler", "Task accepted"))
