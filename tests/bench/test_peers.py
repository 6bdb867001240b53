"""The benchmark of peers runs, whoever it measures."""

import os
import sys

import pytest

from tests.bench.peers import OURS, PEERS, Plan, has_peers, measure_peers

PYTHON = os.environ.get("PEERS_PYTHON", sys.executable)
SMALL = Plan(merchants=4, rate=4, seconds=0.5, latency=0.0, workers=1, kills=0)

pytestmark = [pytest.mark.server, pytest.mark.end_to_end]


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    if not has_peers(PYTHON):
        pytest.skip("needs the packages of the dependency group `peers` in the Python that PEERS_PYTHON names")


@pytest.mark.parametrize("name", [*PEERS, OURS])
def test_each_connects_all_stores_and_has_a_row(name: str) -> None:
    figures = measure_peers(SMALL, python=PYTHON, only=[name])
    assert {"bare threads", "bare asyncio", name} <= figures.keys()
    assert figures[name]["messages"] >= 5, "one to begin with, and one per slot"
    assert figures[name]["commands"] > figures[name]["messages"]
    assert figures["bare threads"]["commands"] == 0
