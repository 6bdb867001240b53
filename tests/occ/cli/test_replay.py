"""`occ replay` with simulated stores: what they gave up delivering to us is asked for, and nobody else's."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from integrations.connections.change import Change, Note
from integrations.connections.record import Connection, GivenUp, Target
from integrations.connections.records import Records
from integrations.connections.status import iso
from occ.simulator import SimulatedStore, Simulator
from tests.integrations.oracle_commerce.fakes import slot
from tests.integrations.oracle_commerce.recorded import Worker
from tests.occ.cli.conftest import Ended, Occ

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("installation")]

THEIRS = "https://oms.example.net/in"
DAY = 86400.0


def ours(name: str) -> str:
    return f"https://hooks.example.com/occ/m-1/{name}"


@pytest.fixture
def store() -> Iterator[SimulatedStore]:
    with Simulator() as simulator:
        yield simulator.add("m-1")


@pytest.fixture
def connected(store: SimulatedStore, occ_process: Occ, worker: Worker) -> SimulatedStore:
    """m-1, with our callback URL in each slot of the record."""
    key = store.application_key.encode()
    arguments = ["connect", "m-1", "--store-url", store.url, "--application-key-file", "-"]
    assert occ_process(*arguments, stdin=key).exit_code == 0
    worker.finish()
    return store


def slots_of(ended: Ended) -> dict[str, dict[str, Any]]:
    slots: dict[str, dict[str, Any]] = ended.object["slots"]
    return slots


def test_what_is_missing_for_us_alone_is_asked_for_once(connected: SimulatedStore, occ: Occ) -> None:
    for _ in range(3):
        connected.give_up_delivery("order-submit", [ours("order-submit")])
    connected.give_up_delivery("order-submit", [ours("order-submit"), THEIRS])
    connected.give_up_delivery("order-update", [THEIRS])
    ended = occ("replay", "m-1", "--json")
    assert (ended.exit_code, ended.object["outcome"]) == (0, "asked")
    told = slots_of(ended)["order-submit"]
    assert (told["asked"], told["left_to_others"], told["left_over"]) == (3, 1, 0)
    assert slots_of(ended)["order-update"]["asked"] == 0
    again = occ("replay", "m-1")
    assert again.stdout == "m-1: order-submit: 1 not requested: another receiver missed it too\n"
    assert connected.summary()["messages_resent"] == 3


def test_the_calls_of_a_replay_are_in_the_metrics(
    connected: SimulatedStore, occ: Occ, redis_client: redis.Redis
) -> None:
    connected.give_up_delivery("order-submit", [ours("order-submit")])
    connected.reset_counts()
    assert occ("replay", "m-1").exit_code == 0
    stored: Any = redis_client.hgetall("occ:metrics")
    counted = {name.decode(): int(number) for name, number in stored.items()}
    calls = {name.split("|")[1]: number for name, number in counted.items() if name.startswith("occ_calls_total|")}
    assert sum(calls.values()) == sum(connected.calls.endpoints.values()) > 1
    assert calls["login"] == 1


def test_nothing_missing_is_told_as_such(connected: SimulatedStore, occ: Occ) -> None:
    assert occ("replay", "m-1").stdout == "m-1: no missed events\n"


def test_a_replay_has_its_line_in_the_timeline(connected: SimulatedStore, occ: Occ, records: Records) -> None:
    connected.give_up_delivery("order-submit", [ours("order-submit")])
    before = records.load("m-1").connection
    occ("replay", "m-1")
    last = records.timeline("m-1")[-1]
    assert (last["what"], last["requested"]) == ("replayed", 1)
    assert records.load("m-1").connection == before
    assert occ("timeline", "m-1").stdout.splitlines()[-1].endswith("replayed  requested=1")
    occ("replay", "m-1", "--dry-run")
    assert records.timeline("m-1")[-1] == last


def test_a_time_reads_as_it_is_typed_and_a_summary_in_words(connected: SimulatedStore, occ: Occ) -> None:
    ended = occ("replay", "m-1", "--file", "-", "--since", "2d", stdin=b"m-1\n")
    assert ended.stderr == "replay --since 2d: 1 had nothing to request\n"


def test_a_store_without_a_log_is_no_failure(connected: SimulatedStore, occ: Occ) -> None:
    connected.fail("failed_messages", {"fault": "not_found", "times": "always"})
    ended = occ("replay", "m-1")
    assert (ended.exit_code, ended.stdout) == (0, "m-1: no failed-delivery log available\n")


def test_what_the_store_does_not_take_now_is_left_over(connected: SimulatedStore, occ: Occ) -> None:
    for _ in range(3):
        connected.give_up_delivery("shipment-create", [ours("shipment-create")])
    connected.fail("resend", 429, 429, 429)
    ended = occ("replay", "m-1")
    assert ended.stdout == "m-1: shipment-create: 3 left for another replay\n"


@pytest.mark.parametrize(
    ("trouble", "code", "sentence"),
    [
        ({"faults": {"*": [{"fault": "status", "status": 503, "times": "always"}]}}, "store_error", "an error of its"),
        ({"revoke_keys": True, "kill_tokens": True}, "key_doubted", "run `occ revalidate m-1`"),
        ({"reachable": False}, "store_unreachable", "The store could not be reached."),
    ],
)
def test_trouble_at_the_store_is_one_sentence(
    *, trouble: dict[str, object], code: str, sentence: str, connected: SimulatedStore, occ: Occ, records: Records
) -> None:
    connected.change(**trouble)
    ended = occ("replay", "m-1", "--json")
    assert (ended.exit_code, ended.object["outcome"], ended.error["code"]) == (1, "failed", code)
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    snapshot = records.load("m-1")
    assert snapshot.connection is not None
    assert snapshot.connection.status == "active"  # a verdict is nothing that a replay gives


def test_one_store_in_trouble_stops_no_other(connected: SimulatedStore, occ: Occ) -> None:
    ended = occ("replay", "nobody", "m-1")
    assert (ended.exit_code, ended.stdout) == (1, "m-1: no missed events\n")


def test_it_goes_back_to_when_all_was_well_before_the_repair(
    connected: SimulatedStore, occ: Occ, records: Records, worker: Worker
) -> None:
    """Not to the repair itself: what was missed was missed before it."""
    now = time.time()
    was_repaired(records, slot("order-submit"), now - DAY, in_order_before=now - 3 * DAY)
    ended = occ("replay", "m-1", "--json", "--dry-run")
    since = slots_of(ended)["order-submit"]["since"]
    assert since == iso(round(now - 3 * DAY, 3))
    connection = records.load("m-1").connection
    assert connection is not None
    assert slots_of(ended)["order-update"]["since"] == iso(connection.slots["order-update"].in_order_at)
    week = slots_of(occ("replay", "m-1", "--since", "7d", "--json", "--dry-run"))
    assert len({told["since"] for told in week.values()}) == 1
    assert str(week["order-submit"]["since"]) < str(since)


def test_it_goes_back_to_the_first_delivery_that_is_known_to_have_been_given_up(
    connected: SimulatedStore, occ: Occ, records: Records
) -> None:
    first = round(time.time() - 2 * DAY, 3)

    def found(connection: Connection | None, _: float) -> Change:
        assert connection is not None
        failing = replace(connection.slots["order-submit"], given_up=GivenUp(2, first, first + 60, "HTTP 502"))
        return Change(replace(connection, slots={**connection.slots, "order-submit": failing}))

    records.change("m-1", found)
    told = slots_of(occ("replay", "m-1", "--json", "--dry-run"))
    assert told["order-submit"]["since"] == iso(first)
    assert told["order-update"]["since"] > told["order-submit"]["since"]


def test_who_is_leaving_is_not_replayed(connected: SimulatedStore, occ: Occ, occ_process: Occ) -> None:
    occ_process("disconnect", "m-1", "--yes")
    assert occ("replay", "m-1").stdout == "m-1: disconnected, so nothing is requested\n"
    assert connected.summary()["calls"] == 0


def test_where_we_never_were_nothing_is_missing(occ: Occ, worker: Worker) -> None:
    worker.begin("m-1")
    assert occ("replay", "m-1").stdout == "m-1: our callback URL has not been in any slot yet\n"


def was_repaired(records: Records, target: Target, at: float, *, in_order_before: float) -> None:
    """A repair of the past, as the timeline tells it."""
    details = {"at": round(at, 3), "in_order_before": round(in_order_before, 3)}

    def decide(connection: Connection | None, _: float) -> Change:
        assert connection is not None
        return Change(replace(connection, updated_at=at), (Note("slot_repaired", target, details=details),))

    records.change("m-1", decide)


def test_programs_are_told_slot_by_slot(connected: SimulatedStore, occ: Occ) -> None:
    told = [json.loads(line) for line in occ("replay", "m-1", "--json").stdout.splitlines()]
    assert set(told[0]["slots"]) == {"order-submit", "order-update", "shipment-create", "shipment-update"}
    assert set(told[0]["slots"]["order-submit"]) == {"since", "asked", "left_to_others", "left_over", "truncated"}
