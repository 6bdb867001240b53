"""When it is us, or the platform's login: merchants hear nothing and keep their keys, operators get one event.

Who hears what, with any number and mixture, is shown in `tests/integrations/outages`.

`TEST_MERCHANTS=1000` runs the full number.
"""

import os
from collections.abc import Iterator

import pytest

from integrations.connections.record import KeyVerdict
from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import ask, await_true, connect, events
from tests.pipeline import Pipeline, running

pytestmark = pytest.mark.end_to_end

MERCHANTS = int(os.environ.get("TEST_MERCHANTS", "24"))
PATIENCE = 60 + MERCHANTS / 4  # seconds
SETTINGS = {
    "OCC_OUTAGE_SHARE": "0.3",
    "OCC_OUTAGE_MERCHANTS": "20",
    "OCC_OUTAGE_WINDOW": "30",  # seconds in which a busy machine looks at all of them
    "OCC_RECHECK_DEGRADED": "5",
    "OCC_RETRY_ATTEMPTS": "4",
    "OCC_CONFIRM_REJECTION": "2",
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


@pytest.mark.timeout(PATIENCE * 10)
def test_an_outage_of_ours_is_told_to_operators_and_to_no_merchant(
    pipeline: Pipeline, stores: list[SimulatedStore]
) -> None:
    before = {store.name: len(told) for store, told in with_events(pipeline, stores)}
    operators = operator_events(pipeline)
    for store in stores:
        store.change(reachable=False)
    revalidate_all(pipeline, stores)
    await_true(lambda: statuses(pipeline, stores) == {"unreachable": MERCHANTS}, "the outage", within=PATIENCE)
    assert operator_events(pipeline) == [*operators, "outage_started"], events(pipeline, "operator")
    assert {store.name: len(told) for store, told in with_events(pipeline, stores)} == before

    for store in stores:
        store.change(reachable=True)
    await_true(lambda: operator_events(pipeline)[-1] == "outage_ended", "the end of the outage", within=PATIENCE)
    await_true(lambda: statuses(pipeline, stores) == {"active": MERCHANTS}, "all to be active", within=PATIENCE)
    await_true(lambda: not pipeline.redis.zcard("occ:held"), "nothing to be held", within=PATIENCE)
    assert operator_events(pipeline) == [*operators, "outage_started", "outage_ended"]
    assert {store.name: len(told) for store, told in with_events(pipeline, stores)} == before


@pytest.mark.timeout(PATIENCE * 10)
def test_a_login_that_refuses_everybody_costs_nobody_his_key(pipeline: Pipeline, stores: list[SimulatedStore]) -> None:
    before = {store.name: len(told) for store, told in with_events(pipeline, stores)}
    operators = operator_events(pipeline)
    for store in stores:
        store.change(revoke_keys=True, kill_tokens=True)
    logins = {store.name: store.calls.endpoints["login"] for store in stores}
    revalidate_all(pipeline, stores)
    await_true(
        lambda: all(store.calls.endpoints["login"] >= logins[store.name] + 3 for store in stores),
        "everybody to be asked three times, where two are a verdict",
        within=PATIENCE,
    )
    assert operator_events(pipeline) == [*operators, "outage_started"]
    assert events(pipeline, "operator")[-1]["data"]["kind"] == "key"
    for store in stores:
        store.change(accept_keys=[store.application_key])
    await_true(lambda: not doubted(pipeline, stores), "all keys to be known to work", within=PATIENCE)
    await_true(lambda: operator_events(pipeline)[-1] == "outage_ended", "the end of the outage", within=PATIENCE)
    assert statuses(pipeline, stores) == {"active": MERCHANTS}
    assert {store.name: len(told) for store, told in with_events(pipeline, stores)} == before


def doubted(pipeline: Pipeline, stores: list[SimulatedStore]) -> list[str]:
    """Whose keys were refused the last time."""
    found = [it.connection for it in pipeline.records.load_many([store.name for store in stores])]
    return [it.merchant_id for it in found if it is not None and it.credential.verdict is not KeyVerdict.VALID]


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
