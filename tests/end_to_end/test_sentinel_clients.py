"""The example producers connect stores through sentinels, changed only in how they reach the server."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integrations.connections.records import Records
from tasks.wiring import connect
from tests.contract.conftest import EXAMPLES, node_project  # noqa: F401 - a fixture
from tests.pipeline import Pipeline, running
from tests.sentinels import PASSWORD, SENTINEL_PASSWORD, Sentinels, sentinels

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

CELERY = (
    'with Celery(broker=os.environ["BROKER_URL"]) as app:\n',
    """\
places = ";".join(f"sentinel://:{PASSWORD}@127.0.0.1:{port}" for port in PORTS)
with Celery(broker=places) as app:
    app.conf.broker_transport_options = {"master_name": "ours", "sentinel_kwargs": {"password": SENTINEL_PASSWORD}}
""",
)
REDIS = (
    'with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:\n',
    """\
from redis.sentinel import Sentinel
places = [("127.0.0.1", port) for port in PORTS]
sentinel = Sentinel(places, sentinel_kwargs={"password": SENTINEL_PASSWORD}, password=PASSWORD)
with sentinel.master_for("ours") as client:
""",
)
NODE = (
    """\
createClient({
  url: REDIS_URL,
  socket: { reconnectStrategy: false },
  maintNotifications: "disabled", // asks for a right that only Redis Enterprise has a use for
});""",
    """\
createSentinel({
  name: "ours",
  sentinelRootNodes: PORTS.map((port) => ({ host: "127.0.0.1", port })),
  sentinelClientOptions: { password: SENTINEL_PASSWORD },
  nodeClientOptions: { password: PASSWORD, maintNotifications: "disabled" },
});""",
)


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sentinels]:
    with sentinels(tmp_path_factory.mktemp("servers")) as it:
        yield it


@pytest.fixture(scope="module")
def pipeline(group: Sentinels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    folder = tmp_path_factory.mktemp("pipeline")
    with running(Pipeline(folder, settings={"OCC_REDIS_URL": group.url}), workers=1) as it:
        it.redis = connect(group.url)
        it.records = Records(it.redis)
        yield it
        it.redis.close()


@pytest.fixture
def python_examples(tmp_path: Path) -> Path:
    return shutil.copytree(EXAMPLES / "python", tmp_path / "examples")


def test_stock_celery(pipeline: Pipeline, group: Sentinels, python_examples: Path) -> None:
    # STOCK_CELERY, as in tests/deploy/test_stock_clients.py: clients of other versions.
    for python in [sys.executable, *filter(None, os.environ.get("STOCK_CELERY", "").split(":"))]:
        connects(pipeline, group, python, python_examples / "connect_with_celery.py", CELERY)


def test_a_redis_client(pipeline: Pipeline, group: Sentinels, python_examples: Path) -> None:
    connects(pipeline, group, sys.executable, python_examples / "connect_with_redis.py", REDIS)


def test_node(pipeline: Pipeline, group: Sentinels, node_project: Path) -> None:  # noqa: F811 - the fixture
    connects(pipeline, group, "node", node_project / "connect.mjs", NODE)


def connects(pipeline: Pipeline, group: Sentinels, program: str, example: Path, change: tuple[str, str]) -> None:
    """Whether the example, so changed, has a store connected."""
    store = pipeline.simulator.add()
    source = example.read_text(encoding="utf-8")
    for before, after in (change, ("createClient }", "createSentinel }")):
        source = source.replace(before, after)
    assert change[1] in source
    known = {"PORTS": group.sentinel_ports, "PASSWORD": PASSWORD, "SENTINEL_PASSWORD": SENTINEL_PASSWORD}
    keyword = "const " if example.suffix == ".mjs" else ""
    lines = [f"{keyword}{name} = {json.dumps(value)}\n" for name, value in known.items()]
    changed = example.with_name(f"through_sentinels{example.suffix}")
    changed.write_text("".join(lines) + source, encoding="utf-8")
    key = {"SEALING_KEY_ID": pipeline.key.key_id, "SEALING_PUBLIC_KEY": pipeline.key.public_key}
    done = subprocess.run(
        [program, str(changed), store.name, store.url],
        env={"PATH": os.environ["PATH"], **key},
        input=f"{store.application_key}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    pipeline.await_end(store.name)
    assert pipeline.status(store.name)["status"] == "active"
