"""Messages as stock Celery clients of several versions sent them, recorded byte for byte: all of them connect a store.

Each version sent one with nothing but the queue, one with a priority and other options, and one that named no queue.
"""

import json
from pathlib import Path

import pytest

from occ.simulator.store import SimulatedStore
from tests.contract.golden import APPLICATION_KEY, opened
from tests.pipeline import Pipeline

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]

FOLDER = Path(__file__).with_name("stock_messages")
LISTS = {"default": "occ", "options": "occ\x06\x169", "no-queue": "celery"}
"""Where each kind was found."""


def test_each_version_is_there_with_each_kind() -> None:
    names = {tuple(file.stem.rsplit("-", 1)) for file in FOLDER.glob("*.json")}
    versions = {version for _, version in names}
    assert {version.rpartition(".")[0] for version in versions} == {"5.3", "5.5", "5.7"}
    assert names == {(kind, version) for kind in LISTS for version in versions}


@pytest.mark.parametrize("kind", LISTS)
def test_what_stock_clients_send_connects_a_store(
    kind: str, pipeline: Pipeline, real_looking: tuple[SimulatedStore, dict[str, str]]
) -> None:
    store, _ = real_looking
    store.change(application_key=APPLICATION_KEY)
    messages = [file.read_bytes() for file in sorted(FOLDER.glob(f"{kind}-*.json"))]
    merchants = [opened(message)["body"][1]["merchant_id"] for message in messages]
    for message in messages:
        assert json.loads(message)["headers"]["lang"] == "py"
        pipeline.redis.lpush(LISTS[kind], message)
    pipeline.await_end(*merchants)
    assert {pipeline.status(merchant)["status"] for merchant in merchants} == {"active"}
    assert pipeline.redis.llen("occ:quarantine") == 0
