"""What is reported is noted, and never changes what is registered."""

import random
import string
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.connections.change import Change
from integrations.connections.record import Connection, Disconnection
from integrations.connections.records import Records
from integrations.silence.heard import LISTENING, HeardSlots, Report, Taken, heard_key
from occ.local.server import EmbeddedServer
from tests.examples import examples
from tests.integrations.connections.test_record import healthy
from tests.integrations.oracle_commerce.fakes import SLOTS

pytestmark = pytest.mark.server

SLOT = SLOTS[0]


@pytest.fixture
def heard(records: Records) -> HeardSlots:
    return HeardSlots(records, SLOTS)


@pytest.fixture(scope="module")
def module_records(server: EmbeddedServer) -> Iterator[Records]:
    """For laws, which look at many examples; each begins with an empty server."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield Records(client)


def connected(records: Records, merchant_id: str = "m-1", **changes: object) -> Connection:
    """A connection in order, whose run has begun an hour ago."""
    began = now(records) - 3600
    connection = replace(healthy(started_at=began, updated_at=began, **changes), merchant_id=merchant_id)
    records.change(merchant_id, lambda _, _now: Change(connection))
    return connection


def now(records: Records) -> float:
    seconds, microseconds = records.redis.time()
    return float(seconds) + float(microseconds) / 1e6


def stored(records: Records, merchant_id: str = "m-1") -> Connection:
    connection = records.load(merchant_id).connection
    assert connection is not None
    return connection


def events(records: Records, kind: str = "occ.slot.heard") -> list[dict[str, object]]:
    return [event["data"] for _, event in records.events() if event["type"] == kind]


def as_registered(connection: Connection) -> Connection:
    """Without what reports may change."""
    slots = {name: replace(slot, heard_at=None, silence=None) for name, slot in connection.slots.items()}
    return replace(connection, slots=slots)


def test_the_first_delivery_after_a_connect_is_told_once(records: Records, heard: HeardSlots) -> None:
    connected(records)
    at = int(now(records)) - 5
    assert heard.take([Report("m-1", SLOT, at)]) == Taken(taken=1)
    assert stored(records).slots[SLOT].heard_at == at
    heard.take([Report("m-1", SLOT, at + 1), Report("m-1", SLOT), Report("m-1", SLOT, at)])
    ((told),) = events(records)
    assert told["slot"] == SLOT
    assert told["silent_since"] is None
    assert [line["what"] for line in records.timeline("m-1")] == ["slot_heard"]


def test_each_slot_is_told_of_by_itself_and_again_in_the_next_run(records: Records, heard: HeardSlots) -> None:
    connected(records)
    heard.take([Report("m-1", slot) for slot in SLOTS])
    assert [told["slot"] for told in events(records)] == list(SLOTS)
    again = {name: replace(slot, heard_at=None) for name, slot in stored(records).slots.items()}
    records.change("m-1", lambda it, at: Change(replace(it or healthy(), run=2, started_at=at, slots=again)))
    heard.take([Report("m-1", SLOT)])
    assert [told["run"] for told in events(records)] == [1, 1, 1, 1, 2]


def test_a_delivery_from_before_the_run_proves_nothing(records: Records, heard: HeardSlots) -> None:
    began = connected(records).started_at
    heard.take([Report("m-1", SLOT, began - 3600)])
    assert stored(records).slots[SLOT].heard_at is None
    heard.take([Report("m-1", SLOT, began + 60)])
    assert len(events(records)) == 1


def test_many_reports_cost_the_record_nothing(records: Records, heard: HeardSlots) -> None:
    connected(records)
    heard.take([Report("m-1", SLOT)])
    version = records.load("m-1").version
    for ago in range(50):
        heard.take([Report("m-1", SLOT, now(records) - ago)])
    assert records.load("m-1").version == version


@pytest.mark.parametrize(
    "report",
    [Report("nobody", SLOT), Report("m-1", "no-such-slot"), Report("m-1@1", SLOT)],
    ids=["merchant", "slot", "store that was left"],
)
def test_who_is_not_known_leaves_nothing_behind(
    records: Records, heard: HeardSlots, client: redis.Redis, report: Report
) -> None:
    connected(records)
    before = sorted(client.keys("*"))
    assert heard.take([report]) == Taken(unknown=1)
    assert sorted(client.keys("*")) == before


def test_a_merchant_who_has_left_is_not_listened_to(records: Records, heard: HeardSlots, client: redis.Redis) -> None:
    connected(records, disconnection=Disconnection(0, 0))
    assert heard.take([Report("m-1", SLOT)]) == Taken(unknown=1)
    assert not client.exists(heard_key("m-1"))


def test_reports_at_once_from_many_workers_are_all_noted(records: Records, heard: HeardSlots) -> None:
    connected(records)
    base = int(now(records)) - 1000

    def report(number: int) -> Taken:
        return heard.take([Report("m-1", SLOT, base + number)])

    order = list(range(200))
    random.Random(1).shuffle(order)  # noqa: S311 - a fixed order
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(report, order))
    assert sum(one.taken for one in taken) == 200
    assert heard.rhythms(["m-1"])[0][SLOT].last == base + 199
    assert len(events(records)) == 1


_anything = st.builds(
    Report,
    st.sampled_from(("m-1", "m-2", "nobody")),
    st.sampled_from((*SLOTS, "forged")),
    st.none() | st.floats(0, 1e11),
)


@given(batches=st.lists(st.lists(_anything, max_size=8), max_size=6))
@settings(max_examples=examples(40))
def test_no_report_ever_changes_what_is_registered_or_makes_work(
    module_records: Records, batches: Sequence[Sequence[Report]]
) -> None:
    records = module_records
    records.redis.flushall()
    before = [connected(records, merchant_id) for merchant_id in ("m-1", "m-2")]
    due = records.redis.zrange("occ:due", 0, -1, withscores=True)
    heard = HeardSlots(records, SLOTS)
    for batch in batches:
        heard.take(batch)
        heard.take(batch)
    assert [as_registered(stored(records, one.merchant_id)) for one in before] == before
    assert [stored(records, one.merchant_id).status for one in before] == [one.status for one in before]
    assert records.redis.zrange("occ:due", 0, -1, withscores=True) == due
    for rhythms in heard.rhythms(["m-1", "m-2"]):
        assert all(rhythm.last <= now(records) for rhythm in rhythms.values())
    assert len(events(records)) <= 2 * len(SLOTS)


def test_all_of_it_takes_at_most_200_bytes_a_slot(records: Records, client: redis.Redis) -> None:
    """With a rhythm as long as they get, four slots to a merchant."""
    merchants = 500
    dice = random.Random(1)  # noqa: S311 - the same names each time
    names = ["".join(dice.choices(string.ascii_lowercase, k=12)) for _ in range(merchants)]
    for name in names:
        connected(records, name)
    heard = HeardSlots(records, SLOTS)
    used = client.info("memory")["used_memory"]
    heard.take([Report(name, slot) for name in names for slot in SLOTS])
    for name in names:
        for slot in SLOTS:
            rhythm = heard.rhythms([name])[0][slot]
            long = replace(rhythm, count=99_999_999, count_before=10, since=rhythm.last - 9_999_999, longest=3_628_799,
                           longest_before=3_628_798, run=9999)  # fmt: skip
            client.hset(heard_key(name), slot, long.text())
        client.zadd(LISTENING, {name: 1_800_000_000.123456})
    client.xtrim("occ:events", 0)
    for name in names:
        client.delete(f"occ:timeline:{name}")
    grown = (client.info("memory")["used_memory"] - used) / merchants / len(SLOTS)
    assert grown <= 200, grown
