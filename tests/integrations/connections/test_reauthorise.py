"""A new key for a connection that works has to prove itself; until then, and if it does not, the old one goes on."""

import json
from dataclasses import replace

import pytest

from integrations.connections.record import KeyVerdict
from integrations.oracle_commerce.application_key import fingerprint
from occ.simulator.application_keys import make_application_key
from occ.simulator.store import SimulatedStore
from tests.integrations.oracle_commerce.by_hand import SECOND, THEIRS, Desk, connected
from tests.integrations.oracle_commerce.fakes import NOON, SHIPPING, SLOTS, VALIDATE, slot

REGISTERED = dict.fromkeys(SLOTS, "registered")
SIX = {"login": 1, "shipping_methods": 1, "read_slot": 4}


def new_key() -> str:
    return make_application_key(issued_at=NOON, lifetime=None)


def has_candidate(desk: Desk) -> bool:
    return desk.records.load("m-1").sealed_candidate is not None


def is_unharmed(desk: Desk, store: SimulatedStore) -> None:
    """Whatever became of the new key: the connection works as before, with the old one."""
    assert desk.status == "active"
    assert desk.slots == REGISTERED
    assert desk.connection.credential.verdict is KeyVerdict.VALID
    assert desk.connection.credential.fingerprint == fingerprint(store.application_key)
    assert desk.connection.run == 1
    assert desk.kept_key() == store.application_key
    assert not has_candidate(desk)
    assert store.calls.endpoints["write_slot"] == 0


# --- A good new key --------------------------------------------------------------------------------------------------


def test_a_good_new_key_takes_over_once_shipping_methods_were_read_with_it() -> None:
    desk, store = connected()
    old, new = store.application_key, new_key()
    store.change(accept_keys=[new])
    assert desk.connect(store, new).started
    assert (desk.kept_key(), desk.connection.run, desk.status) == (old, 1, "active")

    desk.message("m-1", 1, VALIDATE)
    assert (desk.kept_key(), desk.connection.run) == (old, 1), "an exchange is not enough"
    assert desk.events() == []

    desk.message("m-1", 1, SHIPPING)
    assert (desk.kept_key(), desk.connection.run) == (new, 2)
    assert not has_candidate(desk)
    assert desk.events() == ["reauthorised"]
    assert desk.last_events[0]["data"].items() >= {"fingerprint": fingerprint(new), "run": 2}.items()

    desk.at_once()
    assert (desk.status, desk.slots, desk.findings()) == ("active", REGISTERED, [])
    assert desk.events() == []
    assert dict(store.calls.endpoints) == SIX | {"read_slot": 5}, "one look at a slot more; nothing is written"


def test_after_it_took_over_the_old_key_may_be_revoked() -> None:
    desk, store = connected()
    old, new = store.application_key, new_key()
    store.change(accept_keys=[new])
    desk.connect(store, new)
    desk.at_once()
    store.change(revoke_keys=[old], kill_tokens=True)
    desk.wait(3 * 86400)
    assert (desk.status, desk.findings(), desk.events()) == ("active", [], ["reauthorised"])


def test_tasks_of_the_run_before_end_quietly() -> None:
    desk, store = connected()
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    desk.message("m-1", 1, VALIDATE)
    desk.message("m-1", 1, SHIPPING)
    before = desk.connection
    for target in (VALIDATE, SHIPPING, *map(slot, SLOTS)):
        assert desk.message("m-1", 1, target) == {"outcome": "nothing_to_do", "reason": "superseded"}
    assert desk.connection == before


def test_a_look_that_was_under_way_with_the_old_key_does_not_speak_for_the_new_one() -> None:
    desk, store = connected()
    desk.revalidate()
    desk.hold(VALIDATE)
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    candidate = desk.connection.candidate
    assert desk.connection.ready(desk.now) == {VALIDATE}, "it need not wait for the lease"
    assert candidate is not None
    desk.at_once()
    assert desk.kept_key() == new


def test_the_same_new_key_asked_for_again_starts_nothing() -> None:
    desk, store = connected()
    store.change(accept_keys=[new := new_key()])
    assert desk.connect(store, new).started
    before = desk.records.load("m-1").version
    for _ in range(3):
        assert not desk.connect(store, new).started
    assert desk.records.load("m-1").version == before
    desk.at_once()
    assert not desk.connect(store, new).started
    assert desk.events() == ["reauthorised"]


def test_a_further_new_key_takes_the_place_of_the_one_that_is_being_proven() -> None:
    desk, store = connected()
    wrong, right = new_key(), new_key()
    store.change(accept_keys=[right])
    desk.connect(store, wrong)
    desk.at_once()
    assert desk.findings() == [("new_key_doubted", None)]
    desk.connect(store, right)
    desk.at_once()
    assert desk.kept_key() == right
    desk.wait(3600)
    assert desk.events() == ["reauthorised"]
    assert desk.findings() == []


# --- A new key that does not prove itself ----------------------------------------------------------------------------


def test_a_wrong_new_key_harms_nothing_and_is_told_of_once() -> None:
    desk, store = connected()
    wrong = new_key()
    desk.connect(store, wrong)
    desk.at_once()
    assert (desk.status, desk.findings()) == ("active", [("new_key_doubted", None)])
    assert desk.events() == []
    desk.wait(desk.pace.confirm_rejection - 1)
    assert has_candidate(desk), "the second exchange decides, some minutes later"
    desk.wait(1)
    is_unharmed(desk, store)
    assert desk.events() == ["reauthorisation_failed"]
    refused = desk.last_events[0]["data"]
    assert refused.items() >= {"fingerprint": fingerprint(wrong), "code": "key_rejected"}.items()
    assert desk.findings() == [("new_key_rejected", None)]
    desk.wait(5 * 86400)
    is_unharmed(desk, store)
    assert desk.events() == []


