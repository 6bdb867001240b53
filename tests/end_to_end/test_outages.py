"""When it is us: merchants hear nothing, operators one event; and when it is not us, everybody hears of his own.

`TEST_MERCHANTS=1000` runs the full number.
"""

import os
from collections.abc import Iterator

import pytest

from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import ask, await_true, connect, events
from tests.pipeline import Pipeline, running

pytestmark = pytest.mark.end_to_end

MERCHANTS = int(os.environ.get("TEST_MERCHANTS", "40"))
PATIENCE = 60 + MERCHANTS / 4  # seconds
SETTINGS = {
    "OCC_OUTAGE_SHARE": "0.3",
    "OCC_OUTAGE_MERCHANTS": "20",
    "OCC_OUTAGE_WINDOW": "30",  # seconds in which a busy machine looks at all of them
    "OCC_RECHECK_DEGRADED": "5",
    "OCC_RETRY_ATTEMPTS": "4",
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    with running(Pipeline(tmp_path_factory.mktemp("outages"), settings=SETTINGS), workers=2) as it:
        yield it


@pytest.fixture(scope="module")
def stores(pipeline: Pipeline) -> list[SimulatedStore]:
    made = [pipeline.simulator.add(f"m-{number}") for number in range(MERCHANTS)]
    for start in range(0, len(made), 100):
        connect(pipeline, *made[start : start + 100])
    return made


def revalidate_all(pipeline: Pipeline, stores: list[SimulatedStore]) -> None:
    for store in stores:
        ask(pipeline, "occ.revalidate", merchant_id=store.name)


def statuses(pipeline: Pipeline, stores: list[SimulatedStore]) -> dict[str, int]:
    """Status -> how many have it."""
    counted: dict[str, int] = {}
    for snapshot in pipeline.records.load_many([store.name for store in stores]):
        status = snapshot.connection.status if snapshot.connection else "?"
        counted[status] = counted.get(status, 0) + 1
    return counted


def operator_events(pipeline: Pipeline) -> list[str]:
    return [str(event["type"]).removeprefix("occ.operator.") for event in events(pipeline, "operator")]


@pytest.mark.timeout(PATIENCE * 4)
def test_an_outage_of_ours_is_told_to_operators_and_to_no_merchant(
    pipeline: Pipeline, stores: list[SimulatedStore]
) -> None:
    before = {store.name: len(events_of_all) for store, events_of_all in with_events(pipeline, stores)}
    for store in stores:
        store.change(reachable=False)
    revalidate_all(pipeline, stores)
    await_true(lambda: statuses(pipeline, stores) == {"unreachable": MERCHANTS}, "the outage", within=PATIENCE)
    assert operator_events(pipeline) == ["outage_started"]
    assert {store.name: len(told) for store, told in with_events(pipeline, stores)} == before

    for store in stores:
        store.change(reachable=True)
    await_true(lambda: operator_events(pipeline)[-1] == "outage_ended", "the end of the outage", within=PATIENCE)
    await_true(lambda: statuses(pipeline, stores) == {"active": MERCHANTS}, "all to be active", within=PATIENCE)
    await_true(lambda: not pipeline.redis.zcard("occ:held"), "nothing to be held", within=PATIENCE)
    assert operator_events(pipeline) == ["outage_started", "outage_ended"]
    assert {store.name: len(told) for store, told in with_events(pipeline, stores)} == before


@pytest.mark.timeout(PATIENCE * 4)
def test_a_few_stores_in_trouble_are_told_of_one_by_one(pipeline: Pipeline, stores: list[SimulatedStore]) -> None:
    some = stores[:: MERCHANTS // 2]
    for store in some:
        store.change(reachable=False)
    operators = operator_events(pipeline)
    revalidate_all(pipeline, stores)
    await_true(lambda: statuses(pipeline, some) == {"unreachable": len(some)}, "the trouble", within=PATIENCE)
    for store in some:
        store.change(reachable=True)
    await_true(lambda: statuses(pipeline, some) == {"active": len(some)}, "the recovery", within=PATIENCE)
    for store in some:
        kinds = [event["type"] for event in events(pipeline, store.name)]
        assert "occ.connection.unreachable" in kinds
        assert (
            kinds[-1] == "occ.connection.recovered"
        )  # by way of degraded, if a slot was being looked at when it began
    assert operator_events(pipeline) == operators


def with_events(
    pipeline: Pipeline, stores: list[SimulatedStore]
) -> list[tuple[SimulatedStore, list[dict[str, object]]]]:
    """Each store with what was told of its merchant."""
    told: dict[object, list[dict[str, object]]] = {store.name: [] for store in stores}
    after = ""
    while page := pipeline.records.events(after=after):
        for _, event in page:
            told.setdefault(event["subject"], []).append(event)
        after = page[-1][0]
    return [(store, told[store.name]) for store in stores]
