"""Acceptance begins one run for one request, however often and through whichever door it comes, or refuses it whole."""

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from threading import Barrier

import pytest
import redis

from integrations.connections.change import Change, Keys, Moment, Stop
from integrations.connections.lifecycle import claims, outcomes
from integrations.connections.lifecycle.claims import claim
from integrations.connections.lifecycle.outcomes import KeyProven
from integrations.connections.record import Connection, ConnectionStatus, Step, Target
from integrations.connections.records import Records
from integrations.errors import RequestRefused
from integrations.oracle_commerce.accept import Acceptance, Accepted, Door
from integrations.sealing.keyring import Keyring, SealingKey, seal
from integrations.settings import Settings
from occ.simulator.application_keys import make_application_key
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import SLOTS, VALIDATE
from tests.usual import PACE

pytestmark = pytest.mark.server

OURS, RETIRED, STRANGE = SealingKey.generate(), SealingKey.generate(), SealingKey.generate()
CANARY = "canary4711"
KEY = make_application_key(CANARY)
ADMIN = "https://ccadmin-test-z1a2.oracleoutsourcing.com"


def settings_of(*keys: SealingKey) -> Settings:
    return Settings(
        redis_url="redis://localhost:6379/0",
        sealing_keys=keys,
        callback_url="https://hooks.example.com/occ/{merchant_id}/{slot}",
    )


def acceptance_of(client: redis.Redis, *keys: SealingKey) -> Acceptance:
    return Acceptance(Records(client), Keyring(keys), settings_of(*keys), PACE)


@pytest.fixture
def acceptance(client: redis.Redis) -> Acceptance:
    return acceptance_of(client, OURS)


def sealed(application_key: str = KEY, merchant_id: str = "m-1", key: SealingKey = OURS) -> str:
    return seal(key.public_key, key.key_id, merchant_id, application_key)


def request(**changes: object) -> dict[str, object]:
    return {"merchant_id": "m-1", "store_url": ADMIN, "application_key": sealed()} | changes


def test_a_good_request_begins_a_run_that_is_due(acceptance: Acceptance, records: Records, client: redis.Redis) -> None:
    accepted = acceptance.accept(request(store_url=f" {ADMIN.upper()}/occs-admin/ "), Door.INBOX)
    assert accepted.started
    connection = accepted.connection
    assert connection == records.load("m-1").connection
    assert (connection.store_url, connection.run, connection.status) == (ADMIN, 1, ConnectionStatus.ONBOARDING)
    assert tuple(connection.slots) == SLOTS
    assert connection.credential.expires_at is not None
    assert client.zscore("occ:due", "m-1") == pytest.approx(connection.due_at, abs=1e-5)
    assert [entry["what"] for entry in records.timeline("m-1")] == ["run_started"]


def test_the_same_request_again_changes_nothing(acceptance: Acceptance, records: Records) -> None:
    first = acceptance.accept(request(), Door.CELERY)
    version = records.load("m-1").version
    for again in (request(), request(store_url=ADMIN + "/occs-admin"), request(application_key=f" {sealed()}\n")):
        assert acceptance.accept(again, Door.INBOX) == Accepted(first.connection, started=False)
    assert records.load("m-1").version == version


def test_of_50_identical_requests_at_once_through_all_doors_one_begins_a_run(
    acceptance: Acceptance, records: Records
) -> None:
    barrier, doors = Barrier(50), tuple(Door)

    def accept(number: int) -> bool:
        barrier.wait()
        return acceptance.accept(request(), doors[number % 3]).started

    with ThreadPoolExecutor(50) as pool:
        assert Counter(pool.map(accept, range(50))) == {True: 1, False: 49}
    assert len(records.timeline("m-1")) == 1
    assert len(records.events()) == 1


def test_a_full_server_takes_a_request_whole_or_not_at_all(acceptance: Acceptance, client: redis.Redis) -> None:
    outcomes = Counter[bool]()
    try:
        for number in range(60):
            name = f"m-{number}"
            # From too little for anything to room enough: somewhere in between it runs out in the middle of accepting.
            client.config_set("maxmemory", max(1, int(client.info("memory")["used_memory"]) + (number - 20) * 200))
            try:
                acceptance.accept(request(merchant_id=name, application_key=sealed(merchant_id=name)), Door.INBOX)
                accepted = True
            except redis.exceptions.OutOfMemoryError:
                accepted = False
            finally:
                client.config_set("maxmemory", 0)
            outcomes[accepted] += 1
            written = {key.split(":")[1] for key in client.scan_iter(f"*:{name}")}
            assert written == ({"connection", "timeline"} if accepted else set())
            assert (client.zscore("occ:due", name) is not None) is accepted
            assert (client.zscore("occ:connections", name) is not None) is accepted
        assert client.xlen("occ:events") == outcomes[True]
    finally:
        client.config_set("maxmemory", 0)
    assert outcomes[True] > 0
    assert outcomes[False] > 0