NARROW = {"fault": "forbidden_role", "times": "always"}


@pytest.mark.parametrize("call", ["shipping_methods", "read_slot"])
def test_a_new_key_of_too_narrow_a_role_is_turned_down_at_once(call: str) -> None:
    desk, store = connected()
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    desk.message("m-1", 1, VALIDATE)
    store.fail(call, NARROW)
    desk.message("m-1", 1, SHIPPING)
    store.heal()  # the old one may
    store.reset_counts()
    desk.at_once()
    is_unharmed(desk, store)
    assert dict(store.calls.endpoints) == SIX, "the look with the old key follows at once"
    assert desk.events() == ["reauthorisation_failed"]
    assert desk.last_events[0]["data"]["code"] == "permission_denied"
    assert desk.findings() == [("new_key_rejected", None)]
    assert desk.connection.key_refusal is not None


def test_a_key_turned_down_may_be_sent_again() -> None:
    desk, store = connected()
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    store.fail("shipping_methods", NARROW)
    desk.message("m-1", 1, VALIDATE)
    desk.message("m-1", 1, SHIPPING)
    store.heal()
    desk.at_once()
    assert desk.connect(store, new).started
    desk.at_once()
    assert desk.events() == ["reauthorisation_failed", "reauthorised"]
    assert (desk.kept_key(), desk.findings()) == (new, [])


@pytest.mark.parametrize("status", [404, 400, 405])
def test_a_store_without_the_first_slot_does_not_speak_against_the_new_key(status: int) -> None:
    """The settings may name a slot that this store lacks; that is known of it, and no news about the key."""
    desk = Desk()
    store = desk.store(slots={SLOTS[0]: None}, unknown_slot_status=status)
    desk.connect(store)
    desk.wait(600)
    assert desk.events() == ["onboarding", "degraded"]
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    desk.at_once()
    assert desk.events() == ["reauthorised"]
    assert desk.kept_key() == new


def test_a_new_key_that_can_no_longer_be_opened_harms_nothing() -> None:
    """Its sealing key was retired in the minutes between."""
    desk, store = connected()
    desk.connect(store, new_key())
    desk.records.kept["m-1"] = replace(desk.records.load("m-1"), sealed_candidate="sealed.v1.gone.AAAA")
    desk.at_once()
    is_unharmed(desk, store)
    assert desk.events() == ["reauthorisation_failed"]


@pytest.mark.parametrize("call", ["login", "shipping_methods", "read_slot"])
def test_a_new_key_that_is_refused_in_a_way_we_do_not_know_harms_nothing(call: str) -> None:
    desk, store = connected()
    store.change(accept_keys=[new := new_key()])
    desk.connect(store, new)
    store.fail(call, {"fault": "status", "status": 422, "times": 1})
    while desk.connection.candidate is not None:
        desk.one()
    store.reset_counts()
    desk.at_once()
    is_unharmed(desk, store)
    assert dict(store.calls.endpoints) == SIX
    assert desk.events() == ["reauthorisation_failed"]


def test_a_wait_the_store_asked_for_outlasts_a_new_key() -> None:
    desk, store = connected()
    store.fail("read_slot:order-update", {"fault": "throttled", "retry_after": 3600, "times": 1})
    desk.revalidate()
    desk.at_once()
    store.change(accept_keys=[new := new_key()])
    store.reset_counts()
    desk.connect(store, new)
    desk.wait(3599)
    assert store.calls.slots["read_slot:order-update"] == 0
    desk.wait(1)
    assert store.calls.slots["read_slot:order-update"] == 1


# --- Beside other wishes ---------------------------------------------------------------------------------------------


def test_a_new_key_is_forgotten_when_the_connection_is_disconnected() -> None:
    desk, store = connected()
    desk.connect(store, new_key())
    desk.disconnect()
    assert not has_candidate(desk)
    assert desk.kept_key() == store.application_key, "it is the one that is known to work"
    desk.at_once()
    assert desk.events() == ["disconnected"]
    assert [store.urls(name) for name in SLOTS] == [[THEIRS]] * 4


def test_a_new_key_that_goes_on_to_another_store_was_not_accepted_by_the_first() -> None:
    desk, store = connected()
    other = desk.store(SECOND)
    desk.connect(store, other.application_key)
    desk.connect(other)
    assert "reauthorised" not in desk.events()
    assert not has_candidate(desk)
    desk.wait(600)
    assert "reauthorised" not in desk.events()
    assert (desk.status, desk.connection.store_url) == ("active", SECOND)
    assert [store.urls(name) for name in SLOTS] == [[THEIRS]] * 4


def test_an_onboarding_goes_on_with_the_proven_key_when_the_new_one_is_wrong() -> None:
    desk = Desk()
    store = desk.store()
    store.fail("shipping_methods", {"fault": "unavailable", "seconds": 60})
    desk.connect(store)
    desk.at_once()
    desk.connect(store, new_key())
    desk.wait(900)
    assert desk.events() == ["onboarding", "reauthorisation_failed", "active"]
    assert desk.kept_key() == store.application_key


def test_an_event_about_a_new_key_tells_no_more_than_its_fingerprint() -> None:
    desk, store = connected()
    wrong = new_key()
    desk.connect(store, wrong)
    desk.wait(600)
    desk.events()
    text = json.dumps(desk.last_events)
    assert all(part not in text for part in (wrong, *wrong.split(".")[1:], "sealed.v1"))
