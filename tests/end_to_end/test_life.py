"""What comes after connecting: re-validations, a new key, another store, disconnecting. Real workers, server and HTTP.

What each store and each request makes of a connection is shown in memory, in `tests/integrations/connections` and
`tests/integrations/oracle_commerce`; here is what only processes, a server and messages can get wrong.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from integrations.oracle_commerce.application_key import fingerprint
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.end_to_end.requests import (
    A_REVALIDATION,
    CARRYING_THEIRS,
    SLOTS,
    THEIRS,
    Log,
    ask,
    assert_both_are_in,
    assert_nothing_foreign_was_lost,
    assert_only_theirs_are_in,
    await_forgotten,
    await_true,
    calls,
    connect,
    disconnect,
    findings,
    history,
    is_at_rest,
    ours,
    revalidate,
    slot_statuses,
    told,
    where,
)
from tests.pipeline import Pipeline, running

pytestmark = [pytest.mark.end_to_end, pytest.mark.server]

NewStore = Callable[..., SimulatedStore]


# --- Re-validations ---------------------------------------------------------------------------------------------------


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
    counted: dict[str, int] = {}

    def two_looks_are_over() -> bool:
        counted.update(calls(store))
        return counted["login"] >= 3 and is_at_rest(restless.connection(store.name)) and counted == calls(store)

    await_true(two_looks_are_over, "two looks")
    looks = counted["login"] - 1
    assert counted == {
        "login": 1 + looks,
        "shipping_methods": 1 + looks,
        "read_slot": 4 + 4 * looks,
        "write_slot": 4,
    }
    assert history(restless, store.name, "look_asked") == []
    # A line is written after what it tells of.
    await_true(lambda: recorded_by(restless, store).count("occ.revalidate_key") >= 2, "the lines about two looks")
    assert recorded_by(restless, store).count("occ.validate_key") == 1, "the first exchange, and no other"


def recorded_by(pipeline: Pipeline, store: SimulatedStore) -> list[str]:
    """The tasks that recorded an outcome for a store, as the logs of the workers tell."""
    written = (pipeline.output(name).rpartition(b"\n")[0] for name in pipeline.processes)
    lines = (json.loads(line) for whole in written for line in whole.splitlines() if line)
    return [line["task"] for line in lines if line.get("merchant_id") == store.name and line["event"] == "recorded"]


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


# --- A new key, or another store --------------------------------------------------------------------------------------


def send_key(pipeline: Pipeline, store: SimulatedStore, key: str) -> str:
    """The merchant supplies another key, which the store may or may not know; how it was sealed."""
    right, store.application_key = store.application_key, key
    try:
        request = pipeline.request(store)
    finally:
        store.application_key = right
    pipeline.send(request)
    return str(request["application_key"])


def await_run(pipeline: Pipeline, store: SimulatedStore, run: int) -> None:
    """Until this run has reached its end."""

    def over() -> bool:
        connection = pipeline.connection(store.name)
        return connection is not None and connection.run == run and is_at_rest(connection)

    await_true(over, f"run {run} to end")


def await_refusal(pipeline: Pipeline, store: SimulatedStore) -> None:
    """Until the new key was turned down, and the old one has gone on."""

    def over() -> bool:
        connection = pipeline.connection(store.name)
        return connection is not None and connection.key_refusal is not None and is_at_rest(connection)

    await_true(over, "the new key to be turned down")


def assert_unharmed(pipeline: Pipeline, store: SimulatedStore) -> None:
    """Connected as before, with the key from before; only the finding and its event tell of the attempt."""
    status = pipeline.status(store.name)
    assert (status["status"], status["run"]) == ("active", 1)
    assert status["credential"]["fingerprint"] == fingerprint(store.application_key)
    assert status["credential"]["verdict"] == "valid"
    assert set(slot_statuses(status).values()) == {"registered"}
    assert findings(status) == [("new_key_rejected", None)]
    assert told(pipeline, store.name) == ["onboarding", "active", "reauthorisation_failed"]
    assert_both_are_in(store)
    assert calls(store)["write_slot"] == 4
    assert_nothing_foreign_was_lost([store])


def test_a_wrong_new_key_does_not_harm_a_working_connection(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    sealed = send_key(shared, store, make_application_key(subject="of another store"))
    await_true(lambda: findings(shared.status(store.name)) == [("new_key_doubted", None)], "the doubt")
    assert shared.status(store.name)["status"] == "active"
    await_refusal(shared, store)
    assert_unharmed(shared, store)
    assert store.calls.statuses["login 401"] == 2, "a second exchange decides"
    await_true(lambda: not where(shared, sealed), "the new key to be forgotten")
    (refused,) = history(shared, store.name, "new_key_rejected")
    followed = history(shared, store.name, "validate_key_done")[-1]
    assert followed["started_at"] - refused["at"] < float(shared.environment["OCC_LEASE"]), (
        "the old key goes on at once"
    )
    store.reset_counts()
    revalidate(shared, store)
    assert calls(store) == A_REVALIDATION


def test_a_good_new_key_takes_over_and_the_old_one_is_never_used_again(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    old_request = shared.request(store)
    shared.send(old_request)
    shared.await_end(store.name)
    old, new = store.application_key, make_application_key(subject="renewed")
    store.change(application_key=new)
    store.reset_counts()
    new_sealed = send_key(shared, store, new)
    await_run(shared, store, 2)
    store.change(revoke_keys=[old])
    assert {call.token for call in store.calls.entries if call.endpoint != "login"} == {2}, "bought with the new key"
    store.kill_tokens()
    revalidate(shared, store)
    assert store.calls.statuses["login 401"] == 0
    assert calls(store) == {"login": 2, "shipping_methods": 2, "read_slot": 9}  # one to see that the new key may
    status = shared.status(store.name)
    assert (status["status"], status["findings"]) == ("active", [])
    assert status["credential"]["fingerprint"] == fingerprint(new)
    assert told(shared, store.name) == ["onboarding", "active", "reauthorised"]
    await_true(lambda: not where(shared, str(old_request["application_key"])), "the old key to be forgotten")
    assert where(shared, new_sealed) == [f"occ:connection:{store.name}"]


def test_a_merchant_who_moves_leaves_nothing_of_ours_in_the_old_store(shared: Pipeline, new_store: NewStore) -> None:
    old, new = new_store(slots=CARRYING_THEIRS), new_store(slots=CARRYING_THEIRS)
    merchant = old.name
    request = shared.request(old)
    shared.send(request)
    shared.await_end(merchant)
    shared.send(shared.request(new, merchant))
    shared.await_end(merchant, run=2)
    assert_only_theirs_are_in(old)
    for slot in SLOTS:
        assert new.urls(slot) == [THEIRS, ours(merchant, slot)]
    status = shared.status(merchant)
    assert (status["status"], status["run"], status["store_url"]) == ("active", 2, new.url)
    assert old.calls.statuses["login 401"] == new.calls.statuses["login 401"] == 0, "each store saw its own key only"
    assert max(call.arrived for call in old.calls.entries) < min(call.arrived for call in new.calls.entries)
    former = shared.status(f"{merchant}@1")
    assert (former["status"], former["store_url"]) == ("disconnected", old.url)
    assert set(slot_statuses(former).values()) == {"removed"}
    assert_nothing_foreign_was_lost([old, new])
    await_forgotten(shared, f"{merchant}@1", str(request["application_key"]))
    assert told(shared, merchant) == ["onboarding", "active", "onboarding", "active"], "the old store is nobody's news"
    look_at = calls(new)
    shared.send(shared.request(new, merchant))
    connect(shared, new_store())
    assert calls(new) == look_at, "the same again is nothing new"


# --- Disconnecting ----------------------------------------------------------------------------------------------------


def connected(pipeline: Pipeline, *stores: SimulatedStore) -> list[str]:
    """Connect these; how their keys were sealed."""
    requests = [pipeline.request(store) for store in stores]
    for request in requests:
        pipeline.send(request)
    pipeline.await_end(*(store.name for store in stores))
    return [str(request["application_key"]) for request in requests]


def test_a_disconnected_store_has_nothing_of_ours_and_we_nothing_of_its_key(
    shared: Pipeline, new_store: NewStore
) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    (sealed,) = connected(shared, store)
    store.reset_counts()
    disconnect(shared, store)
    assert_only_theirs_are_in(store)
    assert_nothing_foreign_was_lost([store])
    assert (calls(store)["write_slot"], calls(store)["read_slot"]) == (4, 8), "each slot is looked at again"
    await_forgotten(shared, store.name, sealed)
    status = shared.status(store.name)
    assert set(slot_statuses(status).values()) == {"removed"}
    assert (status["findings"], status["due_at"]) == ([], None)
    assert told(shared, store.name) == ["onboarding", "active", "disconnected"]
    assert len(history(shared, store.name, "slot_removed")) == 4
    assert len(history(shared, store.name, "key_forgotten")) == 1


def test_a_key_is_forgotten_at_once_on_request(shared: Pipeline, new_store: NewStore) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    (sealed,) = connected(shared, store)
    store.reset_counts()
    disconnect(shared, store, forget="now")
    await_forgotten(shared, store.name, sealed)
    assert calls(store) == {}, "without the key there is nothing to be done"
    status = shared.status(store.name)
    assert set(slot_statuses(status).values()) == {"left_behind"}
    assert findings(status) == [("left_behind", slot) for slot in SLOTS]
    assert status["due_at"] is None
    assert_both_are_in(store)


def test_a_write_under_way_in_a_run_or_a_look_does_not_put_our_url_back(shared: Pipeline, new_store: NewStore) -> None:
    # What it has read is old when it writes: that is when a removal that did not wait would come too early.
    # A look reads a slot once more, before its own task does.
    slow = {"fault": "slow", "delay": 1.5}
    reads: list[list[object]] = [[slow], ["healthy", slow]]
    targets = [f"read_slot:{slot}" for slot in SLOTS[:2]]
    connecting, looked_at = stores = new_store(slots=CARRYING_THEIRS), new_store(slots=CARRYING_THEIRS)
    sealed = connected(shared, looked_at)
    for slot in SLOTS[:2]:
        looked_at.rival_writes(slot, THEIRS, how="replace")
    request = shared.request(connecting)
    for store, script in zip(stores, reads, strict=True):
        store.reset_counts()
        store.change(faults=dict.fromkeys(targets, script))
    shared.send(request)
    ask(shared, "occ.revalidate", merchant_id=looked_at.name)
    read = [[len(script)] * len(targets) for script in reads]
    await_true(
        lambda: [[it.calls.slots[target] for target in targets] for it in stores] == read, "the slots to be read"
    )
    disconnect(shared, *stores)
    await_true(lambda: not any(store.calls.in_flight.now for store in stores), "all calls to be over")
    for store, key in zip(stores, (str(request["application_key"]), *sealed), strict=True):
        assert_only_theirs_are_in(store)
        for slot in SLOTS[:2]:
            assert store.calls.slots[f"write_slot:{slot}"] == 2, "put in, and taken out"
        assert set(slot_statuses(shared.status(store.name)).values()) == {"removed"}
        await_forgotten(shared, store.name, key)
    assert_nothing_foreign_was_lost(stores)


def test_a_login_under_way_does_not_leave_an_access_token(shared: Pipeline, new_store: NewStore) -> None:
    stores = {asked: new_store(faults={"login": [{"fault": "slow", "delay": 1.2}]}) for asked in ("now", "end")}
    requests = [shared.request(store) for store in stores.values()]
    for request in requests:
        shared.send(request)
    await_true(lambda: all(calls(store).get("login") for store in stores.values()), "the logins")
    for asked, store in stores.items():
        disconnect(shared, store, forget=asked)
    for store, request in zip(stores.values(), requests, strict=True):
        await_true(lambda store=store: store.calls.in_flight.now == 0, "all calls to be over")  # type: ignore[misc]
        await_forgotten(shared, store.name, str(request["application_key"]))
        assert set(slot_statuses(shared.status(store.name)).values()) == {"removed"}
        assert "write_slot" not in calls(store)
    connect(shared, new_store())  # by now the late logins have told what they got
    for store in stores.values():
        assert not shared.redis.exists(f"occ:token:{store.name}")


Refused = tuple[tuple[object, ...], dict[str, object], str, str]
"""Positional and named arguments; field and code of the refusal."""

MALFORMED: dict[str, Refused] = {
    "unknown merchant": ((), {"merchant_id": "nobody-has-connected-me"}, "merchant_id", "unknown_connection"),
    "a number": ((), {"merchant_id": 5}, "merchant_id", "not_text"),
    "no merchant": ((), {}, "merchant_id", "missing"),
    "not an id": ((), {"merchant_id": "a b|c"}, "merchant_id", "bad_merchant_id"),
    "unknown field": ((), {"merchant_id": "m", "colour": "red"}, "request", "unknown_field"),
    "positional": (("m",), {}, "request", "not_an_object"),
}
CHOICES = {"occ.revalidate": ("repair", "yes"), "occ.disconnect": ("forget", "tomorrow")}


@pytest.mark.parametrize("task", CHOICES)
def test_a_wish_nobody_can_grant_is_refused_with_field_and_remedy(shared: Pipeline, task: str) -> None:
    shared.redis.delete("occ:refused")
    log = Log(shared)
    option, choice = CHOICES[task]
    cases: dict[str, Refused] = {
        **MALFORMED,
        "unknown choice": ((), {"merchant_id": "m", option: choice}, option, "unknown_choice"),
    }
    for args, asked, _, _ in cases.values():
        ask(shared, task, *args, **asked)
    await_true(lambda: len(shared.records.refusals()) == len(cases), "the refusals")
    refusals = shared.records.refusals()
    assert sorted((refusal["field"], refusal["code"]) for refusal in refusals) == sorted(
        (field, code) for _, _, field, code in cases.values()
    )
    assert all(refusal["remedy"] and refusal["door"] == "celery" for refusal in refusals)
    assert "Traceback" not in log.text()
    assert shared.connection("m") is None


@pytest.mark.parametrize("task", CHOICES)
def test_what_looks_like_a_message_of_ours_harms_nobody(shared: Pipeline, new_store: NewStore, task: str) -> None:
    store = new_store(slots=CARRYING_THEIRS)
    connect(shared, store)
    before, log = calls(store), Log(shared)
    shared.redis.delete("occ:refused")
    late: list[dict[str, object]] = [
        {"merchant_id": "nobody-has-connected-me", "run": 1, "slot": "order-submit"},
        {"merchant_id": store.name, "run": 99},
        {"merchant_id": store.name, "run": 1, "slot": "no-such-slot"},
    ]
    malformed: list[dict[str, object]] = [
        {"run": 1},
        {"merchant_id": 5, "run": 1},
        {"merchant_id": store.name, "run": "1", "slot": "order-submit"},
        {"merchant_id": store.name, "run": 1, "slot": ["order-submit"]},
    ]
    for asked in (*late, *malformed):
        ask(shared, task, **asked)
    connect(shared, new_store())
    await_true(lambda: len(shared.records.refusals()) == len(malformed), "the refusals")
    assert calls(store) == before
    assert shared.status(store.name)["status"] == "active"
    assert "Traceback" not in log.text()