def test_a_changed_key_begins_a_new_run_and_the_old_ones_work_is_void(acceptance: Acceptance, records: Records) -> None:
    old = acceptance.accept(request(), Door.CELERY).connection
    new = acceptance.accept(request(application_key=sealed(make_application_key())), Door.CELERY)
    assert new.started
    assert new.connection.run == 2
    assert new.connection.credential.fingerprint != old.credential.fingerprint
    late = claim(new.connection, 1, Target(Step.VALIDATE_KEY), "worker", Moment(new.connection.started_at, PACE))
    assert late == Stop("superseded")
    stored = records.load("m-1").sealed_key
    assert stored is not None
    assert Keyring([OURS]).open(stored, "m-1") != KEY


def test_a_changed_store_begins_a_new_run(acceptance: Acceptance) -> None:
    acceptance.accept(request(), Door.CELERY)
    moved = acceptance.accept(request(store_url="https://ccadmin-z9.oracleoutsourcing.com"), Door.CELERY)
    assert (moved.started, moved.connection.run) == (True, 2)


def test_two_different_keys_at_once_are_two_runs_of_which_the_last_stands(
    acceptance: Acceptance, records: Records
) -> None:
    keys = [sealed(make_application_key()) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(lambda key: acceptance.accept(request(application_key=key), Door.INBOX), keys))
    assert sorted(each.connection.run for each in accepted) == list(range(1, 9))
    last = max(accepted, key=lambda each: each.connection.run)
    snapshot = records.load("m-1")
    assert snapshot.connection == last.connection
    assert snapshot.sealed_key == keys[accepted.index(last)], "key and record belong together"


def test_a_key_sealed_anew_replaces_the_one_that_can_no_longer_be_opened(client: redis.Redis, records: Records) -> None:
    """`credential_unusable` tells operators to ask the merchant for the key again; that must lead somewhere."""
    acceptance_of(client, RETIRED).accept(request(application_key=sealed(key=RETIRED)), Door.CELERY)
    acceptance_of(client, OURS).accept(request(), Door.CELERY)
    stored = records.load("m-1").sealed_key
    assert stored is not None
    assert Keyring([OURS]).open(stored, "m-1") == KEY


# --- Wishes ----------------------------------------------------------------------------------------------------------


def proven(records: Records) -> None:
    """The key of m-1 has been exchanged."""

    def decide(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return claims.claim(connection, connection.run, VALIDATE, "worker", Moment(now, PACE))

    def outcome(connection: Connection | None, now: float) -> Change | Stop:
        assert connection is not None
        return outcomes.record(connection, VALIDATE, KeyProven(), Moment(now, PACE))

    records.change("m-1", decide)
    records.change("m-1", outcome)


def test_a_new_key_for_a_connection_that_works_is_kept_beside_the_old_one(
    acceptance: Acceptance, records: Records
) -> None:
    acceptance.accept(request(), Door.CELERY)
    proven(records)
    new = sealed(make_application_key())
    accepted = acceptance.accept(request(application_key=new), Door.CELERY)
    assert (accepted.started, accepted.connection.run) == (True, 1)
    snapshot = records.load("m-1")
    assert snapshot.sealed_key is not None
    assert Keyring([OURS]).open(snapshot.sealed_key, "m-1") == KEY
    assert snapshot.sealed_candidate == new
    assert not acceptance.accept(request(application_key=new), Door.INBOX).started


def test_moving_to_another_store_leaves_a_record_with_the_old_key_that_is_due(
    acceptance: Acceptance, records: Records, client: redis.Redis
) -> None:
    acceptance.accept(request(), Door.CELERY)
    proven(records)
    new = sealed(make_application_key())
    moved = acceptance.accept(
        request(store_url="https://ccadmin-z9.oracleoutsourcing.com", application_key=new), Door.CELERY
    )
    former = records.load("m-1@1")
    assert former.connection == moved.former
    assert former.sealed_key is not None
    assert Keyring([OURS]).open(former.sealed_key, "m-1") == KEY
    assert records.load("m-1").sealed_key == new
    due = client.zrange("occ:due", 0, -1)
    assert set(due) == {"m-1", *(f"m-1@1|{name}" for name in SLOTS)}
    assert records.merchant_ids() == ["m-1", "m-1@1"]


def test_a_disconnect_forgets_the_key_at_once_where_that_is_asked_for(
    acceptance: Acceptance, records: Records, client: redis.Redis
) -> None:
    acceptance.accept(request(), Door.CELERY)
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.CELERY).outcome == "accepted"
    assert records.load("m-1").sealed_key is not None
    assert acceptance.disconnect({"merchant_id": "m-1", "forget": "now"}, Door.CELERY).outcome == "accepted"
    assert {"sealed_key", "sealed_candidate"} & set(client.hkeys("occ:connection:m-1")) == set()
    assert client.zcard("occ:due") == 0
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.CELERY).outcome == "disconnected"


