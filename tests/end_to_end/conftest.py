"""Pipelines for the tests that do not break them; those that do start their own."""

from collections.abc import Callable, Iterator

import pytest

from occ.simulator.store import SimulatedStore
from tests.pipeline import Pipeline, running


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Real workers, beat, server and simulator, for all tests of this folder. Looks are only those asked for."""
    with running(Pipeline(tmp_path_factory.mktemp("pipeline"))) as pipeline:
        yield pipeline


@pytest.fixture
def new_store(shared: Pipeline, request: pytest.FixtureRequest) -> Callable[..., SimulatedStore]:
    """Makes a store that no other test knows."""
    made = 0

    def make(**changes: object) -> SimulatedStore:
        nonlocal made
        made += 1
        name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:100]
        return shared.simulator.add(f"{name}-{made}", **changes)

    return make
