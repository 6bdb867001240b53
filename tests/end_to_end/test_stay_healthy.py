"""A connection is looked at again and again: what is ours to mend is mended, the rest is told, once."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from occ.simulator.store import SimulatedStore
from tests.end_to_end.conftest import BRISK_IDS
from tests.end_to_end.requests import (
    A_REVALIDATION,
    CARRYING_THEIRS,
    SLOTS,
    THEIRS,
    assert_both_are_in,
    assert_nothing_foreign_was_lost,
    await_second_revalidation,
    await_true,
    calls,
    connect,
    events,
    findings,
    history,
    is_at_rest,
    ours,
    revalidate,
    slot_statuses,
    told,
)
from tests.pipeline import Pipeline, running

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]
ALWAYS = {"times": "always"}
OURS_BEGIN_WITH = "https://hooks.example.com/"
REPAIRS_PER_DAY = 3  # the default


# --- Looks ------------------------------------------------------------------------------------------------------------


def test_a_healthy_look_is_six_calls_and_no_write(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    before = told(shared, store.name)
    store.reset_counts()
    revalidate(shared, store)
    assert calls(store) == A_REVALIDATION
    status = shared.status(store.name)
    assert (status["status"], status["run"], status["findings"]) == ("active", 1, [])
    assert told(shared, store.name) == before, "nothing has happened that anybody needs to know"
    assert_both_are_in(store)


def test_an_access_token_that_still_lives_does_not_stand_in_for_the_key(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store()
    connect(shared, store)
    store.reset_counts()
    for _ in range(2):
        revalidate(shared, store)
    assert calls(store) == {name: 2 * count for name, count in A_REVALIDATION.items()}


@pytest.fixture(scope="module")
def restless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """One whose period is 5 s, slow enough to be hit in mid-look."""
    settings = {
        "OCC_REVALIDATE_EVERY": "5",
        "OCC_SECOND_LOOK": "1",
        "OCC_LEASE": "6",
        "OCC_CALL_DEADLINE": "1",
        "OCC_CONCURRENCY": "6",
    }
    pipeline = Pipeline(tmp_path_factory.mktemp("restless"), settings=settings, latency=0.1)
    with running(pipeline) as pipeline:
        yield pipeline


def test_looks_come_by_themselves_when_they_are_due(restless: Pipeline) -> None:
    store = restless.simulator.add("by-itself", slots=CARRYING_THEIRS)
    connect(restless, store)
    await_true(lambda: calls(store)["login"] >= 3 and is_at_rest(restless.connection(store.name)), "two looks")
    looks = calls(store)["login"] - 1
    assert calls(store) == {
        "login": 1 + looks,
        "shipping_methods": 1 + looks,
        "read_slot": 4 + 4 * looks,
        "write_slot": 4,
    }
    assert history(restless, store.name, "look_asked") == []
    lines = (json.loads(line) for name in restless.processes for line in restless.output(name).splitlines() if line)
    tasks = [line["task"] for line in lines if line.get("merchant_id") == store.name and line["event"] == "recorded"]
    assert tasks.count("occ.revalidate_key") >= 2
    assert tasks.count("occ.validate_key") == 1, "the first exchange, and no other"


def test_a_worker_killed_amid_looks_and_repairs_costs_nobody_a_url(restless: Pipeline) -> None:
    stores = [restless.simulator.add(f"amid-looks-{number}", slots=CARRYING_THEIRS) for number in range(6)]
    connect(restless, *stores)
    broken = stores[::2]
    written = {store.name: calls(store)["write_slot"] for store in broken}
    for store in broken:
        for slot in SLOTS:
            store.rival_writes(slot, THEIRS, how="replace")
    await_true(lambda: any(calls(store)["write_slot"] > written[store.name] for store in broken), "a first repair")
    worker = next(name for name in restless.processes if name.startswith("worker"))
    restless.kill(worker, signal.SIGKILL)
    killed_at = time.time()
    assert any(store.urls(slot) == [THEIRS] for store in broken for slot in SLOTS), "some are yet to be mended"
    restless.start_worker()

    def all_are_well() -> bool:
        return all(
            (connection := restless.connection(store.name)) is not None
            and connection.updated_at > killed_at
            and is_at_rest(connection)
            and all(len(store.urls(slot)) == 2 for slot in SLOTS)
            for store in stores
        )

    await_true(all_are_well, "all to be well")
    for store in stores:
        assert restless.status(store.name)["status"] == "active"
        assert_both_are_in(store)
        assert {"needs_reauthorisation", "unreachable", "degraded"}.isdisjoint(told(restless, store.name))
        assert len(history(restless, store.name, "slot_repaired")) <= (4 if store in broken else 0)
    assert_nothing_foreign_was_lost(stores)


# --- Drift ------------------------------------------------------------------------------------------------------------


def test_a_store_that_drops_our_url_is_mended_at_the_second_look(brisk: Pipeline, new_brisk_store: NewStore) -> None:
    filled = {slot_id: {"urls": [THEIRS]} for slot_id in BRISK_IDS.values()}
    store = new_brisk_store(drops_url_after=0.3, drops_times=1, slots=filled)
    connect(brisk, store)
    await_true(lambda: len(history(brisk, store.name, "slot_repaired")) == 4, "the repairs")
    await_second_revalidation(brisk, store)
    for slot, slot_id in BRISK_IDS.items():
        assert store.urls(slot_id) == [THEIRS, ours(store.name, slot)]
    assert_nothing_foreign_was_lost([store])
    repairs = history(brisk, store.name, "slot_repaired")
    assert {line["slot"]: (line["wrote"], line["drift"]) for line in repairs} == dict.fromkeys(
        SLOTS, (True, ["url_missing"])
    )
    assert told(brisk, store.name) == ["onboarding", "active", *["drifted"] * 4]
    assert calls(store)["write_slot"] == 8


DRIFTING = "order-submit"


@dataclass(frozen=True)
class DriftCause:
    """One way for a slot to change, and what is to come of it. `left`: the URLs in it afterwards beside theirs."""

    disturb: Callable[[SimulatedStore, str], None]
    status: str = "active"
    slot_status: str = "registered"
    mended: bool = True
    finding: str | None = None
    prior: Mapping[str, object] | None = None


def filled_with(*urls: str) -> Callable[[SimulatedStore, str], None]:
    """Somebody puts these into the slot; OURS stands for our callback URL."""
    return lambda store, callback_url: store.change(
        slots={DRIFTING: {"urls": [url.replace("OURS", callback_url) for url in urls]}}
    )


CAUSES = {
    "url_missing": DriftCause(filled_with(THEIRS)),
    "url_duplicated": DriftCause(filled_with("OURS", THEIRS, "OURS")),
    "url_changed": DriftCause(filled_with(THEIRS, "OURS?version=2")),
    "slot_gone": DriftCause(
        lambda store, _: store.change(slots={DRIFTING: None}),
        status="degraded",
        slot_status="not_offered",
        mended=False,
        finding="slot_not_offered",
    ),
    "settings_lost": DriftCause(
        lambda store, _: store.change(slots={DRIFTING: {"headers": None}}),
        mended=False,
        finding="settings_lost",
        prior={"headers": {"X-Team": "oms"}},
    ),
    "secret_reset": DriftCause(lambda store, _: store.reset_secret(DRIFTING), mended=False, finding="secret_reset"),
}


def test_every_cause_of_drift_is_told_apart_and_mended_where_it_is_ours(shared: Pipeline, new_store: NewStore) -> None:
    stores = {
        cause: new_store(
            slots={DRIFTING: {"urls": [THEIRS], **(drift.prior or {})}},
            own_urls_start_with=OURS_BEGIN_WITH,
            shows_secrets=True,
        )
        for cause, drift in CAUSES.items()
    }
    connect(shared, *stores.values())
    for cause, store in stores.items():
        store.reset_counts()
        CAUSES[cause].disturb(store, ours(store.name, DRIFTING))
    revalidate(shared, *stores.values())
    for cause, store in stores.items():
        assert_reported_and_mended(shared, store, cause)
    mended = [store for cause, store in stores.items() if CAUSES[cause].mended]
    revalidate(shared, *mended)
    for store in mended:
        assert "drift" not in shared.status(store.name)["slots"][DRIFTING], "all is in order again"
        assert len(told(shared, store.name)) == 3, "and there is nothing to tell"


def assert_reported_and_mended(shared: Pipeline, store: SimulatedStore, cause: str) -> None:
    expected = CAUSES[cause]
    status = shared.status(store.name)
    slot = status["slots"][DRIFTING]
    assert (status["status"], slot["status"], slot["drift"]) == (expected.status, expected.slot_status, [cause])
    assert findings(status) == ([(expected.finding, DRIFTING)] if expected.finding else []), cause
    assert drifts_reported(shared, store) == [(DRIFTING, [cause], expected.mended)]
    repairs = history(shared, store.name, "slot_repaired")
    assert [(line["slot"], line["drift"]) for line in repairs] == [(DRIFTING, [cause])] * expected.mended
    assert calls(store).get("write_slot", 0) == expected.mended, "one write where it is ours to mend"
    assert store.calls.slots[f"write_slot:{DRIFTING}"] == expected.mended
    if cause != "slot_gone":
        assert sorted(store.urls(DRIFTING)) == sorted([THEIRS, ours(store.name, DRIFTING)]), cause
    assert_nothing_foreign_was_lost([store])


def drifts_reported(pipeline: Pipeline, store: SimulatedStore) -> list[tuple[str, list[str], bool]]:
    """Slot, causes, and whether it was mended, of each event about drift."""
    drifted = [event["data"] for event in events(pipeline, store.name) if event["type"] == "occ.connection.drifted"]
    return [(data["slot"], data["drift"], data["repaired"]) for data in drifted]


def test_a_url_that_only_the_preview_carries_is_told_apart(brisk: Pipeline, new_brisk_store: NewStore) -> None:
    slot_id = BRISK_IDS["order-submit"]
    store = new_brisk_store(slots={slot_id: {"urls": [THEIRS]}}, own_urls_start_with=OURS_BEGIN_WITH)
    connect(brisk, store)
    await_second_revalidation(brisk, store)
    callback_url = ours(store.name, "order-submit")
    store.change(slots={slot_id: {"urls": [THEIRS]}, "publishing-submitOrder": {"urls": [callback_url]}})
    revalidate(brisk, store)
    assert drifts_reported(brisk, store) == [("order-submit", ["preview_only"], True)]
    assert store.urls(slot_id) == [THEIRS, callback_url]
    assert store.urls("publishing-submitOrder") == [callback_url], "not ours to touch"
    assert_nothing_foreign_was_lost([store])


def test_a_reset_secret_is_reported_until_people_confirm_it(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(shows_secrets=True)
    connect(shared, store)
    store.reset_secret("order-update")
    for _ in range(2):
        revalidate(shared, store)
        assert findings(shared.status(store.name)) == [("secret_reset", "order-update")]
    revalidate(shared, store, repair=True)
    assert findings(shared.status(store.name)) == []
    revalidate(shared, store)
    assert findings(shared.status(store.name)) == []
    assert told(shared, store.name).count("drifted") == 1
    assert calls(store)["write_slot"] == 4


def test_what_was_missed_meanwhile_is_counted(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    store.rival_writes("order-update", THEIRS, how="replace")
    for _ in range(3):
        store.give_up_delivery("order-update", [ours(store.name, "order-update")])
    store.give_up_delivery("order-update", [THEIRS])
    revalidate(shared, store)
    assert shared.status(store.name)["slots"]["order-update"]["missed_events"] == 3
    assert history(shared, store.name, "slot_repaired")[0]["missed_events"] == 3


# --- Rivals -----------------------------------------------------------------------------------------------------------

FOUGHT_OVER = "order-update"
UNDOES_US = {"url": THEIRS, "when": "after_write", "how": "undo", "slot": FOUGHT_OVER, **ALWAYS}


def test_a_slot_somebody_keeps_undoing_is_contested_until_people_decide(shared: Pipeline, new_store: NewStore) -> None:
    stores = {name: new_store(slots=CARRYING_THEIRS) for name in ("undone later", "undone at once", "after each look")}
    connect(shared, *stores.values())
    for store in stores.values():
        store.reset_counts()
        store.rival_writes(FOUGHT_OVER, THEIRS, how="replace")
    stores["undone later"].change(rivals=[UNDOES_US])
    stores["undone at once"].change(rivals=[UNDOES_US | {"seen_in_answer": True}])
    for _ in range(REPAIRS_PER_DAY + 2):
        revalidate(shared, *stores.values())
        stores["after each look"].rival_writes(FOUGHT_OVER, THEIRS, how="replace")
    for name, store in stores.items():
        assert_contested(shared, store, name)
    for store in stores.values():
        store.change(rivals=[])
        store.reset_counts()
    revalidate(shared, *stores.values())
    for store in stores.values():
        assert shared.status(store.name)["slots"][FOUGHT_OVER]["status"] == "contested", "people have yet to decide"
        assert "write_slot" not in calls(store)
    revalidate(shared, *stores.values(), repair=True)
    for name, store in stores.items():
        assert (name, shared.status(store.name)["status"]) == (name, "active")
        assert_both_are_in(store)
        assert calls(store)["write_slot"] == 1
        assert "recovered" in told(shared, store.name)[-2:]
    assert_nothing_foreign_was_lost(stores.values())


def assert_contested(shared: Pipeline, store: SimulatedStore, name: str) -> None:
    status = shared.status(store.name)
    others = dict.fromkeys(set(SLOTS) - {FOUGHT_OVER}, "registered")
    assert slot_statuses(status) == {FOUGHT_OVER: "contested", **others}, name
    assert (status["status"], findings(status)) == ("degraded", [("slot_contested", FOUGHT_OVER)])
    assert calls(store)["write_slot"] == store.calls.slots[f"write_slot:{FOUGHT_OVER}"] <= REPAIRS_PER_DAY
    assert store.urls(FOUGHT_OVER) == [THEIRS]
    assert told(shared, store.name).count("degraded") == 1, "people are told once"


def test_a_contested_slot_that_others_put_in_order_is_ours_again(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS, own_urls_start_with=OURS_BEGIN_WITH)
    connect(shared, store)
    for _ in range(REPAIRS_PER_DAY + 1):
        store.rival_writes(FOUGHT_OVER, THEIRS, how="replace")
        revalidate(shared, store)
    assert shared.status(store.name)["slots"][FOUGHT_OVER]["status"] == "contested"
    store.reset_counts()
    store.change(slots={FOUGHT_OVER: {"urls": [THEIRS, ours(store.name, FOUGHT_OVER)]}})
    revalidate(shared, store)
    assert shared.status(store.name)["status"] == "active"
    assert calls(store) == A_REVALIDATION


# --- The key ----------------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_one_event_at_the_second_exchange(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    store.reset_counts()
    store.change(revoke_keys=True, kill_tokens=True)
    revalidate(shared, store)
    assert shared.status(store.name)["status"] == "active", "one refusal is a doubt"
    assert findings(shared.status(store.name)) == [("key_doubted", None)]
    await_true(lambda: shared.status(store.name)["status"] == "needs_reauthorisation", "the verdict")
    assert calls(store) == {"login": 2}
    first, second = (call.arrived for call in store.calls.entries)
    assert second - first >= float(shared.environment["OCC_CONFIRM_REJECTION"])
    assert findings(shared.status(store.name)) == [("key_rejected", None)]
    revalidate(shared, store)
    assert told(shared, store.name) == ["onboarding", "active", "needs_reauthorisation"]
    assert_both_are_in(store)
    store.change(accept_keys=[store.application_key])
    revalidate(shared, store)
    assert told(shared, store.name)[3:] == ["recovered"]
    assert findings(shared.status(store.name)) == []


SHORT_REFUSALS: dict[str, dict[str, list[object]]] = {
    "of the key": {"login": [{"fault": "unauthorized", "seconds": 1}]},
    "of everything": {"*": [{"fault": "unauthorized", "seconds": 1}]},
    "as a page": {"login": [{"fault": "unauthorized", "shape": "html"}]},
    "of a token": {"shipping_methods": [{"fault": "unauthorized"}]},
}


def test_a_refusal_shorter_than_the_confirmation_is_no_event(shared: Pipeline, new_store: NewStore) -> None:
    stores = {name: new_store() for name in SHORT_REFUSALS}
    connect(shared, *stores.values())
    for name, store in stores.items():
        store.change(faults=SHORT_REFUSALS[name])
    revalidate(shared, *stores.values())
    for name, store in stores.items():
        await_true(lambda store=store: is_well(shared, store), f"the refusal {name} to pass")  # type: ignore[misc]
        assert told(shared, store.name) == ["onboarding", "active"], name


def is_well(pipeline: Pipeline, store: SimulatedStore) -> bool:
    """Whether a look has ended without anything to report."""
    status = pipeline.status(store.name)
    well = (status["status"], status["credential"]["verdict"], status["findings"]) == ("active", "valid", [])
    return well and is_at_rest(pipeline.connection(store.name))


# --- What passes ------------------------------------------------------------------------------------------------------


def test_shipping_methods_that_are_gone_are_told_and_noticed_when_they_are_back(
    brisk: Pipeline, new_brisk_store: NewStore
) -> None:
    store = new_brisk_store()
    connect(brisk, store)
    await_second_revalidation(brisk, store)
    store.change(shipping_methods=[])
    revalidate(brisk, store)
    status = brisk.status(store.name)
    assert (status["status"], findings(status)) == ("degraded", [("no_shipping_methods", None)])
    assert status["findings"][0]["next_attempt_at"] is not None
    assert set(slot_statuses(status).values()) == {"registered"}
    store.change(shipping_methods=2)
    await_true(lambda: is_well(brisk, store), "it to go on by itself")
    assert brisk.status(store.name)["shipping_methods"] == {"verdict": "configured", "enabled": 2}
    assert told(brisk, store.name) == ["onboarding", "active", "degraded", "recovered"]


def test_a_store_that_cannot_be_reached_needs_nobody_and_comes_back_by_itself(
    brisk: Pipeline, new_brisk_store: NewStore
) -> None:
    stores = away, failing = new_brisk_store(), new_brisk_store()
    connect(brisk, *stores)
    await_second_revalidation(brisk, *stores)
    away.change(reachable=False)
    failing.fail("shipping_methods", {"fault": 503, **ALWAYS})
    revalidate(brisk, *stores)
    await_true(
        lambda: {brisk.status(store.name)["status"] for store in stores} == {"unreachable"}, "them to be unreachable"
    )
    before = calls(failing)["shipping_methods"]
    await_true(lambda: calls(failing)["shipping_methods"] > before, "it to be looked at once more")
    away.change(reachable=True)
    failing.heal()
    await_true(lambda: all(is_well(brisk, store) for store in stores), "them to be back")
    for store in stores:
        assert told(brisk, store.name) == ["onboarding", "active", "unreachable", "recovered"]