def test_wishes_about_somebody_unknown_are_refused_and_kept(acceptance: Acceptance, records: Records) -> None:
    for number, ask in enumerate((acceptance.revalidate, acceptance.disconnect)):
        with pytest.raises(RequestRefused) as refused:
            ask({"merchant_id": "m-1"}, Door.INBOX)
        assert refused.value.code == "unknown_connection"
        assert len(records.refusals()) == number + 1
        assert records.refusals()[0]["merchant_id"] == "m-1"
    assert records.load("m-1").connection is None


KEYS = [
    Keys(current, candidate, promote, forget_current, forget_candidate)
    for current, candidate in ((None, None), ("c", None), (None, "d"))
    for promote, forget_current, forget_candidate in product((False, True), repeat=3)
    if not (current and forget_current) and not (candidate and forget_candidate)
]


@pytest.mark.parametrize("keys", KEYS, ids=range(len(KEYS)))
@pytest.mark.parametrize("candidate", ["b", None])
def test_the_keys_beside_a_record_are_what_its_snapshot_says(
    records: Records, keys: Keys, candidate: str | None
) -> None:
    """Whoever wrote a change goes on with the snapshot after it, without reading it again."""
    keys = keys if candidate else replace(keys, promote=False)  # there is nothing to promote
    before = Keys(current="a", candidate=candidate)
    records.change("m-1", lambda *_: Change(healthy(), keys=before))
    written = records.change("m-1", lambda *_: Change(healthy(), keys=keys))
    assert not isinstance(written, Stop)
    read = records.load("m-1")
    assert (read.sealed_key, read.sealed_candidate) == (written.snapshot.sealed_key, written.snapshot.sealed_candidate)


