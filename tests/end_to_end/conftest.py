"""Pipelines for the tests that do not break them; those that do start their own."""

import json
from collections.abc import Callable, Iterator

import pytest

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline, running

BRISK_IDS = {
    "order-submit": "production-submitOrder",  # as a real tenant has it, with a twin on the preview server
    **{slot: slot for slot in ("order-update", "shipment-create", "shipment-update")},
}
BRISK = {
    "OCC_SLOTS": json.dumps(BRISK_IDS),
    "OCC_SECOND_LOOK": "1",
    "OCC_RECHECK_DEGRADED": "1",
    "OCC_RETRY_ATTEMPTS": "3",
}


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Real workers, beat, server and simulator, for all tests of this folder. Looks are only those asked for."""
    with running(Pipeline(tmp_path_factory.mktemp("pipeline"))) as pipeline:
        yield pipeline


@pytest.fixture(scope="package")
def brisk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """The same in a hurry: second looks, and looks at what is in trouble, come by themselves after a second."""
    with running(Pipeline(tmp_path_factory.mktemp("brisk"), settings=BRISK), workers=1) as pipeline:
        yield pipeline


@pytest.fixture
def new_store(shared: Pipeline, request: pytest.FixtureRequest) -> Callable[..., SimulatedStore]:
    """Makes a store that no other test knows."""
    return _maker(shared, request)


@pytest.fixture
def new_brisk_store(brisk: Pipeline, request: pytest.FixtureRequest) -> Callable[..., SimulatedStore]:
    """The same for the brisk pipeline."""
    return _maker(brisk, request)


def _maker(pipeline: Pipeline, request: pytest.FixtureRequest) -> Callable[..., SimulatedStore]:
    made = 0

    def make(**changes: object) -> SimulatedStore:
        nonlocal made
        made += 1
        name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:100]
        return pipeline.simulator.add(f"{name}-{made}", **changes)

    return make