# --- Refusals --------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[object, str, str]] = {
    "not an object": ([CANARY], "request", "not_an_object"),
    "text": (json.dumps(request()), "request", "not_an_object"),
    "a field missing": ({"merchant_id": "m-1", "application_key": sealed()}, "store_url", "missing"),
    "an unknown field": (request(password=CANARY), "request", "unknown_field"),
    "a bad merchant id": (request(merchant_id=f"{CANARY} x"), "merchant_id", "bad_merchant_id"),
    "a storefront": (
        request(store_url="https://ccstore-test-z1a2.oracleoutsourcing.com"),
        "store_url",
        "storefront_host",
    ),
    "a strange host": (request(store_url="https://www.shop.example"), "store_url", "host_not_allowed"),
    "a URL with a password": (
        request(store_url=f"https://u:{CANARY}@ccadmin-z1.oracleoutsourcing.com"),
        "store_url",
        "bad_store_url",
    ),
    "an address": (request(store_url=f"https://127.0.0.1/{CANARY}"), "store_url", "bad_store_url"),
    "no URL": (request(store_url="\ud800"), "store_url", "bad_store_url"),
    "a key in the clear": (request(application_key=KEY), "application_key", "not_sealed"),
    "a key in the clear as bearer": (request(application_key=f"Bearer {KEY}"), "application_key", "not_sealed"),
    "a key for another merchant": (
        request(application_key=sealed(merchant_id="m-2")),
        "application_key",
        "sealed_for_another_merchant",
    ),
    "an unknown sealing key": (
        request(application_key=sealed(key=STRANGE)),
        "application_key",
        "unknown_key_id",
    ),
    "a damaged box": (request(application_key=sealed()[:-9] + "AAAAAAAAA"), "application_key", "cannot_be_opened"),
    "no box": (request(application_key=f"sealed.v2.{CANARY}"), "application_key", "malformed"),
    "an oversized key": (request(application_key=CANARY * 2000), "application_key", "too_large"),
    "sealed, but no key": (request(application_key=sealed(CANARY)), "application_key", "bad_application_key"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("door", Door)
def test_a_wrong_request_is_refused_with_field_and_remedy_and_nothing_of_it_is_kept(
    acceptance: Acceptance, records: Records, client: redis.Redis, case: str, door: Door
) -> None:
    wrong, field, code = BAD[case]
    with pytest.raises(RequestRefused) as refused:
        acceptance.accept(wrong, door)
    assert (refused.value.field, refused.value.code) == (field, code)
    assert refused.value.remedy
    (kept,) = records.refusals()
    assert kept.items() >= {"field": field, "code": code, "door": door, "remedy": refused.value.remedy}.items()
    reported = set() if door is Door.COMMAND_LINE else {"occ:events", "occ:numbers"}
    assert set(client.keys()) == {"occ:refused", *reported}, "no record, no due time"
    stored = json.dumps([client.xrange("occ:refused"), records.events()])
    assert [event["data"]["remedy"] for _, event in records.events()] == [refused.value.remedy] * bool(reported)
    for secret in (CANARY, KEY, KEY.split(".")[2]):
        assert secret not in f"{refused.value!s}{refused.value!r}{stored}"


def test_a_refusal_names_the_merchant_when_it_is_one(acceptance: Acceptance, records: Records) -> None:
    for wrong in (request(application_key=KEY), request(merchant_id=["m-1"]), "m-1"):
        with pytest.raises(RequestRefused):
            acceptance.accept(wrong, Door.INBOX)
    assert [kept["merchant_id"] for kept in records.refusals()] == [None, None, "m-1"]


def test_a_refused_request_leaves_the_connection_alone(acceptance: Acceptance, records: Records) -> None:
    acceptance.accept(request(), Door.CELERY)
    before = records.load("m-1").connection
    with pytest.raises(RequestRefused):
        acceptance.accept(request(store_url="https://www.shop.example"), Door.CELERY)
    assert records.load("m-1").connection == before


def test_nothing_of_the_key_is_in_the_database_but_sealed(acceptance: Acceptance, client: redis.Redis) -> None:
    acceptance.accept(request(), Door.CELERY)
    text = "".join(map(str, (client.hgetall("occ:connection:m-1"), client.xrange("occ:timeline:m-1"))))
    text += str(client.xrange("occ:events"))
    for part in (KEY, *KEY.split(".")[1:], CANARY):
        assert part not in text


def test_accepted_means_on_disk(acceptance: Acceptance, client: redis.Redis) -> None:
    stats = client.info("commandstats").get("cmdstat_waitaof", {"calls": 0})
    acceptance.accept(request(), Door.CELERY)
    assert client.info("commandstats")["cmdstat_waitaof"]["calls"] == stats["calls"] + 1


def test_an_entry_of_the_inbox_that_comes_again_undoes_nothing_that_was_asked_for_since(
    acceptance: Acceptance, records: Records
) -> None:
    acceptance.accept(request(), Door.INBOX, reference="1-0")
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="2-0").outcome == "accepted"
    assert acceptance.accept(request(), Door.INBOX, reference="3-0").started
    came_back = records.load("m-1").connection
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="2-0").outcome == "repeated"
    assert not acceptance.accept(request(), Door.INBOX, reference="1-0").started
    assert records.load("m-1").connection == came_back
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="4-0").outcome == "accepted"
    assert not acceptance.accept(request(), Door.INBOX, reference="3-0").started, "not even one that would begin a run"
    for number in range(10, 30):
        acceptance.accept(request(), Door.INBOX, reference=f"{number}-0")
        acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference=f"{number}-1")
    connection = records.load("m-1").connection
    assert connection is not None
    assert len(connection.taken) == 4


def test_of_two_entries_that_are_carried_out_in_the_wrong_order_the_later_one_stands(
    acceptance: Acceptance, records: Records
) -> None:
    acceptance.accept(request(), Door.INBOX, reference="1000-0")
    assert not acceptance.accept(request(), Door.INBOX, reference="1002-1").started, "it is so already"
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="1002-0").outcome == "repeated"
    connection = records.load("m-1").connection
    assert connection is not None
    assert connection.disconnection is None
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="1003-0").outcome == "accepted"
    assert not acceptance.accept(
        request(application_key=sealed(make_application_key("other"))), Door.INBOX, reference="1002-5"
    ).started
    late = records.load("m-1").connection
    assert late is not None
    assert late.disconnection is not None


def test_an_entry_that_seems_much_older_than_the_last_one_is_taken(acceptance: Acceptance) -> None:
    acceptance.accept(request(), Door.INBOX, reference="9000000-0")
    assert acceptance.disconnect({"merchant_id": "m-1"}, Door.INBOX, reference="1000-0").outcome == "accepted"


def test_a_producer_who_names_its_celery_messages_alike_is_heard_each_time(acceptance: Acceptance) -> None:
    for _ in range(2):
        assert acceptance.accept(request(), Door.CELERY, reference="connect-m-1").started
        assert acceptance.disconnect({"merchant_id": "m-1"}, Door.CELERY, reference="leave-m-1").outcome == "accepted"
